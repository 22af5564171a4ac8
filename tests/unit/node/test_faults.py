"""What the log tells of faults: kinds and frames, no texts."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger, LogPublisher, textFileLogObserver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import StoreError
from ampgrid.node.faults import TextlessObserver, UnforeseenError, without_text

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
        stream = io.StringIO()
        observer = TextlessObserver(textFileLogObserver(stream))
        for why in ("it fell over", None):
            # What `twisted.python.log.err` publishes: its text holds the traceback.
            event = {"isError": 1, "why": why, "log_time": 0.0, "log_failure": failed(chained)}
            text = {"log_format": "{log_text}", "log_text": f"Traceback: {SECRET}"}
            observer({**event, **text})
        self.assertNotIn(SECRET, stream.getvalue())
        self.assertIn("it fell over", stream.getvalue())
