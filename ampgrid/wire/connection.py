"""The one connection type: AMP between two ends, either of which may call the other.

`Connection` is what stock AMP is not: it bounds what a stranger can make it store, keeps within
the credits that the other end announced and holds the other end to its own, lets operations
take turns, notices a dead or stuck peer, and never drops the connection for an exception in a
responder. It knows nothing of TLS (`ampgrid.wire.gate`) nor of who may connect
(`ampgrid.wire.network`); what it answers is its locator's business.

Flow: a call is in flight from the moment it is sent until its answer is here; on the answering
end, until the answer has been handed to a transport that wants it. A call beyond the credits
waits at the sender; if one arrives nevertheless, that is an abort. So reading never pauses.

Spec: ``docs/specs/wire.md``, "Calls, answers, credits".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure
from zope.interface import implementer

from ampgrid.commands import errors as e
from ampgrid.commands.session import Ping
from ampgrid.errors import AmpgridError, CallTimeoutError, NotConnectedError, RemoteProtocolError
from ampgrid.ports import Clock
from ampgrid.wire import boxes
from ampgrid.wire.hello import MAX_BYTES, MAX_CALLS
from ampgrid.wire.outbound import OutboundQueue

_log = Logger()


@attrs.frozen
class Limits:
    """What one end bears from the other, and how patient it is.

    Attributes:
        calls: calls of the other end in flight.
        bytes: bytes of those calls.
        box_bytes: the largest box.
        ping_seconds: silence after which a Ping is sent.
        dead_seconds: silence after which the connection is dead.
        stuck_seconds: time without any progress of what is queued, after which it is stuck.
        close_seconds: time that an orderly close may take before it is an abort.
        look_seconds: how often silence and progress are looked at.
    """

    calls: int = MAX_CALLS
    bytes: int = MAX_BYTES
    box_bytes: int = boxes.MAX_BOX_BYTES
    ping_seconds: float = 60.0
    dead_seconds: float = 90.0
    stuck_seconds: float = 60.0
    close_seconds: float = 5.0
    look_seconds: float = 10.0


@attrs.define(eq=False)
class _Call:
    """A call that was asked for and has no answer yet."""

    data: bytes
    result: Deferred[boxes.Box]
    size: int
    sent: bool = False
    abandoned: float | None = None


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
        self.limits = limits or Limits()
        self._clock = clock
        self._locator = locator
        self._parser = boxes.BoxParser(self._knows, self._expects, self.limits.box_bytes)
        self._lost: str | None = None
        self._open = False
        self._lost_callbacks: list[Callable[[], None]] = []
        self._counter = 0
        self._calls: dict[bytes, _Call] = {}
        self._waiting_calls: OutboundQueue[_Call] = OutboundQueue()
        self._waiting_answers: OutboundQueue[tuple[bytes, int]] = OutboundQueue()
        self._answers_last = False
        self._credit_calls = self.limits.calls
        self._credit_bytes = self.limits.bytes
        self._serving_calls = 0
        self._serving_bytes = 0
        self._paused = True
        self._pumping = False
        self._closing = False
        self._timers: list[Any] = []
        self._heard_at = clock.seconds()
        self._moved_at = clock.seconds()

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
        self._locator = locator

    def take_at_most(self, box_bytes: int) -> None:
        """Bound the boxes of the other end to that many bytes from now on."""
        self._parser.most_bytes = box_bytes

    def opened(self, calls: int, size: int) -> None:
        """Note that Hello is done; the other end takes so many calls and bytes at once."""
        self._open = True
        self._credit_calls = calls
        self._credit_bytes = size
        self.take_at_most(self.limits.box_bytes)
        self._pump()

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        """Begin; the transport tells when it wants no more."""
        self.transport = transport
        self._paused = False
        self._heard_at = self._moved_at = self._clock.seconds()
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
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if call.abandoned is None:
                call.result.errback(Failure(NotConnectedError("the connection was lost")))
        while self._descriptors_here():
            os.close(self._received.popitem()[1])
        callbacks, self._lost_callbacks = self._lost_callbacks, []
        for function in callbacks:
            function()

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
            _log.info("connection aborted: {reason}", reason=reason)
            if self.transport is not None:
                self.transport.abortConnection()

    def close(self) -> None:
        """End the connection in order: what is queued goes out, for a few seconds at most."""
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
        try:
            for box, size in self._parser.feed(data):
                self._box_received(box, size)
                if not self.alive:
                    return
        except RemoteProtocolError as error:
            self.abort(str(error))

    def fileDescriptorReceived(self, descriptor: int) -> None:  # noqa: N802
        """Keep a descriptor that came over the Unix socket until its box is here."""
        if len(self._received) >= MAX_CALLS:
            os.close(descriptor)
            self.abort("more descriptors than calls")
        else:
            super().fileDescriptorReceived(descriptor)

    def received_descriptor(self, number: int) -> int:
        """Take a descriptor that came over the Unix socket.

        Raises:
            KeyError: none of that number has come.
        """
        return self._received.pop(number)

    @property
    def _received(self) -> dict[int, int]:
        return cast("dict[int, int]", self._descriptors)

    def _descriptors_here(self) -> bool:
        return bool(self._received)

    def _knows(self, command: bytes) -> bool:
        return self._locator is not None and self._locator.locateResponder(command) is not None

    def _expects(self, tag: bytes) -> bool:
        call = self._calls.get(tag)
        return call is not None and call.sent

    def _box_received(self, box: boxes.Box, size: int) -> None:
        if boxes.ASK in box:
            self._serve(box, size)
            return
        call = self._calls.pop(box.get(boxes.ANSWER) or box[boxes.ERROR])
        self._credit_calls += 1
        self._credit_bytes += call.size
        if call.abandoned is None:
            if boxes.ANSWER in box:
                call.result.callback(box)
            else:
                code = box.get(boxes.ERROR_CODE, b"")
                text = box.get(boxes.ERROR_DESCRIPTION, b"")[:1_000].decode("utf-8", "replace")
                call.result.errback(Failure(amp.RemoteAmpError(code, text)))
        self._pump()

    # Calls that the other end makes.

    def _serve(self, box: boxes.Box, size: int) -> None:
        self._serving_calls += 1
        self._serving_bytes += size
        if self._serving_calls > self.limits.calls or self._serving_bytes > self.limits.bytes:
            raise RemoteProtocolError("more calls in flight than this end takes")
        tag, name = box[boxes.ASK], box[boxes.COMMAND]
        operation = (name, box.get(b"storage_index") or box.get(b"bucket"))
        responder = None if self._locator is None else self._locator.locateResponder(name)
        if responder is None:
            self._answer_error(tag, operation, size, amp.UNHANDLED_ERROR_CODE, "unknown Command")
            return
        try:
            answer = maybeDeferred(responder, box)
        except Exception as error:  # noqa: BLE001 - whatever parsing raises is the peer's fault
            _log.debug("malformed {name!r}: {error}", name=name, error=type(error).__name__)
            code = e.BadArgumentError.code
            self._answer_error(tag, operation, size, code, "malformed arguments")
            return
        answer.addCallbacks(
            lambda box: self._answer(tag, operation, size, box),
            lambda failure: self._failed(tag, operation, size, name, failure),
        )
        answer.addErrback(self._answering_failed)

    def _answer(self, tag: bytes, operation: Hashable, size: int, box: boxes.Box) -> None:
        box[boxes.ANSWER] = tag
        data = boxes.serialize(box)
        self._waiting_answers.push(operation, (data, size), len(data))
        self._pump()

    def _answer_error(
        self, tag: bytes, operation: Hashable, size: int, code: bytes, text: str
    ) -> None:
        data = boxes.serialize(
            {
                boxes.ERROR: tag,
                boxes.ERROR_CODE: code,
                boxes.ERROR_DESCRIPTION: text.encode("utf-8", "replace")[:1_000],
            }
        )
        self._waiting_answers.push(operation, (data, size), len(data))
        self._pump()

    def _failed(
        self, tag: bytes, operation: Hashable, size: int, name: bytes, failure: Failure
    ) -> None:
        error = failure.value
        if isinstance(error, amp.RemoteAmpError):
            self._answer_error(tag, operation, size, error.errorCode, str(error.description))
            return
        reference = os.urandom(4).hex()
        _log.failure(
            "a responder of {name!r} failed; reference {reference}",
            failure,
            name=name,
            reference=reference,
        )
        code = e.InternalWireError.code
        self._answer_error(tag, operation, size, code, f"reference {reference}")

    def _answering_failed(self, failure: Failure) -> None:
        _log.failure("an answer could not be sent", failure)
        self.abort("an answer could not be sent")

    # Calls that this end makes.

    async def call(
        self,
        command: type[amp.Command],
        /,
        *,
        operation: Hashable = None,
        deadline: float | None = 60.0,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Send one Command and return its answer (see `ampgrid.ports.Connection`)."""
        box = command.makeArguments(arguments, self)
        try:
            answer = await self._ask(command.commandName, box, operation, deadline)
        except amp.RemoteAmpError as error:
            raise _local_error(command, error) from None
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

    def _ask(
        self, name: bytes, arguments: boxes.Box, operation: Hashable, deadline: float | None
    ) -> Deferred[boxes.Box]:
        if self._lost is not None or self._closing or self.transport is None:
            raise NotConnectedError("there is no connection to that peer")
        self._counter += 1
        tag = b"%x" % self._counter
        arguments[boxes.ASK] = tag
        arguments[boxes.COMMAND] = name
        data = boxes.serialize(arguments)
        call = _Call(data, Deferred(), len(data))
        self._calls[tag] = call
        if deadline is not None:
            timer = self._clock.callLater(deadline, self._abandon, tag, call)
            call.result.addBoth(_stop_timer, timer)
        self._waiting_calls.push(tag if operation is None else operation, call, call.size)
        self._pump()
        return call.result

    def _abandon(self, tag: bytes, call: _Call) -> None:
        if not call.sent:
            # It still stands in the queue, and is passed over when its turn comes.
            self._calls.pop(tag, None)
        call.abandoned = self._clock.seconds()
        call.result.errback(Failure(CallTimeoutError("the peer did not answer in time")))

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
        if self._pumping:
            return
        self._pumping = True
        try:
            while not self._paused and self._lost is None:
                data = self._next_box()
                if data is None:
                    if self._closing:
                        self._finish_closing()
                    break
                self._moved_at = self._clock.seconds()
                self.transport.write(data)
        finally:
            self._pumping = False

    def _next_box(self) -> bytes | None:
        call_fits = self._drop_abandoned() and self._call_fits()
        if self._waiting_answers and not (call_fits and self._answers_last):
            self._answers_last = True
            data, size = self._waiting_answers.pop()
            self._serving_calls -= 1
            self._serving_bytes -= size
            return data
        self._answers_last = False
        if not call_fits:
            return None
        call = self._waiting_calls.pop()
        call.sent = True
        self._credit_calls -= 1
        self._credit_bytes -= call.size
        data, call.data = call.data, b""
        return data

    def _drop_abandoned(self) -> bool:
        while (call := self._waiting_calls.peek()) is not None:
            if call.abandoned is None:
                return True
            self._waiting_calls.pop()
        return False

    def _call_fits(self) -> bool:
        size = self._waiting_calls.peek_size()
        return size is not None and self._credit_calls > 0 and size <= self._credit_bytes

    def _finish_closing(self) -> None:
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._paused = True

    def _look(self) -> None:
        """Look at silence and progress, every few seconds."""
        now = self._clock.seconds()
        limits = self.limits
        self._timers = [timer for timer in self._timers if timer.active()]
        silent = now - self._heard_at
        stuck = self._paused and (self._waiting_answers or self._waiting_calls)
        if silent >= limits.dead_seconds:
            self.abort("no byte came for too long")
        elif stuck and now - self._moved_at >= limits.stuck_seconds:
            self.abort("the peer takes nothing of what is queued")
        elif any(
            call.abandoned is not None and now - call.abandoned >= limits.stuck_seconds
            for call in self._calls.values()
        ):
            self.abort("the peer left a call unanswered for too long")
        else:
            if silent >= limits.ping_seconds and self.connected:
                self._ping()
            self._timers.append(self._clock.callLater(limits.look_seconds, self._look))

    def _ping(self) -> None:
        pinging = Deferred.fromCoroutine(self.call(Ping, deadline=self.limits.dead_seconds))
        # No answer shows as silence; nothing else is to be done about it here.
        pinging.addErrback(_trap_ours)


def _trap_ours(failure: Failure) -> None:
    failure.trap(AmpgridError)


def known_errors(command: type[amp.Command]) -> dict[bytes, type[Exception]]:
    """Return the errors that a Command may answer, by code."""
    return cast("dict[bytes, type[Exception]]", cast("Any", command).reverseErrors)


def _stop_timer(result: Any, timer: Any) -> Any:
    if timer.active():
        timer.cancel()
    return result


def _local_error(command: type[amp.Command], error: amp.RemoteAmpError) -> Exception:
    known = known_errors(command).get(error.errorCode)
    text = error.description if isinstance(error.description, str) else ""
    if known is not None:
        return known(text)
    if error.errorCode == amp.UNHANDLED_ERROR_CODE:
        return e.NotAllowedError("the peer does not answer this Command")
    return e.InternalWireError("the peer answered an error that this version does not know")
