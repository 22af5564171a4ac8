"""Copying within the grid: new directories, in which the same files are linked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ampgrid.cli.filling import Filling
from ampgrid.cli.gridpaths import listing_of
from ampgrid.cli.problems import Problems
from ampgrid.cli.tree_upload import Copied
from ampgrid.errors import BadArgumentValueError, IntegrityError

if TYPE_CHECKING:
    from ampgrid.cli.control import Conversation

#: What a directory tells anew of every child.
_OWN = ("size", "created", "changed")


def kept_metadata(child: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what is told of a child under another name, or in another directory."""
    left_out = _OWN if child["name"] == name else (*_OWN, "type")
    return {key: value for key, value in child["metadata"].items() if key not in left_out}


class TreeLink:
    """Copies trees within the grid. No data of files move.

    A directory that is met twice, or round a cycle, is copied once and linked as often.

    Args:
        node: to speak with.
        problems: told of what fails; the rest goes on.
    """

    def __init__(self, node: Conversation, problems: Problems) -> None:
        self.copied = Copied()
        self._node = node
        self._problems = problems
        #: {verify cap of a directory: write cap of its copy}
        self._copies: dict[str, str] = {}
        #: Verify caps of the directories that are filled.
        self._filled: set[str] = set()

    async def run(self, children: list[tuple[str, dict[str, Any]]], into: Filling) -> Copied:
        """Put copies of children, each under a name, into a directory.

        Raises:
            KeyboardInterrupt: the user has ended it.
            NotConnectedError: the node is gone.
        """
        self._filled.add(_verify_cap(into.cap))
        waiting = [(children, into)]
        while waiting:
            several, filling = waiting.pop()
            with self._problems.of(filling.label):
                waiting += reversed(await self._fill(several, filling))
        return self.copied

    async def _fill(
        self, children: list[tuple[str, dict[str, Any]]], filling: Filling
    ) -> list[tuple[list[tuple[str, dict[str, Any]]], Filling]]:
        """Link children in a directory; returns what is to be put into directories of it."""
        new: dict[str, dict[str, Any]] = {}
        for name, child in children:
            with self._problems.of(filling.path_of(name)):
                if child["type"] == "directory" and self._is_new(child):
                    new[name] = child
                else:
                    await self._link(name, child, filling)
        inner = []
        found = await filling.subdirectories(
            {name: kept_metadata(child, name) for name, child in new.items()}
        )
        for name, child in new.items():
            label = filling.path_of(name)
            with self._problems.of(label):
                cap_or_error = found[name]
                if isinstance(cap_or_error, Exception):
                    raise cap_or_error
                cap, fresh = cap_or_error
                self.copied.directories += fresh
                self._copies[_verify_cap(child["cap"])] = cap
                self._filled.add(_verify_cap(cap))
                listing = await listing_of(self._node, child["cap"])
                for problem in listing.problems:
                    self._problems.add(label, IntegrityError(problem))
                below = await Filling.begin(self._node, cap, label, fresh=fresh)
                inner.append(([(each["name"], each) for each in listing.children], below))
        await filling.flush()
        return inner

    def _is_new(self, child: dict[str, Any]) -> bool:
        """Tell whether a directory was not copied yet.

        Raises:
            BadArgumentValueError: it is one that is being filled.
        """
        own = _verify_cap(child["cap"])
        if own in self._filled:
            raise BadArgumentValueError("a directory cannot be copied into itself")
        return own not in self._copies

    async def _link(self, name: str, child: dict[str, Any], filling: Filling) -> None:
        cap = child["cap"]
        if child["type"] == "directory":
            cap = self._copies[_verify_cap(cap)]
            if filling.has(name, cap):
                return
            filling.check(name)
        new = await filling.add(name, cap, kept_metadata(child, name))
        if child["type"] != "directory":
            self.copied.count(child["size"] or 0, new=new)


def _verify_cap(cap: str) -> str:
    from ampgrid.caps import parse_cap

    found = parse_cap(cap).get_verify_cap()
    assert found is not None  # only the literal cap of a file has none
    return found.to_string()
