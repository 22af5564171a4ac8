"""Whole directories between the grid and this machine (``localdir=``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from ampgrid.caps import Cap, ChkCap, LitCap, parse_cap
from ampgrid.errors import NoSuchChildError, NotDirectoryError
from ampgrid.immutable import FileNode, Operation
from ampgrid.immutable.several import each
from ampgrid.node.core import NodeCore
from ampgrid.vdrive.children import Link
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.web.folders import Folder

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
    #: Below the local directory in which the first one is.
    names: tuple[str, ...]
    #: Read caps of the directories around it.
    around: frozenset[Cap]


async def download_tree(
    core: NodeCore, root: DirectoryNode, folder: Folder, name: str, operation: Operation
) -> Copied:
    """Write all that is below a directory of the grid into a local one.

    Nothing is written through a symbolic link: whoever can change the directory in the grid could
    name any file of this machine so.

    Args:
        core: of the node.
        root: the directory of the grid.
        folder: in which the local directory is, or is made.
        name: of the local directory.
        operation: its progress, and what ends it.

    Raises:
        FileError: this machine does not take it.
        AmpgridError: something in the grid cannot be read.
    """
    copied = Copied()
    places = [_Download(root, (name,), frozenset())]
    while places:
        operation.check()
        place = places.pop()
        with await core.work.run(folder.made, *place.names) as here:
            places += await _download_one(core, place, here, operation, copied)
    return copied


async def _download_one(
    core: NodeCore, place: _Download, here: Folder, operation: Operation, copied: Copied
) -> list[_Download]:
    """Write the files of one directory, and return the directories in it."""
    copied.directories += 1
    listing = await place.node.read()
    for problem in listing.problems:
        copied.leave_out(str(here.shown), problem)
    around = place.around | {place.node.cap.get_readonly()}
    inner: list[_Download] = []
    files: list[Callable[[], Awaitable[Any]]] = []
    for name, child in listing.children.items():
        if isinstance(child.node, FileNode):
            files.append(_downloading(core, child.node, here, name, operation, copied))
        elif child.node.cap.get_readonly() in around:
            copied.leave_out(str(here.shown / name), "this directory is around itself")
        else:
            inner.append(_Download(child.node, (*place.names, name), around))
    await in_turns(files, operation)
    return inner


def _downloading(
    core: NodeCore,
    node: FileNode,
    here: Folder,
    name: str,
    operation: Operation,
    copied: Copied,
) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        await download_file(core, node, here, name, operation)
        copied.files += 1
        copied.bytes += node.get_size()

    return work


async def download_file(
    core: NodeCore, node: FileNode, folder: Folder, name: str, operation: Operation
) -> None:
    """Write a file of the grid into a local directory, whole or not at all."""
    part = Operation()
    operation.on_cancel(part.cancel)
    cap = parse_cap(node.get_uri())
    assert isinstance(cap, ChkCap | LitCap)
    if isinstance(cap, ChkCap):
        await core.settle(cap.needed, part.check)
    writing = await core.work.run(folder.writing, name, core.work, core.entropy)
    await core.downloader.download(cap, writing, part)
    operation.done += node.get_size()


# Into the grid.


async def upload_tree(
    core: NodeCore, folder: Folder, root: DirectoryNode, operation: Operation
) -> Copied:
    """Put all that is below a local directory into a directory of the grid.

    What is there already and has another name stays; files of the same name are replaced.

    Raises:
        FileError: something cannot be read.
        NotDirectoryError: a file of the grid is where a directory has to be.
    """
    copied = Copied()
    places: list[tuple[tuple[str, ...], DirectoryNode]] = [((), root)]
    while places:
        operation.check()
        names, directory = places.pop()
        with await core.work.run(folder.below, *names) as here:
            inner = await _upload_one(core, here, directory, operation, copied)
        for name, local in inner.items():
            places.append(((*names, local), await entered(directory, name)))
    return copied


async def _upload_one(
    core: NodeCore, here: Folder, directory: DirectoryNode, operation: Operation, copied: Copied
) -> Mapping[str, str]:
    """Put the files of one local directory; returns the directories in it (`Entries`)."""
    copied.directories += 1
    entries = await core.work.run(here.entries)
    for name, why in entries.left_out:
        copied.leave_out(name, why)
    links: dict[str, Link | Cap] = {}

    def uploading(name: str, local: str) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            cap = await upload_file(core, here, local, operation)
            links[name] = cap
            copied.files += 1
            copied.bytes += cap.get_size()

        return work

    works = [uploading(name, local) for name, local in entries.files.items()]
    await in_turns(works, operation)
    await directory.set_children(links)
    return entries.directories


async def upload_file(
    core: NodeCore, folder: Folder, name: str, operation: Operation
) -> ChkCap | LitCap:
    """Upload a file of a local directory, which is then linked; returns its cap."""
    part = Operation()
    operation.on_cancel(part.cancel)
    source = await core.work.run(folder.reading, name)
    try:
        uploaded = await core.uploader.upload(source, core.encoding(), part, inline=True)
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
