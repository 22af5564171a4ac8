"""Patterns of what a backup leaves out.

A pattern without a slash is held against the name of each file and directory, one with a slash
against the whole path below the directory that is backed up::

    *.pyc           every file of such a name, at any depth
    build/          every directory of that name, with all in it; no file
    /tmp            what is there at the top alone
    docs/*.html     pages in docs, and in no directory below it
    docs/**/*.html  pages in docs at any depth

``*`` and ``?`` stand for anything but a slash, ``[...]`` for one of some characters, ``**`` for
anything at all. What begins with a dot is nothing special.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from ampgrid.errors import BadArgumentValueError, FileError

#: In these, version control systems keep their own data.
VCS_NAMES = frozenset(
    {".git", ".hg", ".svn", ".bzr", "_darcs", ".pijul", ".jj", "CVS", "RCS", "SCCS", ".arch-ids"}
)
#: The longest pattern, characters.
_MOST_CHARACTERS = 1_000
_MOST_PATTERNS = 10_000
#: A file of patterns is no larger, bytes.
_MOST_BYTES = 1_000_000

_PIECES = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)
#: What stands in a set: a range of characters, or one.
_SET_ITEMS = re.compile(r"(.)-(.)|(.)", re.DOTALL)


@frozen
class _Pattern:
    """One pattern, ready for use.

    Attributes:
        matches: says whether a name, or a path, is meant.
        of_path: whether it is held against the path.
        directories_only: whether files are not meant.
    """

    matches: re.Pattern[str]
    of_path: bool
    directories_only: bool


class Patterns:
    """Says what is left out.

    Args:
        patterns: as they were typed.
        vcs: whether the data of version control systems are left out.

    Raises:
        BadArgumentValueError: one of them is none.
    """

    def __init__(self, patterns: Iterable[str] = (), *, vcs: bool = False) -> None:
        self._patterns = [_compiled(pattern) for pattern in patterns]
        self._vcs = vcs
        if len(self._patterns) > _MOST_PATTERNS:
            raise BadArgumentValueError(f"There are at most {_MOST_PATTERNS} patterns.")

    def leaves_out(self, path: str, *, is_directory: bool) -> bool:
        """Tell whether something is left out.

        Args:
            path: below the directory that is backed up, with slashes and none at its start.
            is_directory: whether it is a directory; a link to one is none.
        """
        name = path.rpartition("/")[2]
        if self._vcs and name in VCS_NAMES:
            return True
        return any(
            each.matches.fullmatch(path if each.of_path else name) is not None
            for each in self._patterns
            if is_directory or not each.directories_only
        )


def _compiled(text: str) -> _Pattern:
    """Read one pattern.

    Raises:
        BadArgumentValueError: it is none.
    """
    plain = text.rstrip("/")
    if not plain or len(text) > _MOST_CHARACTERS or "\0" in text:
        raise BadArgumentValueError(
            f"A pattern has 1 to {_MOST_CHARACTERS} characters, and one that is no slash."
        )
    anchored = plain.removeprefix("/")
    parts = [_expression(piece) for piece in _PIECES.findall(anchored)]
    try:
        matches = re.compile("(?s)" + "".join(parts))
    except re.error:
        raise BadArgumentValueError(f"{text!r} is no pattern.") from None
    return _Pattern(matches, "/" in plain, text.endswith("/"))


def _expression(piece: str) -> str:
    """Return the regular expression of a piece of a pattern."""
    if piece == "**/":
        return "(?:.*/)?"
    if piece == "**":
        return ".*"
    if piece == "*":
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if len(piece) > 2 and piece[0] == "[":
        negated = piece[1] == "!"
        inner = _SET_ITEMS.sub(_set_item, piece[2 if negated else 1 : -1])
        # Never a slash, as with the others.
        return f"(?!/)[{'^' if negated else ''}{inner}]"
    return re.escape(piece)


def _set_item(found: re.Match[str]) -> str:
    """Return a character of a set, or a range of them, with nothing in it that means more."""
    return "-".join(re.escape(end) for end in found.groups() if end is not None)


def read_patterns(file: str) -> list[str]:
    """Return the patterns in a file: one a line; empty lines and such with a # do not count.

    Raises:
        FileError: it cannot be read, is too long, or no text.
    """
    try:
        with Path(file).open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise FileError(f"{file} could not be read: {error.strerror}.") from error
    if len(data) > _MOST_BYTES:
        raise FileError(f"{file} is too long for a list of patterns.")
    # As names of files are read: whatever bytes they are.
    lines = os.fsdecode(data).splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]
