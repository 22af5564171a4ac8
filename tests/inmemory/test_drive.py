"""The virtual drive against a plain dict: whatever is done to both, they stay the same."""

from __future__ import annotations

import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from ampgrid.caps import LitCap
from ampgrid.errors import (
    BadArgumentValueError,
    ChildExistsError,
    GridError,
    NoSuchChildError,
    NotDirectoryError,
    NotMutableError,
)
from ampgrid.immutable import Data, FileNode
from ampgrid.testing.drive import MemoryDrive
from ampgrid.testing.grid import MemoryGrid
from ampgrid.testing.replicaworld import ReplicaWorld
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.paths import GridPath

#: Two of them are one name in two spellings.
NAMES = st.sampled_from(["a", "b", "c.txt", "caf\u00e9", "cafe\u0301"])
DATA = st.binary(max_size=8)


@attrs.define(eq=False)
class Folder:
    """What a directory should hold: name -> bytes, or a `View` of a folder."""

    children: dict[str, Any] = attrs.field(factory=dict, repr=False)


@attrs.frozen
class View:
    """A folder, through a write cap or a read cap."""

    folder: Folder
    writable: bool = True

    def seen_from(self, writable: bool) -> View:
        """Return what is seen of it through a directory."""
        return View(self.folder, self.writable and writable)


def seen(child: Any, writable: bool) -> Any:
    """Return what is seen of a child through a directory."""
    return child.seen_from(writable) if isinstance(child, View) else child


def spelled(name: str) -> str:
    return unicodedata.normalize("NFC", name)


