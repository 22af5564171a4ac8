"""The calls that this end makes: waiting for credit, in flight, answered or given up.

A call is in flight from the moment it is sent until its answer is here, also when nobody waits
for that answer any more: the other end still works on it. How many may be in flight, and how
many bytes of them, the other end has announced in Hello.

Spec: ``docs/specs/wire.md``, "Calls, answers, credits".
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.protocols import amp
from twisted.python.failure import Failure

from ampgrid.commands import errors as e
from ampgrid.errors import AmpgridError, CallTimeoutError
from ampgrid.ports import Clock, DelayedCall, Patience
from ampgrid.wire import boxes
from ampgrid.wire.outbound import OutboundQueue

_MOST_ERROR_TEXT = 1_000
#: So many ends of calls are kept before those of answered calls are thrown away.
_ENDS_KEPT = 256


@attrs.define(eq=False)
class _Call:
    """A call that was asked for and has no answer yet.

    Attributes:
        data: the box; empty once it is sent.
        size: of the box, bytes.
        result: fires with the answer.
        patience: shared with other calls; and when this one was asked.
        sent: whether it is in flight.
        abandoned: when its caller gave up waiting.
    """

    data: bytes
    size: int
    result: Deferred[boxes.Box]
    patience: Patience | None = None
    asked_at: float = 0.0
    sent: bool = False
    abandoned: float | None = None


class Calls:
    """What this end asks of the other, within the credits that the other gave.

    Args:
        clock: time and timers.
        calls: the most calls in flight.
        size: the most bytes of them.
    """

    def __init__(self, clock: Clock, calls: int, size: int) -> None:
        self._clock = clock
        self._most_calls = calls
        self._most_bytes = size
        self._counter = 0
        self._calls: dict[bytes, _Call] = {}
        self._waiting: OutboundQueue[_Call] = OutboundQueue()
        #: When callers give up, and one timer for the first of them.
        self._ends: list[tuple[float, int, bytes]] = []
        self._alarm: DelayedCall | None = None
        self._alarm_at = 0.0
        #: Calls in flight, and bytes of them.
        self.flying_calls = 0
        self.flying_bytes = 0

    def allow(self, calls: int, size: int) -> None:
        """Keep to these credits from now on."""
        self._most_calls = calls
        self._most_bytes = size

    def ask(
        self,
        name: bytes,
        arguments: boxes.Box,
        operation: Hashable,
        deadline: float | Patience | None,
    ) -> Deferred[boxes.Box]:
        """Queue a call.

        Args:
            name: of the Command.
            arguments: of the Command, as a box.
            operation: calls with the same token keep their order; None for one alone.
            deadline: seconds after which its caller gives up, or what it has of patience.

        Returns:
            The answer's box. Cancelling it gives the call up.

        Raises:
            ValueError: the box is larger than a box may be.
        """
        self._counter += 1
        tag = b"%x" % self._counter
        data = boxes.serialize({**arguments, boxes.ASK: tag, boxes.COMMAND: name})
        call = _Call(data, len(data), Deferred(lambda _: self._give_up(tag, call)))
        self._waiting.push((tag,) if operation is None else operation, call, call.size)
        self._calls[tag] = call
        if isinstance(deadline, Patience):
            call.patience, call.asked_at = deadline, self._clock.seconds()
            if deadline.began_at is None:
                deadline.began_at = call.asked_at
            self._end_in(deadline.seconds, tag)
        elif deadline is not None:
            self._end_in(deadline, tag)
        return call.result

    def _end_in(self, seconds: float, tag: bytes) -> None:
        """Let a call's caller give up after so many seconds."""
        if len(self._ends) > max(_ENDS_KEPT, 2 * len(self._calls)):
            # Nearly all calls are answered long before.
            self._ends = [end for end in self._ends if end[2] in self._calls]
            heapify(self._ends)
        moment = self._clock.seconds() + seconds
        heappush(self._ends, (moment, self._counter, tag))
        self._wake_at(moment, seconds)

    def _wake_at(self, moment: float, seconds: float) -> None:
        if self._alarm is not None:
            if self._alarm_at <= moment:
                return
            self._alarm.cancel()
        self._alarm_at = moment
        self._alarm = self._clock.callLater(seconds, self._awake)

    def _awake(self) -> None:
        self._alarm = None
        now = self._clock.seconds()
        while self._ends:
            moment, _, tag = self._ends[0]
            call = self._calls.get(tag)
            if call is not None and moment > now:
                self._wake_at(moment, moment - now)
                return
            heappop(self._ends)
            if call is not None and call.abandoned is None:
                left = _left(call, now)
                if left > 0:
                    self._end_in(left, tag)
                else:
                    self._time_out(tag, call)

    def _give_up(self, tag: bytes, call: _Call) -> None:
        call.abandoned = self._clock.seconds()
        call.data = b""
        if not call.sent:
            # It still stands in the queue, and is passed over when its turn comes.
            self._calls.pop(tag, None)

    def _time_out(self, tag: bytes, call: _Call) -> None:
        self._give_up(tag, call)
        call.result.errback(Failure(CallTimeoutError("the peer did not answer in time")))

    # Answers.

    def expects(self, tag: bytes) -> bool:
        """Tell whether a call with this tag is in flight."""
        call = self._calls.get(tag)
        return call is not None and call.sent

    def settle(self, box: boxes.Box) -> None:
        """Take an answer, whose tag `expects` has found."""
        call = self._calls.pop(box.get(boxes.ANSWER) or box[boxes.ERROR])
        self.flying_calls -= 1
        self.flying_bytes -= call.size
        if call.abandoned is not None:
            return
        if boxes.ANSWER in box:
            patience = call.patience
            if patience is not None:
                patience.answered_at = self._clock.seconds()
                patience.took = patience.answered_at - call.asked_at
            call.result.callback(box)
        else:
            code = box.get(boxes.ERROR_CODE, b"")
            text = _plain(box.get(boxes.ERROR_DESCRIPTION, b""))
            call.result.errback(Failure(amp.RemoteAmpError(code, text)))

    def fail_all(self, error: AmpgridError) -> None:
        """Fail every call that waits for an answer: none will come."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._ends.clear()
        calls, self._calls = self._calls, {}
        self._waiting = OutboundQueue()
        for call in calls.values():
            if call.abandoned is None:
                call.result.errback(Failure(error))

    def owed_since(self) -> float | None:
        """Return when the oldest call in flight was given up, or None."""
        times = [call.abandoned for call in self._calls.values() if call.abandoned is not None]
        return min(times, default=None)

    # Sending.

    def _room(self) -> int:
        return self._most_bytes - self.flying_bytes

    def can_send(self) -> bool:
        """Tell whether the next call may be sent now."""
        if not self._waiting.size_bytes:
            return False
        while (call := self._waiting.peek(self._room())) is not None:
            if call.abandoned is None:
                return self.flying_calls < self._most_calls and call.size <= self._room()
            self._waiting.pop(self._room())
        return False

    def send(self) -> bytes:
        """Return the bytes of the next call, which is in flight from now on."""
        call = self._waiting.pop(self._room())
        call.sent = True
        self.flying_calls += 1
        self.flying_bytes += call.size
        data, call.data = call.data, b""
        return data


def known_errors(command: type[amp.Command]) -> dict[bytes, type[Exception]]:
    """Return the errors that a Command may answer, by code."""
    return cast("dict[bytes, type[Exception]]", cast("Any", command).reverseErrors)


def local_error(command: type[amp.Command], error: amp.RemoteAmpError) -> Exception:
    """Return the exception that an answered error is here."""
    known = known_errors(command).get(error.errorCode)
    if known is not None:
        return known(error.description)
    if error.errorCode == amp.UNHANDLED_ERROR_CODE:
        return e.NotAllowedError("the peer does not answer this Command")
    return e.InternalWireError("the peer answered an error that this version does not know")


def _plain(text: bytes) -> str:
    """Make a peer's text fit to be shown and logged: one line, nothing that moves a cursor."""
    decoded = text[:_MOST_ERROR_TEXT].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in decoded)


def _left(call: _Call, now: float) -> float:
    """Return for how long its caller still waits, when the time first given is over."""
    patience = call.patience
    if patience is None:
        return 0.0
    ends = max(call.asked_at, patience.answered_at) + patience.seconds
    return min(ends, call.asked_at + patience.most) - now
