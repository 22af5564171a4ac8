"""Copying a tree of local files into the grid."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import define, field

from ampgrid.cli.console import ProgressBar
from ampgrid.cli.files import file_metadata, naming
from ampgrid.cli.filling import Filling
from ampgrid.cli.local_tree import LocalDirectory, LocalFile
from ampgrid.cli.pool import Pool
from ampgrid.cli.problems import Problems
from ampgrid.cli.uploading import upload_one

if TYPE_CHECKING:
    from ampgrid.cli.control import Conversation

#: Files that are uploaded at once.
UPLOADS_AT_ONCE = 8
#: A file is watched on its way if it is as large, bytes.
_WATCHED_BYTES = 8_000_000


@define
class Copied:
    """What was copied.

    Attributes:
        files: how many; what was there already is none of them.
        bytes: their size, bytes.
        directories: that were made.
        unchanged: files that were there already as they are.
        to: where it went, as messages call it.
    """

    files: int = 0
    bytes: int = 0
    directories: int = 0
    unchanged: int = 0
    to: str = ""

    def count(self, size: int, *, new: bool) -> None:
        """Count a file of so many bytes, as copied or as there already."""
        self.files += new
        self.bytes += size if new else 0
        self.unchanged += not new

    def to_json(self) -> dict[str, Any]:
        """Return the counts for JSON."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "directories": self.directories,
            "unchanged": self.unchanged,
            "to": self.to,
        }


class Meter:
    """How far several transfers are together, on one bar.

    Args:
        bar: shows it.
        files: how many there are, as far as it is known.
        bytes_: how large they are together.
    """

    def __init__(self, bar: ProgressBar, files: int = 0, bytes_: int = 0) -> None:
        self.files = files
        self.bytes = bytes_
        self._bar = bar
        self._files_done = 0
        self._bytes_done = 0
        self._under_way: dict[object, int] = {}

    @contextmanager
    def file(self, size: int) -> Iterator[ProgressBar]:
        """Count a file as done at the end; gives what shows its own progress."""
        part = _Part(self, shown=self._bar.shown and size >= _WATCHED_BYTES)
        try:
            yield part
        finally:
            self._under_way.pop(part, None)
            self._files_done += 1
            self._bytes_done += size
            self._show()

    def at(self, part: object, done: int) -> None:
        """Note how much of one file is done."""
        self._under_way[part] = done
        self._show()

    def _show(self) -> None:
        done = self._bytes_done + sum(self._under_way.values())
        self._bar.show(f"{self._files_done}/{self.files} files", done, self.bytes)


class _Part(ProgressBar):
    """The progress of one file, as a part of that of all."""

    def __init__(self, meter: Meter, *, shown: bool) -> None:
        super().__init__(shown=False)
        self.shown = shown
        self._meter = meter

    def show(self, phase: str, done: int, total: int) -> None:  # noqa: ARG002 - of the bar
        """Pass it on; only the last phase of an upload counts."""
        if phase != "hashing":
            self._meter.at(self, done)


@define
class _Open:
    """A directory that is being filled, and how many of its files are under way."""

    filling: Filling
    waiting: int
    began_all: bool = field(default=False)


class TreeUpload:
    """Copies local trees into the grid, several files at once.

    Args:
        node: to speak with.
        problems: told of what fails; the rest goes on.
        shares: arguments of `Upload` for k, happiness and n.
    """

    def __init__(
        self, node: Conversation, problems: Problems, shares: dict[str, int] | None = None
    ) -> None:
        self.copied = Copied()
        self._node = node
        self._problems = problems
        self._shares = shares or {}
        self._pool = Pool(UPLOADS_AT_ONCE)
        self._meter = Meter(node.bar)

    async def run(self, tree: LocalDirectory, into: Filling) -> Copied:
        """Put all that is in ``tree`` into a directory; returns what was done.

        A directory appears in the one around it before it is filled, so what was done remains
        if it ends early, and doing it again goes on.

        Raises:
            KeyboardInterrupt: the user has ended it.
            NotConnectedError: the node is gone.
            NotEnoughPeersError: fewer storage peers are connected than any file needs.
        """
        self._meter.files, self._meter.bytes = tree.count()
        waiting: list[tuple[LocalDirectory, Filling]] = [(tree, into)]
        try:
            while waiting:
                directory, filling = waiting.pop()
                inner = await self._enter(directory, filling)
                await self._upload_all(directory, filling)
                waiting += reversed(inner)
        finally:
            await self._pool.abandon()
        await self._pool.end()
        return self.copied

    async def _enter(
        self, directory: LocalDirectory, filling: Filling
    ) -> list[tuple[LocalDirectory, Filling]]:
        """Make the directories in a directory, and begin to fill them."""
        inner: list[tuple[LocalDirectory, Filling]] = []
        with self._problems.of(directory.path or filling.label):
            wanted = {each.name: each.metadata for each in directory.directories}
            found = await filling.subdirectories(wanted)
            for each in directory.directories:
                with self._problems.of(each.path):
                    cap_or_error = found[each.name]
                    if isinstance(cap_or_error, Exception):
                        raise cap_or_error
                    cap, fresh = cap_or_error
                    self.copied.directories += fresh
                    label = filling.path_of(each.name)
                    inner.append((each, await Filling.begin(self._node, cap, label, fresh=fresh)))
        return inner

    async def _upload_all(self, directory: LocalDirectory, filling: Filling) -> None:
        """Begin to upload the files of a directory; the last one to end links what is left."""
        opened = _Open(filling, 0)
        for file in directory.files:
            opened.waiting += 1
            opened.began_all = file is directory.files[-1]
            await self._pool.start(lambda file=file: self._upload(file, opened))  # type: ignore[misc]

    async def _upload(self, file: LocalFile, opened: _Open) -> None:
        filling = opened.filling
        try:
            with self._meter.file(file.size) as bar, self._problems.of(file.path):
                filling.check(file.name)
                cap, metadata = await self._cap_of(file, bar)
                self.copied.count(file.size, new=await filling.add(file.name, cap, metadata))
        finally:
            opened.waiting -= 1
            if opened.began_all and not opened.waiting:
                with self._problems.of(filling.label):
                    await filling.flush()

    async def _cap_of(self, file: LocalFile, bar: ProgressBar) -> tuple[str, dict[str, Any]]:
        """Upload one file; returns its cap, and what its directory tells of it."""
        with _opened(file) as descriptor, naming(file.path, "input"):
            metadata: dict[str, Any] = file_metadata(descriptor)
            if file.target is not None:
                metadata = {"symlink": True}
            cap = await upload_one(self._node, descriptor, bar, self._shares, inline=True)
            return cap, metadata


@contextmanager
def _opened(file: LocalFile) -> Iterator[int]:
    """Give a descriptor to read a file, or the target of a link, from."""
    if file.target is None:
        # Not what has meanwhile become a pipe, which nobody may ever write to.
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    else:
        descriptor = os.memfd_create("link")
        os.write(descriptor, file.target)
        os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
