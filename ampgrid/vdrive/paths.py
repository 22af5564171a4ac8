"""Paths into the grid, as a command line takes them.

A grid path always carries a colon, since a shell expands ``~``::

    private:photos/2024       in this node's private root
    public:readme.txt         in the grid's public root
    friends:list              in the directory of an alias
    URI:DIR:...               a directory or a file by its cap
    URI:DIR-RO:.../photos     and what is in it

Anything without a colon is a local file, and so is what has a slash before its first colon, so
that ``./a:b`` is one too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from attrs import field, frozen

from ampgrid.caps import Cap, parse_cap
from ampgrid.errors import BadArgumentValueError, BadNameError
from ampgrid.formats.names import checked_name

PUBLIC = "public"
PRIVATE = "private"
#: Names that no alias can have.
RESERVED = frozenset({PUBLIC, PRIVATE, "uri", "amp", "file", "http", "https", "local"})

_ALIAS = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")


@frozen
class GridPath:
    """A place in the grid.

    Attributes:
        root: where it begins: ``public``, ``private``, the name of an alias, or a cap.
        names: of the children on the way, each checked; empty for the root itself.
        as_directory: whether it was written with a slash at its end.
    """

    root: str | Cap
    names: tuple[str, ...] = ()
    as_directory: bool = field(default=False, eq=False)

    def child(self, *names: str) -> GridPath:
        """Return the place of a child, or of one further down.

        Raises:
            BadNameError: one of the names cannot be a child's.
        """
        return GridPath(self.root, (*self.names, *(checked_name(name) for name in names)))

    @property
    def parent(self) -> GridPath:
        """The place of the directory that it is in.

        Raises:
            BadArgumentValueError: it is a root, which is in none.
        """
        if not self.names:
            raise BadArgumentValueError(
                "the path names a root; name something in it, as in private:a"
            )
        return GridPath(self.root, self.names[:-1])

    @property
    def name(self) -> str:
        """The name in its directory, empty for a root."""
        return self.names[-1] if self.names else ""

    def to_string(self) -> str:
        """Spell the path. If it begins with a cap, whoever has the result has the cap."""
        inner = "/".join(self.names)
        if isinstance(self.root, str):
            return f"{self.root}:{inner}"
        return f"{self.root.to_string()}/{inner}" if inner else self.root.to_string()

    def __str__(self) -> str:
        """Spell the path for people: a cap is left out."""
        root = self.root if isinstance(self.root, str) else "URI"
        return f"{root}:{'/'.join(self.names)}"


@frozen
class LocalPath:
    """A file of this machine.

    Attributes:
        text: as it was written.
    """

    text: str


AnyPath: TypeAlias = GridPath | LocalPath


def checked_alias(name: str) -> str:
    """Return the name of an alias.

    Raises:
        BadNameError: no alias can have it.
    """
    if not _ALIAS.fullmatch(name):
        raise BadNameError(
            "an alias is named with 1 to 64 letters, digits, dots, dashes and underscores, "
            "a letter or a digit first"
        )
    if name.lower() in RESERVED:
        raise BadNameError(f"no alias can be named {name}: it means something else in a path")
    return name


def split_names(text: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of a path within a directory: a text with slashes, or a list.

    Slashes at the ends and doubled ones name nothing.

    >>> split_names("a/b"), split_names("/a//b/"), split_names(["a", "b"]), split_names("")
    (('a', 'b'), ('a', 'b'), ('a', 'b'), ())

    Raises:
        BadNameError: one of them cannot be a child's.
    """
    parts = text.split("/") if isinstance(text, str) else text
    return tuple(checked_name(part) for part in parts if part != "")


def parse_path(text: str) -> AnyPath:
    """Read what may be a grid path or a local file.

    Raises:
        BadCapError: it begins with a cap that is none.
        BadNameError: one of its names cannot be a child's, or an alias's.
    """
    head, colon, _ = text.partition(":")
    if not colon or "/" in head or not head:
        return LocalPath(text)
    return parse_grid_path(text)


def parse_grid_path(text: str) -> GridPath:
    """Read a grid path where only one is allowed.

    Raises:
        BadArgumentValueError: it is the path of a local file; the message has a hint.
        BadCapError: it begins with a cap that is none.
        BadNameError: one of its names cannot be a child's, or an alias's.
    """
    head, colon, inner = text.partition(":")
    if not colon or "/" in head or not head:
        raise BadArgumentValueError(_hint(text))
    if head.upper() == "URI":
        cap, slash, inner = text.partition("/")
        return GridPath(parse_cap(cap), split_names(inner), bool(slash) and text.endswith("/"))
    if head.lower() in (PUBLIC, PRIVATE):
        head = head.lower()
    else:
        checked_alias(head)
    return GridPath(head, split_names(inner), inner.endswith("/"))


def _hint(text: str) -> str:
    """Return what to do about a text that is no grid path."""
    first, _, rest = text.strip().lstrip("/").partition("/")
    if first.lower() in (PUBLIC, PRIVATE):
        return f"a grid path has a colon behind its root: {first.lower()}:{rest}"
    if text.startswith("~"):
        return "a grid path does not begin with ~; write private: for your own directory"
    if text.startswith("/"):
        return (
            "this is the path of a local file, as a shell also makes one of ~; a grid path begins "
            "with private:, public:, an alias and a colon, or a cap"
        )
    if not text:
        return "the grid path is empty; write private: for your own directory"
    # A cap is not repeated.
    example = "..." if "URI:" in text else text.lstrip("./")
    return (
        f"this would be a local file; a grid path has a colon, as in private:{example}, "
        "public:..., an alias and a colon, or a cap"
    )
