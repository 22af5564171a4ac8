"""Paths into the grid, as a command line takes them."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import ChkCap, DirCap, LitCap
from ampgrid.errors import AmpgridError, BadArgumentValueError, BadCapError, BadNameError
from ampgrid.vdrive.paths import (
    GridPath,
    LocalPath,
    checked_alias,
    parse_grid_path,
    parse_path,
    split_names,
)

DIRECTORY = DirCap.create(lambda size: b"\7" * size)
FILE = ChkCap(b"k" * 16, b"u" * 32, 3, 10, 1000)

ALIASES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}", fullmatch=True).filter(
    lambda name: name.lower() not in {"public", "private", "uri", "amp", "file"}
)
NAMES = st.text(string.ascii_letters + string.digits + " :~#?%äé.-", min_size=1, max_size=20)


def is_name(text: str) -> bool:
    try:
        return split_names([text]) == (text,)
    except BadNameError:
        return False


class GridPathTests(SynchronousTestCase):
    def test_the_roots(self) -> None:
        for text, root, names in [
            ("private:", "private", ()),
            ("private:a/b", "private", ("a", "b")),
            ("Private:/a//b/", "private", ("a", "b")),
            ("public:readme.txt", "public", ("readme.txt",)),
            ("friends:list", "friends", ("list",)),
            ("friends:a:b/c:d", "friends", ("a:b", "c:d")),
            (DIRECTORY.to_string(), DIRECTORY, ()),
            (DIRECTORY.to_string() + "/a/b", DIRECTORY, ("a", "b")),
            (FILE.to_string(), FILE, ()),
            ("URI:LIT:me", LitCap(b"a"), ()),
        ]:
            self.assertEqual(parse_grid_path(text), GridPath(root, names), text)
            self.assertEqual(parse_path(text), GridPath(root, names), text)

    def test_a_slash_at_the_end_is_told(self) -> None:
        for text in ("private:a/", "private:/", DIRECTORY.to_string() + "/a/"):
            self.assertTrue(parse_grid_path(text).as_directory, text)
        for text in ("private:a", "private:", DIRECTORY.to_string() + "/a"):
            self.assertFalse(parse_grid_path(text).as_directory, text)

    def test_what_has_no_colon_before_its_first_slash_is_local(self) -> None:
        for text in ("photo.jpg", "./a:b", "/home:x", "~/a", "a/b:c", "", ":a", "-", "~"):
            self.assertEqual(parse_path(text), LocalPath(text))
            with self.assertRaises(BadArgumentValueError):
                parse_grid_path(text)

    def test_refuses_names_that_no_child_can_have(self) -> None:
        for text in ("private:a/../b", "private:.", "public:a\0", "private:" + "x" * 300):
            with self.assertRaises(BadNameError):
                parse_grid_path(text)

    def test_refuses_caps_that_are_none_and_does_not_repeat_them(self) -> None:
        for text in (DIRECTORY.to_string()[:-1] + "/a", "URI:NEW:abc", "uri:DIR:abc/d"):
            with self.assertRaises(BadCapError) as caught:
                parse_grid_path(text)
            self.assertNotIn("abc", str(caught.exception))

    def test_hints_tell_what_to_write(self) -> None:
        for text, hint in [
            ("~/photos", "private:"),
            ("/home/me/photos", "~"),
            ("private/photos", "private:photos"),
            ("/public/a", "public:a"),
            ("photos", "private:photos"),
            ("", "private:"),
        ]:
            with self.assertRaises(BadArgumentValueError) as caught:
                parse_grid_path(text)
            self.assertIn(hint, str(caught.exception))

    def test_a_hint_repeats_no_cap(self) -> None:
        with self.assertRaises(BadArgumentValueError) as caught:
            parse_grid_path("./" + DIRECTORY.to_string())
        self.assertNotIn(DIRECTORY.to_string()[-20:], str(caught.exception))

    @given(st.one_of(ALIASES, st.sampled_from([DIRECTORY])), st.lists(NAMES.filter(is_name)))
    def test_what_is_spelled_is_read_again(self, root: str | DirCap, names: list[str]) -> None:
        path = GridPath(root, tuple(names))
        self.assertEqual(parse_grid_path(path.to_string()), path)
        self.assertNotIn(DIRECTORY.to_string(), str(path))

    @given(st.text())
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            path = parse_path(text)
        except AmpgridError:
            return
        if isinstance(path, GridPath):
            self.assertEqual(parse_path(path.to_string()), path)

    def test_parent_and_name(self) -> None:
        path = GridPath("private").child("a", "b")
        self.assertEqual((path.parent, path.name), (GridPath("private", ("a",)), "b"))
        self.assertEqual(GridPath("private").name, "")
        with self.assertRaises(BadArgumentValueError):
            _ = GridPath("private").parent
        with self.assertRaises(BadNameError):
            path.child("a/b")

    def test_names_of_aliases(self) -> None:
        for name in ("a", "Friends-2", "x" * 64, "0.9_a"):
            self.assertEqual(checked_alias(name), name)
        for name in ("", "-a", "a b", "a/b", "a:b", "x" * 65, "private", "URI", "Public", "ä"):
            with self.assertRaises(BadNameError):
                checked_alias(name)


class SplitNamesTests(SynchronousTestCase):
    def test_text_and_list(self) -> None:
        self.assertEqual(split_names("/a//b/"), ("a", "b"))
        self.assertEqual(split_names(["a", "b"]), ("a", "b"))
        self.assertEqual(split_names(""), ())
        with self.assertRaises(BadNameError):
            split_names(["a/b"])

    def test_names_are_normalised(self) -> None:
        self.assertEqual(split_names("e\u0301"), ("\u00e9",))
