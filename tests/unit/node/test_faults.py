"""What the log tells of faults: kinds and frames, no texts."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from twisted.logger import (
    LogEvent,
    Logger,
    LogPublisher,
    jsonFileLogObserver,
    textFileLogObserver,
)
from twisted.python import log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import StoreError
from ampgrid.node.faults import TextlessObserver, UnforeseenError, strip_texts, without_text

SECRET = "URI:" + "DIR:" + "abc" * 3


def inner() -> None:
    raise KeyError(SECRET)


def chained() -> None:
    try:
        inner()
    except KeyError as error:
        raise ValueError(f"cannot look at {SECRET}") from error


def failed(function: Callable[[], Any]) -> Failure:
    try:
        function()
    except Exception:
        return Failure()
    raise AssertionError("it did not fail")


class FaultsTest(SynchronousTestCase):
    def told(self, log: Callable[[Logger], None]) -> str:
        stream = io.StringIO()
        publisher = LogPublisher(TextlessObserver(textFileLogObserver(stream)))
        log(Logger(namespace="x", observer=publisher))
        return stream.getvalue()

    def test_kinds_and_frames_and_no_text(self) -> None:
        told = self.told(lambda log: log.failure("no {what}", failed(chained), what="luck"))
        for part in ("no luck", "in chained", "builtins.ValueError, which came from builtins.Key"):
            self.assertIn(part, told)
        self.assertNotIn(SECRET, told)

    def test_an_error_of_ours_keeps_its_text(self) -> None:
        def refused() -> None:
            raise StoreError("the disk is full")

        self.assertIn("the disk is full", self.told(lambda log: log.failure("x", failed(refused))))

    def test_once_is_enough(self) -> None:
        once = without_text(failed(chained))
        self.assertIs(without_text(once), once)
        self.assertIs(once.type, UnforeseenError)

    def test_a_long_chain_is_cut(self) -> None:
        error: Exception | None = None
        for number in range(50):
            another = RuntimeError(str(number))
            another.__cause__, error = error, another
        assert error is not None
        told = str(without_text(Failure(error)).value)
        self.assertEqual(told.count("RuntimeError"), 5)

    def test_the_older_way_to_log(self) -> None:
        """An error of threads and of the reactor comes so, with its traceback for a text."""
        for kind in (textFileLogObserver, jsonFileLogObserver):
            stream = io.StringIO()
            observer = TextlessObserver(kind(stream))
            log.addObserver(observer)
            self.addCleanup(log.removeObserver, observer)
            for why in ("it fell over", None):
                log.err(failed(chained), why)
            log.removeObserver(observer)
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
            told = stream.getvalue()
            self.assertNotIn(SECRET, told)
            for part in ("it fell over", "an unforeseen error", "chained", "UnforeseenError"):
                self.assertIn(part, told)

    def test_a_message_of_the_older_way_that_is_no_error(self) -> None:
        stream = io.StringIO()
        observer = TextlessObserver(textFileLogObserver(stream))
        log.addObserver(observer)
        self.addCleanup(log.removeObserver, observer)
        log.msg("it went away", reason=failed(inner))
        self.assertIn("it went away", stream.getvalue())

    def test_a_failure_that_the_message_shows(self) -> None:
        """As that of an observer which cannot go on."""
        what = failed(inner)
        for told in (
            self.told(lambda log: log.failure("off due to {log_failure}", failed(inner))),
            self.told(lambda log: log.info("lost: {reason}", reason=what)),
            self.told(lambda log: log.info("lost: {reason.value}", reason=what)),
        ):
            self.assertNotIn(SECRET, told)
            self.assertIn("builtins.KeyError", told)

    def test_what_was_told_before_is_not_kept(self) -> None:
        """An observer that comes first leaves its own rendering in the event."""
        stream = io.StringIO()
        both = LogPublisher(
            jsonFileLogObserver(io.StringIO()), TextlessObserver(jsonFileLogObserver(stream))
        )
        Logger(observer=both).failure("off due to {log_failure}", failed(inner))
        self.assertNotIn(SECRET, stream.getvalue())
        self.assertIn("builtins.KeyError", stream.getvalue())

    def test_events_without_a_fault_are_left_as_they_are(self) -> None:
        seen: list[LogEvent] = []
        event = {"log_format": "{cap}", "cap": "x", "log_time": 0.0}
        TextlessObserver(seen.append)(event)
        self.assertIs(seen[0], event)

    def test_stripped_for_all_that_come_after(self) -> None:
        stream = io.StringIO()
        publisher = LogPublisher(strip_texts, textFileLogObserver(stream))
        Logger(observer=publisher).failure("no {what}", failed(chained), what="luck")
        told = stream.getvalue()
        self.assertNotIn(SECRET, told)
        for part in ("no luck", "in chained", "builtins.ValueError, which came from"):
            self.assertIn(part, told)
        # What was kept before there was a log is shown again.
        event: LogEvent = {
            "log_format": "no luck",
            "log_failure": failed(chained),
            "log_time": 0.0,
        }
        strip_texts(event)
        once = dict(event)
        strip_texts(event)
        self.assertEqual(event, once)
