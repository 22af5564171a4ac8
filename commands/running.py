"""Coroutines that need not wait, run without a Deferred.

Most responders of a busy connection have their answer at once, and a coroutine that is made a
Deferred of costs as much as all that such a responder does.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, fail
from twisted.protocols import amp
from twisted.python.failure import Failure

T = TypeVar("T")


class _Running:
    """A coroutine that waits for a Deferred, and the Deferred of what comes of it."""

    __slots__ = ("_coroutine", "result")

    def __init__(self, coroutine: Coroutine[Deferred[Any], Any, Any]) -> None:
        self.result: Deferred[Any] = Deferred()
        self._coroutine = coroutine

    def go_on(self, result: object) -> None:
        """Run it until it waits again; what has come it takes from its Deferred by itself."""
        try:
            if isinstance(result, Failure):
                waits: Any = result.throwExceptionIntoGenerator(cast("Any", self._coroutine))
            else:
                waits = self._coroutine.send(None)
        except StopIteration as end:
            self.result.callback(end.value)
        except BaseException:  # noqa: BLE001 - told to whoever waits
            self.result.errback(Failure())
        else:
            waits.addBoth(self.go_on)


def begin(coroutine: Coroutine[Deferred[Any], Any, T]) -> T | Deferred[T]:
    """Run a coroutine until it waits; return its result, or a Deferred of it.

    Raises:
        BaseException: whatever the coroutine raises before it waits.
    """
    try:
        waits = coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    running = _Running(coroutine)
    waits.addBoth(running.go_on)
    return running.result


class Responders(amp.CommandLocator):
    """Answers Commands with coroutines, at once if they need not wait.

    A responder that was found returns the box of its answer or a Deferred of it; what it raises
    itself is the caller's fault, as in stock AMP.
    """

    def _wrapWithSerialization(self, responder: Any, command: Any) -> Any:  # noqa: N802 - Twisted's
        def respond(result: Any) -> Any:
            try:
                return command.makeResponse(result, self)
            except Exception:  # noqa: BLE001 - a responder may return anything
                text = f"what {responder!r} returned does not fit {command!r}"
                raise amp.BadLocalReturn(text, Failure()) from None

        def known(failure: Failure) -> Failure:
            kind = failure.trap(*command.allErrors)
            code, fatal = command.allErrors[kind], kind in command.fatalErrors
            return Failure(amp.RemoteAmpError(code, str(failure.value), fatal, failure))

        def answer(box: Any) -> Any:
            arguments = command.parseArguments(box, self)
            try:
                result = begin(responder(**arguments))
                if isinstance(result, Deferred):
                    return result.addCallback(respond).addErrback(known)
                return respond(result)
            except Exception:  # noqa: BLE001 - told to whoever called
                return fail(Failure()).addErrback(known)

        return answer