class DriveMachine(RuleBasedStateMachine):
    """Does the same to a drive and to dicts."""

    views = Bundle("views")

    def open_drive(self) -> Any:
        """Return a drive, and let ``self.run`` run what it does."""
        drive = MemoryDrive()
        self.run = drive.run
        return drive

    @initialize(target=views)
    def begin(self) -> View:
        self.drive = self.open_drive()
        root = Folder()
        node = self.run(self.drive.create_directory())
        self.place = GridPath(node.cap)
        self.nodes = {root: node}
        self.root = View(root)
        return self.root

    # What is done.

    def node_of(self, view: View) -> DirectoryNode:
        node = self.nodes[view.folder]
        return node if view.writable else node.read_only()

    def attempt(self, expected: type[GridError] | None, work: Any) -> Any:
        """Run something that should end as the dicts say."""
        if expected is None:
            return self.run(work)
        with pytest.raises(expected):
            self.run(work)
        return None

    def why_not(self, view: View, name: str, overwrite: bool) -> type[GridError] | None:
        """Return why a child cannot be added."""
        if not view.writable:
            return NotMutableError
        if not overwrite and spelled(name) in view.folder.children:
            return ChildExistsError
        return None

    @rule(target=views, view=views, name=NAMES, overwrite=st.booleans())
    def make_directory(self, view: View, name: str, overwrite: bool) -> View:
        expected = self.why_not(view, name, overwrite)
        making = self.node_of(view).create_empty_directory(name, overwrite=overwrite)
        made = self.attempt(expected, making)
        if made is None:
            return view
        folder = Folder()
        self.nodes[folder] = made
        view.folder.children[spelled(name)] = View(folder)
        return View(folder)

    @rule(target=views, view=views)
    def look_read_only(self, view: View) -> View:
        return View(view.folder, writable=False)

    @rule(view=views, name=NAMES, data=DATA, overwrite=st.booleans())
    def add_file(self, view: View, name: str, data: bytes, overwrite: bool) -> None:
        expected = self.why_not(view, name, overwrite)
        adding = self.node_of(view).add_file(name, Data(data), overwrite=overwrite)
        if self.attempt(expected, adding) is not None:
            view.folder.children[spelled(name)] = data

    @rule(view=views, name=NAMES, linked=views, overwrite=st.booleans())
    def link(self, view: View, name: str, linked: View, overwrite: bool) -> None:
        expected = self.why_not(view, name, overwrite)
        node = self.node_of(linked)
        linking = self.node_of(view).set_node(name, node, overwrite=overwrite)
        if self.attempt(expected, linking) is not None:
            view.folder.children[spelled(name)] = linked

    @rule(view=views, children=st.dictionaries(NAMES, DATA, max_size=4), overwrite=st.booleans())
    def set_children(self, view: View, children: dict[str, bytes], overwrite: bool) -> None:
        names = [spelled(name) for name in children]
        expected: Any = None
        if not view.writable:
            expected = NotMutableError
        elif len(set(names)) < len(names):
            expected = BadArgumentValueError
        elif not overwrite and set(names) & set(view.folder.children):
            expected = ChildExistsError
        caps = {name: LitCap(data) for name, data in children.items()}
        self.attempt(expected, self.node_of(view).set_children(caps, overwrite=overwrite))
        if expected is None:
            view.folder.children.update(zip(names, children.values(), strict=True))

    @rule(view=views, name=NAMES)
    def delete(self, view: View, name: str) -> None:
        expected: type[GridError] | None = None
        if not view.writable:
            expected = NotMutableError
        elif spelled(name) not in view.folder.children:
            expected = NoSuchChildError
        removed = self.attempt(expected, self.node_of(view).delete(name))
        if removed is not None:
            was = view.folder.children.pop(spelled(name))
            self.check_child(removed.node, was)

    @rule(view=views, name=NAMES, into=views, new=NAMES, overwrite=st.booleans())
    def move(self, view: View, name: str, into: View, new: str, overwrite: bool) -> None:
        old, new_name = spelled(name), spelled(new)
        here, there = view.folder.children, into.folder.children
        same = view.folder is into.folder and old == new_name
        moved = here.get(old)
        expected: Any = None
        if not (view.writable and into.writable):
            expected = NotMutableError
        elif moved is None:
            expected = NoSuchChildError
        elif (
            view.folder is not into.folder
            and isinstance(moved, View)
            and moved.folder is into.folder
        ):
            expected = BadArgumentValueError
        elif not overwrite and not same and new_name in there:
            expected = ChildExistsError
        moving = self.node_of(view).move_child_to(
            name, self.node_of(into), new, overwrite=overwrite
        )
        self.attempt(expected, moving)
        if expected is None and not same:
            there[new_name] = moved
            del here[old]

    @rule(names=st.lists(NAMES, max_size=3))
    def make_directories(self, names: list[str]) -> None:
        expected: Any = None
        missing: list[tuple[Folder, str]] = []
        at: Any = self.root
        for name in map(spelled, names):
            if not isinstance(at, View):
                expected = NotDirectoryError
                break
            child = seen(at.folder.children.get(name), at.writable)
            if child is None:
                if not at.writable:
                    expected = NotMutableError
                    break
                child = View(Folder())
                missing.append((at.folder, name))
                at.folder.children[name] = child
            at = child
        else:
            if not isinstance(at, View):
                expected = NotDirectoryError
        self.attempt(expected, self.drive.make_directories(self.place.child(*names)))
        for folder, name in missing:
            made = self.run(self.nodes[folder].get(name))
            assert isinstance(made, DirectoryNode)
            self.nodes[folder.children[name].folder] = made

    # What is seen.

    def check_child(self, node: Any, expected: Any) -> None:
        if isinstance(expected, bytes):
            assert isinstance(node, FileNode)
            assert self.run(node.download_to_data()) == expected
            return
        assert isinstance(node, DirectoryNode)
        assert node.index == self.nodes[expected.folder].index
        assert node.is_mutable() == expected.writable
        assert node.get_uri() == self.node_of(expected).get_uri()

    @rule(view=views, name=NAMES)
    def look(self, view: View, name: str) -> None:
        expected = seen(view.folder.children.get(spelled(name)), view.writable)
        node = self.node_of(view)
        assert self.run(node.has_child(name)) == (expected is not None)
        found = self.attempt(None if expected is not None else NoSuchChildError, node.get(name))
        if expected is not None:
            self.check_child(found, expected)

    @rule(view=views, names=st.lists(NAMES, max_size=4), as_text=st.booleans())
    def follow(self, view: View, names: list[str], as_text: bool) -> None:
        at: Any = view
        expected: type[GridError] | None = None
        for name in map(spelled, names):
            if not isinstance(at, View):
                expected = NotDirectoryError
                break
            at = seen(at.folder.children.get(name), at.writable)
            if at is None:
                expected = NoSuchChildError
                break
        path = "/".join(names) if as_text else names
        found = self.attempt(expected, self.node_of(view).get_child_at_path(path))
        if expected is None:
            self.check_child(found, at)

    @rule(view=views)
    def list_it(self, view: View) -> None:
        found = self.run(self.node_of(view).list())
        assert list(found) == sorted(view.folder.children)
        for name, node in found.items():
            self.check_child(node, seen(view.folder.children[name], view.writable))

    @rule(view=views)
    def take_stock(self, view: View) -> None:
        """All that can be reached, through cycles too, is in the manifest."""
        reached = {view.folder}
        waiting = [view.folder]
        while waiting:
            for child in waiting.pop().children.values():
                if isinstance(child, View) and child.folder not in reached:
                    reached.add(child.folder)
                    waiting.append(child.folder)
        expected = {self.nodes[folder].get_refresh_capability() for folder in reached}
        assert self.run(self.node_of(view).build_manifest()) == expected

    @invariant()
    def every_directory_is_as_its_folder(self) -> None:
        for folder, node in getattr(self, "nodes", {}).items():
            found = self.run(node.list())
            assert sorted(found) == sorted(folder.children)


class ReplicatedDriveMachine(DriveMachine):
    """The same over replicated tables; the replicas are in memory, as is the network."""

    def open_drive(self) -> Any:
        world = ReplicaWorld()
        self.run = world.run
        return MemoryDrive(world.client().tables, clock=world.clock)


class ReplicatedDriveTest(ReplicatedDriveMachine.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(
        max_examples=10,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


class GridDriveMachine(DriveMachine):
    """The same over a whole grid in memory: what is done to all directories in one of them."""

    grid: MemoryGrid

    def open_drive(self) -> Any:
        self.run = self.grid.run
        return self.grid.client.core.drive.virtual


class GridDriveTest(GridDriveMachine.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(
        max_examples=4,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )

    def setUp(self) -> None:
        super().setUp()
        grid = GridDriveMachine.grid = MemoryGrid(Path(tempfile.mkdtemp(dir=".")), nodes=4)
        self.addCleanup(grid.stop)
        grid.start()


class DriveTest(DriveMachine.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(
        max_examples=40,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
