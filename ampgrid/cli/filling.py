"""Filling directories of the grid, with few changes of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ampgrid.cli.console import said_of
from ampgrid.cli.gridpaths import info_if_there, listing_of
from ampgrid.cli.pool import run_each
from ampgrid.commands.errors import WireError
from ampgrid.errors import ChildExistsError, GridError, NotMutableError

if TYPE_CHECKING:
    from ampgrid.cli.control import Conversation
    from ampgrid.vdrive.paths import GridPath

#: Directories that are made at once.
_MADE_AT_ONCE = 8
#: So much JSON of children is linked in one step, bytes; a Command has room for 62,000.
_STEP_BYTES = 40_000
#: A directory is listed as a whole if more children than these matter.
_ASKED_SINGLY = 16

Metadata = Mapping[str, Any]


class Filling:
    """A directory of the grid into which something is put.

    Args:
        node: to speak with.
        cap: of the directory, the write cap.
        label: what messages call it.
        there: the children that it has already, by name.

    Attributes:
        cap: of the directory.
        label: what messages call it.
    """

    def __init__(
        self, node: Conversation, cap: str, label: str, there: Mapping[str, dict[str, Any]]
    ) -> None:
        self.label = label
        self.cap = cap
        self._node = node
        self._there = there
        self._steps: list[dict[str, Any]] = []
        self._size = 0

    @classmethod
    async def begin(
        cls, node: Conversation, cap: str, label: str, *, fresh: bool = False
    ) -> Filling:
        """Begin to fill a directory; a ``fresh`` one is known to be empty."""
        children = [] if fresh else (await listing_of(node, cap)).children
        return cls(node, cap, label, {child["name"]: child for child in children})

    @classmethod
    async def begin_at(cls, node: Conversation, place: GridPath, names: list[str]) -> Filling:
        """Begin to put children of these names into the directory at a place.

        Raises:
            NotMutableError: it is read-only.
            NoSuchChildWireError: it is not there.
        """
        info = await directory_at(node, place)
        if len(names) > _ASKED_SINGLY:
            return await cls.begin(node, info["cap"], str(place))
        there = {}
        for name in names:
            if (child := await info_if_there(node, place.child(name))) is not None:
                there[name] = child
        return cls(node, info["cap"], str(place), there)

    def path_of(self, name: str) -> str:
        """Return how messages call a child."""
        inner = self.label if self.label.endswith(":") else f"{self.label}/"
        return inner + name

    def of_all(self, names: list[str]) -> str:
        """Return how messages call the place of several children: of the one, or all of it."""
        return self.path_of(names[0]) if len(names) == 1 else self.label

    async def subdirectories(
        self, wanted: Mapping[str, Metadata]
    ) -> dict[str, tuple[str, bool] | Exception]:
        """Return the write cap of each directory of these names, made where it is missing.

        Args:
            wanted: metadata of each by name.

        Returns:
            For each name the cap and whether the directory was made just now; or what is in
            the way.
        """
        found: dict[str, tuple[str, bool] | Exception] = {}
        missing = []
        for name in wanted:
            child = self._there.get(name)
            if child is None:
                missing.append(name)
            elif child["type"] != "directory":
                found[name] = ChildExistsError("a file is there, and no directory replaces it")
            elif not child["mutable"]:
                found[name] = NotMutableError("the directory that is there is read-only")
            else:
                found[name] = child["cap"], False
        found |= await self._make({name: wanted[name] for name in missing})
        return {name: found[name] for name in wanted}

    async def _make(self, wanted: Mapping[str, Metadata]) -> dict[str, tuple[str, bool]]:
        from ampgrid.commands.drive import MakeDirectory
        from ampgrid.commands.errors import ChildExistsWireError, ConditionFailedWireError

        made: dict[str, tuple[str, bool]] = {}

        async def make(name: str) -> None:
            made[name] = (await self._node.call(MakeDirectory))["cap"], True

        await run_each([lambda name=name: make(name) for name in wanted], _MADE_AT_ONCE)  # type: ignore[misc]
        for step in _steps([_child(name, made[name][0], wanted[name]) for name in wanted]):
            try:
                await self._link(step, overwrite=False)
            except (ChildExistsWireError, ConditionFailedWireError):
                # Somebody else makes the same ones just now: all go on in the same directories.
                for child in step:
                    path = f"{self.cap}/{child['name']}"
                    answer = await self._node.call(MakeDirectory, path=path, parents=True)
                    made[child["name"]] = answer["cap"], False
        return made

    async def add(self, name: str, cap: str, metadata: Metadata) -> bool:
        """Put a file, or a directory that is linked as it is, into it.

        It is linked with others, at the latest at `flush`.

        Returns:
            Whether that changes anything: it does not if the same was there already.

        Raises:
            ChildExistsError: a directory of that name is there.
        """
        child = self._there.get(name)
        if child is not None:
            self.check(name)
            known = child["metadata"]
            if child["cap"] == cap and all(known.get(k) == metadata[k] for k in metadata):
                return False
        step = _child(name, cap, metadata)
        size = len(json.dumps(step))
        if self._steps and self._size + size > _STEP_BYTES:
            await self.flush()
        self._steps.append(step)
        self._size += size
        return True

    def has(self, name: str, cap: str) -> bool:
        """Tell whether it has a child of that name and cap already."""
        child = self._there.get(name)
        return child is not None and bool(child["cap"] == cap)

    def check(self, name: str) -> None:
        """Refuse to put a file where a directory is.

        Raises:
            ChildExistsError: there is one.
        """
        child = self._there.get(name)
        if child is not None and child["type"] == "directory":
            raise ChildExistsError("a directory is there, and is not replaced")

    async def flush(self) -> None:
        """Link all that was added.

        Raises:
            AmpgridError: nothing of it was linked.
        """
        steps, self._steps, self._size = self._steps, [], 0
        if not steps:
            return
        try:
            await self._link(steps, overwrite=True)
        except (GridError, WireError) as error:
            what = steps[0]["name"] if len(steps) == 1 else f"{len(steps)} names"
            said = said_of(self.label, f"{what} could not be linked: {error}")
            raise type(error)(said) from None

    async def _link(self, children: list[dict[str, Any]], *, overwrite: bool) -> None:
        from ampgrid.commands.drive import LinkChildren

        # ASCII, and boxes take no DEL either.
        text = json.dumps(children).replace("\x7f", "\\u007f")
        await self._node.call(LinkChildren, path=self.cap, children=text, overwrite=overwrite)


async def directory_at(node: Conversation, place: GridPath) -> dict[str, Any]:
    """Return what is told of the directory at a place, which has to be one to write to.

    Raises:
        NotDirectoryWireError: a file is there.
        NotMutableError: it is read-only.
    """
    from ampgrid.cli.gridpaths import info_of
    from ampgrid.commands.errors import NotDirectoryWireError

    info = await info_of(node, place)
    if info["type"] != "directory":
        raise NotDirectoryWireError(said_of(place, "this is a file, not a directory"))
    if not info["mutable"]:
        raise NotMutableError(
            said_of(place, "this directory is read-only through the cap that leads to it")
        )
    return info


def _child(name: str, cap: str, metadata: Metadata) -> dict[str, Any]:
    return {"name": name, "cap": cap, "metadata": dict(metadata)}


def _steps(children: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return children in lists that each fit into one Command."""
    steps: list[list[dict[str, Any]]] = []
    size = _STEP_BYTES + 1
    for child in children:
        one = len(json.dumps(child))
        if size + one > _STEP_BYTES:
            steps.append([])
            size = 0
        steps[-1].append(child)
        size += one
    return steps
