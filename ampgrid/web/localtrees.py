"""Whole directories between the grid and this machine (``localdir=``)."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from ampgrid.caps import MAX_INLINE_SIZE, Cap, ChkCap, LitCap, parse_cap
from ampgrid.errors import AmpgridError, FileError, NoSuchChildError, NotDirectoryError
from ampgrid.formats.names import checked_name
from ampgrid.immutable import FileNode, OpenFile, Operation, ToFile
from ampgrid.immutable.several import each
from ampgrid.node.core import NodeCore
from ampgrid.vdrive.children import Link
from ampgrid.vdrive.dirnode import DirectoryNode

#: Files that are moved at once.
AT_ONCE = 8
#: Problems that are told of at most.
MOST_PROBLEMS = 1_000


@define
class Copied:
    """What was copied.

    Attributes:
        files: how many.
        directories: how many were met, the first included.
        bytes: of the files.
        problems: a line for each thing that was left out.
    """

    files: int = 0
    directories: int = 0
    bytes: int = 0
    problems: list[str] = field(factory=list)

    def leave_out(self, name: str, why: str) -> None:
        """Note that something is left out."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(f"{name}: {why}")

    def to_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "files": self.files,
            "directories": self.directories,
            "bytes": self.bytes,
            "problems": self.problems,
        }


async def in_turns(works: Iterable[Callable[[], Awaitable[Any]]], operation: Operation) -> None:
    """Do pieces of work, some at once.

    Raises:
        Exception: the first that one of them raised.
    """

    def started(work: Callable[[], Awaitable[Any]]) -> Callable[[], Deferred[Any]]:
        return lambda: Deferred.fromCoroutine(work())  # type: ignore[arg-type]

    waiting = list(works)
    for start in range(0, len(waiting), AT_ONCE):
        operation.check()
        some = waiting[start : start + AT_ONCE]
        outcomes = await each({n: started(work) for n, work in enumerate(some)})
        for outcome in outcomes.values():
            if isinstance(outcome, Exception):
                raise outcome


# Out of the grid.


@frozen
class _Download:
    node: DirectoryNode
    path: Path
    #: Read caps of the directories around it.
    around: frozenset[Cap]


async def download_tree(
    core: NodeCore, root: DirectoryNode, path: Path, operation: Operation
) -> Copied:
    """Write all that is below a directory of the grid into a local one.

    Nothing is written through a symbolic link: whoever can change the directory in the grid could
    name any file of this machine so.

    Raises:
        FileError: this machine does not take it.
        AmpgridError: something in the grid cannot be read.
    """
    copied = Copied()
    places = [_Download(root, path, frozenset())]
    while places:
        operation.check()
        place = places.pop()
        await core.work.run(_made_directory, place.path)
        copied.directories += 1
        listing = await place.node.read()
        for problem in listing.problems:
            copied.leave_out(str(place.path), problem)
        around = place.around | {place.node.cap.get_readonly()}
        files: list[Callable[[], Awaitable[Any]]] = []
        for name, child in listing.children.items():
            target = place.path / name
            if isinstance(child.node, FileNode):
                files.append(_downloading(core, child.node, target, operation, copied))
            elif child.node.cap.get_readonly() in around:
                copied.leave_out(str(target), "this directory is around itself")
            else:
                places.append(_Download(child.node, target, around))
        await in_turns(files, operation)
    return copied


def _downloading(
    core: NodeCore, node: FileNode, target: Path, operation: Operation, copied: Copied
) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        await download_file(core, node, target, operation)
        copied.files += 1
        copied.bytes += node.get_size()

    return work


async def download_file(
    core: NodeCore, node: FileNode, target: Path, operation: Operation
) -> None:
    """Write a file of the grid to this machine, whole or not at all."""
    part = Operation()
    operation.on_cancel(part.cancel)
    cap = parse_cap(node.get_uri())
    assert isinstance(cap, ChkCap | LitCap)
    if isinstance(cap, ChkCap):
        await core.settle(cap.needed, part.check)
    writing = await core.work.run(ToFile, target, core.work, core.entropy)
    await core.downloader.download(cap, writing, part)
    operation.done += node.get_size()


def _made_directory(path: Path) -> None:
    """Make a directory, if it is not there (in a thread)."""
    try:
        if path.is_symlink():
            raise FileError("a symbolic link is where a directory would be written")
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(f"a local directory cannot be made: {error.strerror}") from error


# Into the grid.


@frozen
class _Entries:
    files: Mapping[str, Path]
    directories: Mapping[str, Path]
    left_out: tuple[tuple[str, str], ...]


def _entries(path: Path) -> _Entries:
    """Return what is in a local directory (in a thread); links are not followed."""
    files: dict[str, Path] = {}
    directories: dict[str, Path] = {}
    left_out: list[tuple[str, str]] = []
    try:
        with os.scandir(path) as found:
            for entry in sorted(found, key=lambda each: each.name):
                try:
                    name = checked_name(entry.name)
                except AmpgridError as error:
                    left_out.append((ascii(entry.path), str(error)))
                    continue
                if entry.is_dir(follow_symlinks=False):
                    directories[name] = Path(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    files[name] = Path(entry.path)
                else:
                    left_out.append((entry.path, "neither a file nor a directory"))
    except OSError as error:
        raise FileError(f"a local directory cannot be read: {error.strerror}") from error
    return _Entries(files, directories, tuple(left_out))


async def upload_tree(
    core: NodeCore, path: Path, root: DirectoryNode, operation: Operation
) -> Copied:
    """Put all that is below a local directory into a directory of the grid.

    What is there already and has another name stays; files of the same name are replaced.

    Raises:
        FileError: something cannot be read.
        NotDirectoryError: a file of the grid is where a directory has to be.
    """
    copied = Copied()
    places = [(path, root)]
    while places:
        operation.check()
        here, directory = places.pop()
        copied.directories += 1
        entries = await core.work.run(_entries, here)
        for name, why in entries.left_out:
            copied.leave_out(name, why)
        links: dict[str, Link | Cap] = {}
        await in_turns(
            [
                _uploading(core, each_path, name, links, operation, copied)
                for name, each_path in entries.files.items()
            ],
            operation,
        )
        await directory.set_children(links)
        for name, each_path in entries.directories.items():
            places.append((each_path, await entered(directory, name)))
    return copied


def _uploading(
    core: NodeCore,
    path: Path,
    name: str,
    links: dict[str, Link | Cap],
    operation: Operation,
    copied: Copied,
) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        cap = await upload_file(core, path, operation)
        links[name] = cap
        copied.files += 1
        copied.bytes += cap.get_size()

    return work


async def upload_file(core: NodeCore, path: Path, operation: Operation) -> ChkCap | LitCap:
    """Upload a local file that is then linked; returns its cap."""
    part = Operation()
    operation.on_cancel(part.cancel)
    source = await core.work.run(OpenFile.at, path, follow=False)
    try:
        uploaded = await core.uploader.upload(
            source, core.encoding(), part, lit_size=MAX_INLINE_SIZE
        )
    finally:
        source.close()
    operation.done += uploaded.size
    return uploaded.cap


async def entered(directory: DirectoryNode, name: str) -> DirectoryNode:
    """Return the directory of a name, which is made if it is missing.

    Raises:
        NotDirectoryError: a file has the name.
    """
    try:
        node = await directory.get(name)
    except NoSuchChildError:
        return await directory.create_empty_directory(name, overwrite=True)
    if isinstance(node, FileNode):
        raise NotDirectoryError(f"{name!r} is a file, and a directory has to be there")
    return node
