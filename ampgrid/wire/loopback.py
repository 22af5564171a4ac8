"""A connection of a node to itself: calls go straight to the responder.

The arguments and answers pass through the Command's own types, and errors through its error map,
so whatever would be refused on the wire is refused here; no bytes are copied.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from ampgrid.commands import errors as e
from ampgrid.errors import AmpgridError, CallTimeoutError, NotConnectedError
from ampgrid.ports import Clock, Patience
from ampgrid.wire import boxes
from ampgrid.wire.calls import local_error

_log = Logger()


def _seconds(deadline: float | Patience | None) -> float | None:
    return deadline.seconds if isinstance(deadline, Patience) else deadline


class LoopbackConnection:
    """A `ampgrid.ports.Connection` whose other end is this node.

    Args:
        node_id: this node's id, 20 bytes.
        clock: for the deadlines of calls; without one they wait for ever.
    """

    def __init__(self, node_id: bytes, clock: Clock | None = None) -> None:
        self.peer_id = node_id
        self.connected = True
        self._clock = clock
        self._locators: list[amp.CommandLocator] = []
        self._lost: list[Callable[[], None]] = []
        self._calls: dict[Deferred[boxes.Box], None] = {}

    def serve(self, locator: amp.CommandLocator) -> None:
        """Answer the Commands of ``locator`` as well."""
        self._locators.append(locator)

    async def call(
        self,
        command: type[amp.Command],
        /,
        *,
        operation: Hashable = None,  # noqa: ARG002 - calls are served in their order anyway
        deadline: float | Patience | None = 60.0,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Call the responder (see `ampgrid.ports.Connection`)."""
        if not self.connected:
            raise NotConnectedError("this node is stopping")
        found = (one.locateResponder(command.commandName) for one in self._locators)
        responder = next((one for one in found if one is not None), None)
        if responder is None:
            raise e.NotAllowedError("this node does not answer this Command")
        made = command.makeArguments(arguments, self)
        # A view is made bytes of where boxes are.
        box = {key: bytes(value) for key, value in made.items()}
        try:
            # As on the wire: what is raised here comes from parsing the arguments.
            answering = responder(box)
        except Exception as error:
            raise e.BadArgumentError("malformed arguments") from error
        try:
            answer = await self._answer(maybeDeferred(lambda: answering), _seconds(deadline))
        except AmpgridError:
            raise
        except amp.RemoteAmpError as error:
            raise local_error(command, error) from None
        except Exception as error:
            _log.failure("a responder of {name!r} failed", name=command.commandName)
            raise e.InternalWireError("see the log of this node") from error
        return cast("dict[str, Any]", command.parseResponse(answer, self))

    def _answer(self, answering: Deferred[Any], deadline: float | None) -> Deferred[boxes.Box]:
        """Return what is answered, or the error of what comes before: the deadline, the end."""
        result: Deferred[boxes.Box] = Deferred()
        self._calls[result] = None

        def settle(outcome: Any) -> None:
            if result in self._calls:
                del self._calls[result]
                if timer is not None and timer.active():
                    timer.cancel()
                result.callback(outcome)
            elif isinstance(outcome, Failure) and outcome.check(AmpgridError) is None:
                _log.failure("a responder failed after its call had ended", outcome)

        timer: Any = None
        if self._clock is not None and deadline is not None:
            late = Failure(CallTimeoutError("this node did not answer itself in time"))
            timer = self._clock.callLater(deadline, settle, late)
        answering.addBoth(settle)
        return result

    def when_lost(self, function: Callable[[], None]) -> None:
        """Call ``function`` when the node stops (at once if it already has)."""
        if self.connected:
            self._lost.append(function)
        else:
            function()

    def abort(self, reason: str) -> None:  # noqa: ARG002
        """End: what waits for an answer fails, open buckets are deleted."""
        self.connected = False
        calls, self._calls = self._calls, {}
        for result in calls:
            result.errback(Failure(NotConnectedError("this node is stopping")))
        callbacks, self._lost = self._lost, []
        for function in callbacks:
            function()
