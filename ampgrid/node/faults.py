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
#: Where an event keeps what was made of its fault before: texts, as others had shown them.
_RENDERED = frozenset({"why", "log_flattened", "log_legacy"})


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


def _without_texts(event: LogEvent) -> LogEvent:
    """Return an event without the texts of faults; the very event if there is no fault in it."""
    if not any(isinstance(value, Failure) for value in event.values()):
        return event
    safe = {
        key: without_text(value) if isinstance(value, Failure) else value
        for key, value in event.items()
        if key not in _RENDERED
    }
    if "log_text" in safe and isinstance(safe.get("failure"), Failure):
        # Of the older way to log, where the text is the traceback.
        told = event.get("why")
        del safe["log_text"]
        safe["log_failure"] = safe.pop("failure")
    else:
        told = formatEvent(safe)
    return {**safe, "log_format": "{told}", "told": told or "an unforeseen error"}


@implementer(ILogObserver)
def strip_texts(event: LogEvent) -> None:
    """Take the texts of faults out of an event, for all observers that come after this one.

    It is an observer itself, for a log whose other observers somebody else makes.
    """
    safe = _without_texts(event)
    if safe is not event:
        event.clear()
        event.update(safe)


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
        self._observer(_without_texts(event))
