"""The one connection type: AMP between two ends, either of which may call the other.

`Connection` is what stock AMP is not: it bounds what a stranger can make it store, keeps within
the credits that the other end announced and holds the other end to its own, lets operations
take turns, notices a dead or stuck peer, and never drops the connection for an exception in a
responder. It knows nothing of TLS (`ampgrid.wire.gate`) nor of who may connect
(`ampgrid.wire.network`); what it answers is its locator's business.

Flow: a call beyond the credits waits at the sender (`ampgrid.wire.calls`); if one arrives
nevertheless, that is an abort (`ampgrid.wire.serving`). So reading never pauses, and answers
can always be taken.

Spec: ``docs/specs/wire.md``, "Calls, answers, credits".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure
from zope.interface import implementer

from ampgrid.commands.session import Ping
from ampgrid.errors import AmpgridError, NotConnectedError, RemoteProtocolError
from ampgrid.ports import Clock, Patience
from ampgrid.wire import boxes
from ampgrid.wire.calls import Calls, local_error
from ampgrid.wire.limits import Limits
from ampgrid.wire.outbound import SMALL_BYTES
from ampgrid.wire.serving import Serving

_log = Logger()


@implementer(IPushProducer)
class Connection(amp.BinaryBoxProtocol):
    """One end of a connection that carries AMP boxes.

    Args:
        clock: time and timers.
        locator: finds the responder for a Command; may be replaced with `serve`.
        limits: what this end bears.

    Attributes:
        peer_id: node id of the other end (20 bytes), empty over the Unix socket.
        peer_services, peer_nickname, peer_software: what it told in Hello.
        dialled: whether this end dialled.
        on_abort: told the reason of an abort on this end; logs it unless replaced.
    """

    transport: Any

    def __init__(
        self,
        clock: Clock,
        locator: amp.CommandLocator | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(self)
        self.peer_id = b""
        self.peer_services: frozenset[str] = frozenset()
        self.peer_nickname = ""
        self.peer_software = ""
        self.dialled = False
        self.on_abort: Callable[[str], None] = _log_abort
        self.limits = limits or Limits()
        self._clock = clock
        self._calls = Calls(clock, self.limits.calls, self.limits.bytes)
        self._serving = Serving(clock, self.limits, self._pump)
        self._serving.use(locator)
        self._parser = boxes.BoxParser(
            self._serving.knows, self._calls.expects, self.limits.box_bytes
        )
        self._lost: str | None = None
        self._open = False
        self._lost_callbacks: list[Callable[[], None]] = []
        self._answered_last = False
        self._paused = True
        self._pumping = self._taking = False
        self._closing = False
        self._timers: list[Any] = []
        self._heard_at = self._moved_at = self._sent_at = self._pinged_at = clock.seconds()

    # The life of a connection.

    @property
    def connected(self) -> bool:  # type: ignore[override]
        """True from the answered Hello (`opened`) to the loss of the connection."""
        return self._open and self._lost is None

    @property
    def alive(self) -> bool:
        """True until the connection is lost or aborted, whether Hello is done or not."""
        return self._lost is None

    def serve(self, locator: amp.CommandLocator) -> None:
        """Answer the Commands of ``locator`` from now on."""
        self._serving.use(locator)

    def take_at_most(self, box_bytes: int) -> None:
        """Bound the boxes of the other end to that many bytes from now on."""
        self._parser.most_bytes = box_bytes

    def opened(self, calls: int, size: int) -> None:
        """Note that Hello is done; the other end takes so many calls and bytes at once."""
        self._open = True
        self._calls.allow(calls, size)
        self.take_at_most(self.limits.box_bytes)
        self._pump()

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        """Begin; the transport tells when it wants no more."""
        self.transport = transport
        self._paused = False
        now = self._clock.seconds()
        self._heard_at = self._moved_at = self._sent_at = self._pinged_at = now
        transport.registerProducer(self, True)
        self._timers.append(self._clock.callLater(self.limits.look_seconds, self._look))
        self.connectionMade()

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: N802
        """End: every call that waits for an answer fails."""
        if self._lost is None:
            self._lost = reason.getErrorMessage() if reason is not None else "closed"
        self._paused = True
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._timers.clear()
        self._serving.stop()
        self._calls.fail_all(NotConnectedError("the connection was lost"))
        callbacks, self._lost_callbacks = self._lost_callbacks, []
        for function in callbacks:
            try:
                function()
            except Exception:  # noqa: BLE001 - one callback's fault is not the next one's
                _log.failure("a callback for a lost connection failed")

    def when_lost(self, function: Callable[[], None]) -> None:
        """Call ``function`` once the connection is lost (at once if it already is)."""
        if self._lost is None:
            self._lost_callbacks.append(function)
        else:
            function()

    def abort(self, reason: str) -> None:
        """End the connection now; ``reason`` goes to the log, never to the peer."""
        if self._lost is None:
            self._lost = reason
            self._paused = True
            self._serving.stop()
            self.on_abort(reason)
            if self.transport is not None:
                self.transport.abortConnection()

    def close(self) -> None:
        """End the connection in order: what is queued goes out, for a few seconds at most.

        What is asked from now on is not answered any more, on either end.
        """
        if self._lost is None and not self._closing:
            self._closing = True
            delay = self.limits.close_seconds
            self._timers.append(self._clock.callLater(delay, self.abort, "closing took too long"))
            self._pump()

    # Bytes in.

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take bytes; a breach of the protocol aborts the connection."""
        if self._lost is not None:
            return
        self._heard_at = self._clock.seconds()
        # What the boxes give rise to goes out together.
        self._taking = True
        try:
            for box, size in self._parser.feed(data):
                self._box_received(box, size)
                if not self.alive:
                    return
        except RemoteProtocolError as error:
            self.abort(str(error))
        finally:
            self._taking = False
        self._pump()

    def _box_received(self, box: boxes.Box, size: int) -> None:
        if boxes.ASK not in box:
            self._calls.settle(box)
        elif not self._closing:
            self._serving.take(box, size)

    # Calls that this end makes.

    async def call(
        self,
        command: type[amp.Command],
        /,
        *,
        operation: Hashable = None,
        deadline: float | Patience | None = 60.0,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Send one Command and return its answer (see `ampgrid.ports.Connection`).

        A Command with an argument of its own that is called ``operation`` gets it too.
        """
        if self._lost is not None or self._closing or self.transport is None:
            raise NotConnectedError("there is no connection to that peer")
        if operation is not None and _names_operation(command):
            arguments["operation"] = operation
        box = command.makeArguments(arguments, self)
        asking = self._calls.ask(command.commandName, box, operation, deadline)
        self._pump()
        try:
            answer = await asking
        except amp.RemoteAmpError as error:
            raise local_error(command, error) from None
        try:
            return cast("dict[str, Any]", command.parseResponse(answer, self))
        except Exception:  # noqa: BLE001 - whatever parsing raises is the peer's fault
            self.abort("a malformed answer")
            raise RemoteProtocolError("the peer's answer is malformed") from None

    def callRemote(  # noqa: N802
        self, command: type[amp.Command], /, **arguments: Any
    ) -> Deferred[dict[str, Any]]:
        """Send one Command, in the shape of stock AMP."""
        return Deferred.fromCoroutine(self.call(command, **arguments))

    # Bytes out.

    def pauseProducing(self) -> None:  # noqa: N802
        """The transport wants no more for now."""
        self._paused = True

    def resumeProducing(self) -> None:  # noqa: N802
        """The transport wants more."""
        self._paused = False
        self._moved_at = self._clock.seconds()
        self._pump()

    def stopProducing(self) -> None:  # noqa: N802
        """The transport is gone."""
        self._paused = True

    def _pump(self) -> None:
        if self._pumping or self._taking:
            return
        self._pumping = True
        try:
            while not self._paused and self._lost is None:
                data = self._next_boxes()
                if not data:
                    if self._closing:
                        self._finish_closing()
                    break
                self._moved_at = self._sent_at = self._clock.seconds()
                self.transport.write(data)
        finally:
            self._pumping = False

    def _next_boxes(self) -> bytes:
        """Return what is to be sent next, small boxes together; nothing if nothing waits."""
        first = self._next_box()
        if first is None or len(first) > SMALL_BYTES:
            return first or b""
        found, size = [first], len(first)
        while size <= SMALL_BYTES and (box := self._next_box()) is not None:
            found.append(box)
            size += len(box)
        return first if len(found) == 1 else b"".join(found)

    def _next_box(self) -> bytes | None:
        """Return what is to be sent next: answers and calls take turns."""
        can_call = self._calls.can_send()
        if self._serving.can_send() and not (can_call and self._answered_last):
            self._answered_last = True
            return self._serving.send()
        self._answered_last = False
        return self._calls.send() if can_call else None

    def _finish_closing(self) -> None:
        self._paused = True
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    # Silence and progress.

    def _look(self) -> None:
        """Look at silence and progress; whatever is overdue is dealt with at its second."""
        now = self._clock.seconds()
        limits = self.limits
        owed_since = self._calls.owed_since()
        dead_at = self._heard_at + limits.dead_seconds
        stuck_at = self._moved_at + limits.stuck_seconds if self._paused else float("inf")
        owed_at = float("inf") if owed_since is None else owed_since + limits.stuck_seconds
        # An end that only reads says something too: to the other end it would seem dead.
        quiet_since = max(min(self._heard_at, self._sent_at), self._pinged_at)
        ping_at = quiet_since + limits.ping_seconds
        if now >= dead_at:
            self.abort("no byte came for too long")
        elif now >= stuck_at:
            self.abort("the peer takes nothing of what is queued")
        elif now >= owed_at:
            self.abort("the peer left a call unanswered for too long")
        if self._lost is not None:
            return
        if not self.connected or self._closing:
            ping_at = float("inf")
        elif now >= ping_at:
            self._ping()
            ping_at = float("inf")
        due = min(dead_at, stuck_at, owed_at, ping_at, now + limits.look_seconds)
        self._timers = [timer for timer in self._timers if timer.active()]
        self._timers.append(self._clock.callLater(due - now, self._look))

    def _ping(self) -> None:
        self._pinged_at = self._clock.seconds()
        pinging = Deferred.fromCoroutine(self.call(Ping, deadline=None))
        # No answer shows as silence; nothing else is to be done about it here.
        pinging.addErrback(lambda failure: failure.trap(AmpgridError))


@cache
def _names_operation(command: type[amp.Command]) -> bool:
    return any(name == b"operation" for name, _ in command.arguments)


def _log_abort(reason: str) -> None:
    _log.info("connection aborted: {reason}", reason=reason)
