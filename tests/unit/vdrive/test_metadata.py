"""What a directory tells of a child."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import BadArgumentValueError
from ampgrid.vdrive.metadata import checked, guess_type, of_child, renamed


class GuessTypeTests(SynchronousTestCase):
    def test_by_the_name(self) -> None:
        for name, expected in [
            ("a.txt", "text/plain"),
            ("A.HTML", "text/html"),
            ("b.tar.gz", "application/gzip"),
            ("c.txt.xz", "application/x-xz"),
            ("data:text.html", "text/html"),
            ("http:x.png", "image/png"),
            ("README", None),
            (".txt", None),
            ("x.nothing-known", None),
        ]:
            self.assertEqual(guess_type(name), expected, name)


class OfChildTests(SynchronousTestCase):
    def test_a_new_file(self) -> None:
        told = of_child("a.txt", size=3, now=5.0)
        self.assertEqual(told, {"created": 5.0, "changed": 5.0, "size": 3, "type": "text/plain"})

    def test_a_new_directory_has_neither_size_nor_type(self) -> None:
        self.assertEqual(of_child("a.txt", size=None, now=5.0), {"created": 5.0, "changed": 5.0})

    def test_created_survives_a_replacement(self) -> None:
        before = of_child("a.txt", size=3, now=5.0)
        told = of_child("a.txt", size=4, now=6.0, before=before)
        self.assertEqual((told["created"], told["changed"], told["size"]), (5.0, 6.0, 4))
        told = of_child("a.txt", size=4, now=6.0, before=before, given={"mode": 0o644})
        self.assertEqual((told["created"], told["mode"]), (5.0, 0o644))

    def test_what_is_given_is_kept(self) -> None:
        given = {"created": 1, "changed": 2.5, "type": "x/y", "mine": True, "size": 99}
        told = of_child("a.txt", size=3, now=5.0, given=given, before={"created": 4})
        self.assertEqual(told, {**given, "size": 3})

    def test_what_was_given_stays_where_nothing_is_given_anew(self) -> None:
        before = of_child("a", size=3, now=5.0, given={"mine": "x", "type": "x/y"})
        told = of_child("a", size=4, now=6.0, before=before)
        self.assertEqual(told, {"created": 5.0, "changed": 6.0, "size": 4, "mine": "x"})
        self.assertNotIn("mine", of_child("a", size=4, now=6.0, before=before, given={}))


class RenamedTests(SynchronousTestCase):
    def test_a_guessed_type_is_guessed_anew(self) -> None:
        before = of_child("a.txt", size=3, now=5.0)
        self.assertEqual(renamed(before, "a.txt", "a.html"), {**before, "type": "text/html"})
        self.assertNotIn("type", renamed(before, "a.txt", "a"))
        self.assertEqual(renamed(renamed(before, "a.txt", "a"), "a", "a.txt"), before)

    def test_everything_else_stays(self) -> None:
        given = of_child("a.txt", size=3, now=5.0, given={"type": "x/y", "mine": 1})
        self.assertEqual(renamed(given, "a.txt", "a.html"), given)
        directory = of_child("a.txt", size=None, now=5.0)
        self.assertEqual(renamed(directory, "a.txt", "a.html"), directory)


class CheckedTests(SynchronousTestCase):
    def test_takes_texts_numbers_and_truth_values(self) -> None:
        given = {"a": "x", "b": 1, "c": 1.5, "d": True}
        self.assertEqual(checked(given), given)

    def test_refuses_the_rest(self) -> None:
        for given in ({"": 1}, {"a": None}, {"a": []}, {1: 1}, {"a": float("nan")}, {"a": b"x"}):
            with self.assertRaises(BadArgumentValueError):
                checked(given)
