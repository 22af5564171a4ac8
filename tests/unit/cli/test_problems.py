"""What fails among many things is named, and gives the exit status."""

from __future__ import annotations

import errno
import os

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.cli.problems import Problems
from ampgrid.commands.errors import NoSuchChildWireError
from ampgrid.errors import FileError, NotConnectedError, NotEnoughPeersError


class ProblemsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[str] = []

    def test_each_is_told_and_the_first_gives_the_status(self) -> None:
        problems = Problems(tell=self.told.append)
        self.assertEqual((problems.status, bool(problems)), (0, False))
        with problems.of("private:a"):
            raise NoSuchChildWireError("there is no\x1b[2J such")
        with problems.of("private:b"):
            raise FileNotFoundError(2, "No such file or directory", "f")
        with problems.of("private:c"):
            raise FileError("private:c: told already")
        with problems.of("two\nlines"):
            raise FileError("no such name")
        self.assertEqual(
            self.told,
            [
                "ampgrid: private:a: there is no [2J such",
                "ampgrid: private:b: f: No such file or directory.",
                "ampgrid: private:c: told already",
                "ampgrid: two\\nlines: no such name",
            ],
        )
        self.assertEqual((problems.status, bool(problems)), (12, True))
        self.assertEqual([each["status"] for each in problems.to_json()], [12, 8, 8, 8])
        self.assertEqual(problems.to_json()[0]["name"], "path")

    def test_in_json_nothing_is_printed_beside(self) -> None:
        problems = Problems(as_json=True, tell=self.told.append)
        problems.add("x", FileError("y"))
        self.assertEqual((self.told, problems.status), ([], 8))

    def test_what_ends_all_is_raised(self) -> None:
        problems = Problems(tell=self.told.append)
        for error in (
            NotConnectedError("gone"),
            NotEnoughPeersError("nobody has room for any"),
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out"),
            FileError("out: cannot write the output: Disk quota exceeded"),
            KeyboardInterrupt(),
            ZeroDivisionError(),
        ):
            with self.assertRaises(type(error)), problems.of("x"):
                raise error
        self.assertFalse(problems)

    def test_one_thing_alone_fails_as_the_command(self) -> None:
        with self.assertRaises(FileError), Problems(alone=True).of("x"):
            raise FileError("y")
