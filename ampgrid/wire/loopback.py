"""A connection of a node to itself: calls go straight to the responder.

The arguments and answers pass through the Command's own types, so whatever would be refused on
the wire is refused here; no bytes are copied.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.protocols import amp

from ampgrid.errors import NotConnectedError
from ampgrid.wire.connection import known_errors


class LoopbackConnection:
    """A `ampgrid.ports.Connection` whose other end is this node.

    Args:
        node_id: this node's id, 20 bytes.
    """

    def __init__(self, node_id: bytes) -> None:
        self.peer_id = node_id
        self.connected = True
        self._locator: amp.CommandLocator = amp.CommandLocator()
        self._lost: list[Callable[[], None]] = []

    def serve(self, locator: amp.CommandLocator) -> None:
        """Answer the Commands of ``locator``."""
        self._locator = locator

    async def call(
        self,
        command: type[amp.Command],
        /,
        *,
        operation: Hashable = None,  # noqa: ARG002
        deadline: float | None = 60.0,  # noqa: ARG002
        **arguments: Any,
    ) -> dict[str, Any]:
        """Call the responder (see `ampgrid.ports.Connection`)."""
        if not self.connected:
            raise NotConnectedError("this node is stopping")
        responder = self._locator.locateResponder(command.commandName)
        assert responder is not None, "a node calls itself only for what it serves"
        box = command.makeArguments(arguments, self)
        answering: Deferred[Any] = maybeDeferred(responder, box)
        try:
            answer = await answering
        except amp.RemoteAmpError as error:
            known = known_errors(command).get(error.errorCode)
            if known is None:
                raise
            raise known(error.description) from None
        return cast("dict[str, Any]", command.parseResponse(answer, self))

    def when_lost(self, function: Callable[[], None]) -> None:
        """Call ``function`` when the node stops."""
        self._lost.append(function)

    def abort(self, reason: str) -> None:  # noqa: ARG002
        """End: open buckets are deleted."""
        self.connected = False
        callbacks, self._lost = self._lost, []
        for function in callbacks:
            function()
