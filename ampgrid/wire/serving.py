"""The calls that the other end makes: found, run, answered; at most so many at once.

A call is in flight here from its arrival until its answer has been handed to a transport that
wants it, so an end that does not read its answers soon has no calls left. An exception that the
Command does not declare is answered with a reference number and logged here under it.

Spec: ``docs/specs/wire.md``, "Calls, answers, credits".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from ampgrid.commands import errors as e
from ampgrid.errors import RemoteProtocolError
from ampgrid.ports import Clock
from ampgrid.wire import boxes
from ampgrid.wire.limits import Limits
from ampgrid.wire.outbound import OutboundQueue

_log = Logger()

#: The same failure of the same Command is logged once in so many seconds.
_LOG_SECONDS = 1.0
_MOST_ERROR_TEXT = 1_000


@attrs.define(eq=False)
class _Asked:
    """What must be remembered of a call to answer it."""

    tag: bytes
    name: bytes
    operation: Hashable
    size: int


class Serving:
    """What the other end asks of this one.

    Args:
        clock: time.
        limits: how much of it is taken at once.
        answer_waits: called when there is something to send.
    """

    def __init__(self, clock: Clock, limits: Limits, answer_waits: Callable[[], None]) -> None:
        self._clock = clock
        self._limits = limits
        self._answer_waits = answer_waits
        self._locator: amp.CommandLocator | None = None
        #: The responders that were asked for, by the names of their Commands.
        self._found: dict[bytes, Callable[[boxes.Box], Any]] = {}
        self._answers: OutboundQueue[tuple[bytes, int]] = OutboundQueue()
        self._logged: dict[tuple[bytes, type], tuple[float, str]] = {}
        self._stopped = False
        #: Calls in flight, and bytes of them.
        self.flying_calls = 0
        self.flying_bytes = 0

    def use(self, locator: amp.CommandLocator | None) -> None:
        """Answer the Commands of ``locator`` from now on."""
        self._locator = locator
        self._found.clear()

    def knows(self, name: bytes) -> bool:
        """Tell whether a Command would be answered."""
        return self._find(name) is not None

    def _find(self, name: bytes) -> Callable[[boxes.Box], Any] | None:
        responder = self._found.get(name)
        if responder is None and self._locator is not None:
            responder = self._locator.locateResponder(name)
            if responder is not None:
                self._found[name] = responder
        return responder

    def stop(self) -> None:
        """Send no more answers, and forget those that wait."""
        self._stopped = True
        self.use(None)
        self._answers = OutboundQueue()

    def take(self, box: boxes.Box, size: int) -> None:
        """Serve one call of ``size`` bytes.

        Raises:
            RemoteProtocolError: it is more than this end takes at once.
        """
        self.flying_calls += 1
        self.flying_bytes += size
        if self.flying_calls > self._limits.calls or self.flying_bytes > self._limits.bytes:
            raise RemoteProtocolError("more calls in flight than this end takes")
        name = box[boxes.COMMAND]
        operation = (name, box.get(b"storage_index") or box.get(b"bucket"))
        asked = _Asked(box[boxes.ASK], name, operation, size)
        responder = self._find(name)
        if responder is None:
            self._push(asked, _error(asked, amp.UNHANDLED_ERROR_CODE, "unknown Command"))
            return
        try:
            # Twisted parses the arguments before it returns a Deferred: whatever is raised here
            # is the caller's fault.
            answering = responder(box)
        except Exception as error:  # noqa: BLE001 - parsers raise what they like
            _log.debug("malformed {name!r}: {kind}", name=name, kind=type(error).__name__)
            self._push(asked, _error(asked, e.BadArgumentError.code, "malformed arguments"))
            return
        if not isinstance(answering, Deferred):
            self._answered(answering, asked)
            return
        answering.addCallbacks(
            self._answered, self._refused, callbackArgs=(asked,), errbackArgs=(asked,)
        )
        answering.addErrback(_not_sent)

    # Answers.

    def _answered(self, box: boxes.Box, asked: _Asked) -> None:
        try:
            data = boxes.serialize({**box, boxes.ANSWER: asked.tag})
        except Exception:  # noqa: BLE001 - a responder's answer may be anything
            data = self._failed(asked, Failure())
        self._push(asked, data)

    def _refused(self, failure: Failure, asked: _Asked) -> None:
        self._push(asked, self._failed(asked, failure))

    def _push(self, asked: _Asked, data: bytes) -> None:
        if not self._stopped:
            self._answers.push(asked.operation, (data, asked.size), len(data))
            self._answer_waits()

    def _failed(self, asked: _Asked, failure: Failure) -> bytes:
        error = failure.value
        if isinstance(error, amp.RemoteAmpError):
            return _error(asked, error.errorCode, error.description)
        if isinstance(error, amp.BadLocalReturn):
            # Its message holds the whole answer, which is no business of the log's.
            failure = error.enclosed
        reference = self._reference(asked.name, failure)
        return _error(asked, e.InternalWireError.code, f"reference {reference}")

    def _reference(self, name: bytes, failure: Failure) -> str:
        """Log a failure, unless one like it was logged just now, and return its number."""
        now = self._clock.seconds()
        kind = (name, type(cast("object", failure.value)))
        at, reference = self._logged.get(kind, (-_LOG_SECONDS, ""))
        if not reference or now - at >= _LOG_SECONDS:
            reference = os.urandom(4).hex()
            self._logged[kind] = (now, reference)
            _log.failure(
                "a responder of {name!r} failed; reference {reference}",
                failure,
                name=name,
                reference=reference,
            )
        return reference

    # Sending.

    def can_send(self) -> bool:
        """Tell whether an answer waits."""
        return self._answers.size_bytes > 0

    def send(self) -> bytes:
        """Return the bytes of the next answer; its call is in flight no more."""
        data, size = self._answers.pop()
        self.flying_calls -= 1
        self.flying_bytes -= size
        return data


def _not_sent(failure: Failure) -> None:
    _log.failure("an answer could not be sent", failure)


def _error(asked: _Asked, code: bytes, text: str) -> bytes:
    """Return the box of an error."""
    return boxes.serialize(
        {
            boxes.ERROR: asked.tag,
            boxes.ERROR_CODE: code,
            boxes.ERROR_DESCRIPTION: text.encode("utf-8", "replace")[:_MOST_ERROR_TEXT],
        }
    )
