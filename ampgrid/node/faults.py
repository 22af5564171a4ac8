"""Faults of our own in the log: their kind and where they happened, and nothing of what they say.

The text of an error that nobody foresaw may quote anything, a cap for instance. Errors of ampgrid
keep theirs: their messages never hold a key, a cap or a secret (`ampgrid.errors`).
"""

from __future__ import annotations

from twisted.logger import ILogObserver, LogEvent, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from ampgrid.errors import AmpgridError

#: So many errors of a chain are named.
_MOST_NAMED = 5


class UnforeseenError(Exception):
    """Stands in the log for an error: it names its kind, and what kind led to it."""


def _kinds(error: BaseException | None) -> str:
    """Return the kind of an error and of those that it came from."""
    kinds: list[str] = []
    while error is not None and len(kinds) < _MOST_NAMED:
        kind = type(error)
        kinds.append(f"{kind.__module__}.{kind.__qualname__}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return ", which came from ".join(kinds)


def without_text(failure: Failure) -> Failure:
    """Return a failure with the same frames that says nothing but of what kind it was."""
    if failure.check(AmpgridError, UnforeseenError):
        return failure
    told = UnforeseenError(_kinds(failure.value))
    return Failure(told, UnforeseenError, failure.getTracebackObject())


@implementer(ILogObserver)
class TextlessObserver:
    """Passes events on, faults without their texts.

    Args:
        observer: what they are passed to.
    """

    def __init__(self, observer: ILogObserver) -> None:
        self._observer = observer

    def __call__(self, event: LogEvent) -> None:
        """Pass an event on."""
        failure = event.get("log_failure")
        if failure is None:
            self._observer(event)
            return
        told = event["why"] if "why" in event else formatEvent(event)
        self._observer(
            {
                **event,
                "log_format": "{told}",
                "told": told or "an unforeseen error",
                "log_failure": without_text(failure),
            }
        )
