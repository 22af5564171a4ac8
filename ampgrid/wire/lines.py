"""Log lines about others: one a second for each, so that nobody fills the log."""

from __future__ import annotations

from collections import OrderedDict

from twisted.logger import Logger

from ampgrid.ports import Clock

_log = Logger()

#: A subject gets one line in so many seconds.
_SECONDS = 1.0
#: So many subjects are remembered, so there are at most so many lines a second.
_MOST_SUBJECTS = 1_024


class Lines:
    """Writes log lines, at most one a second for each subject.

    Args:
        clock: time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._written: OrderedDict[bytes, float] = OrderedDict()

    def write(self, subject: bytes, event: str, reason: str) -> None:
        """Log ``event: reason``, unless something was just logged about ``subject``."""
        now = self._clock.seconds()
        if now - self._written.get(subject, -_SECONDS) < _SECONDS:
            return
        self._written.pop(subject, None)
        if len(self._written) >= _MOST_SUBJECTS:
            oldest = next(iter(self._written))
            if now - self._written[oldest] < _SECONDS:
                return
            del self._written[oldest]
        self._written[subject] = now
        _log.info("{event}: {reason}", event=event, reason=reason)
