"""What a power cut may leave of a disk: every legal state after a number of recorded changes.

The records are those of `ampgrid.testing.writelog`. `Disk.tree` builds one state that a power
cut at that moment may leave behind:

* What was not synchronised may be there, be missing, or be there in part: any subset of the
  blocks of 512 or 4096 bytes, each as any of the writes to it left it; the length of a file
  likewise, with zeros where no block came.
* A name that was made, moved or removed since its directory was last synchronised may be there
  or not, each name on its own: a rename may show the old name, the new one, both or neither.
* After an fsync that failed, what was written before it may be lost for ever, even if a later
  fsync succeeds (as on Linux), unless it is written again.

That is more than a journalling file system does, and the same for SQLite's files as for all
others: they are not trusted to anything but what SQLite really wrote and synchronised.

What is not modelled: damage to bytes that were synchronised, and disks that lie about that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import attrs

#: The smallest piece of a write that a disk may do alone, bytes.
SECTOR = 512

#: A tree of files: path relative to the root -> contents, None for a directory.
Tree = dict[str, bytes | None]

#: Picks one of ``count`` versions of the thing that ``key`` names; 0 is the oldest.
Pick = Callable[[Hashable, int], int]

#: The number of the directory that holds all.
ROOT = 0


@attrs.frozen
class Wrote:
    """Bytes were written to a file."""

    file: int
    offset: int
    data: bytes


@attrs.frozen
class Truncated:
    """A file was cut or extended to ``size`` bytes."""

    file: int
    size: int


@attrs.frozen
class Synced:
    """A file was synchronised."""

    file: int


@attrs.frozen
class SyncFailed:
    """Synchronising a file failed."""

    file: int


@attrs.frozen
class Named:
    """A name in a directory came to mean another thing, or nothing (None)."""

    directory: int
    name: str
    what: int | None


@attrs.frozen
class NamesSynced:
    """A directory was synchronised."""

    directory: int


@attrs.frozen
class Made:
    """A file or a directory came into being, without a name yet."""

    what: int
    is_directory: bool


@attrs.frozen
class Note:
    """A word of whoever records, such as: this was acknowledged."""

    what: object


Record = Wrote | Truncated | Synced | SyncFailed | Named | NamesSynced | Made | Note


class FileState:
    """A file: what of it is durable, and what was done to it since.

    Attributes:
        durable: its contents as last synchronised.
        pending: the writes and truncations since then, in order.
        doubtful: {number of a sector: its older bytes} where an fsync has failed since.
    """

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = durable
        self.pending: list[Wrote | Truncated] = []
        self.doubtful: dict[int, bytes] = {}
        self._unsaved: set[int] = set()

    def copy(self) -> FileState:
        """Return another one like it."""
        made = FileState(self.durable)
        made.pending = list(self.pending)
        made.doubtful = dict(self.doubtful)
        made._unsaved = set(self._unsaved)
        return made

    def change(self, change: Wrote | Truncated) -> None:
        """Write or truncate."""
        self.pending.append(change)
        if isinstance(change, Wrote):
            self._unsaved -= set(_blocks(change, SECTOR))

    def sync_failed(self) -> None:
        """Note which sectors no later fsync will save."""
        for change in self.pending:
            if isinstance(change, Wrote):
                self._unsaved |= set(_blocks(change, SECTOR))

    def sync(self) -> None:
        """Make durable what is."""
        new = _apply(self.durable, self.pending)
        for change in self.pending:
            if isinstance(change, Wrote):
                for block in _blocks(change, SECTOR):
                    self.doubtful.pop(block, None)
        for block in self._unsaved:
            start = block * SECTOR
            old = self.durable[start : start + SECTOR]
            self.doubtful[block] = old.ljust(len(new[start : start + SECTOR]), b"\0")
        self.durable, self.pending = new, []
        self._unsaved = set()

    def contents(self, key: int, pick: Pick, block: int) -> bytes:
        """Return contents that a power cut may leave.

        Args:
            key: names this file to ``pick``.
            pick: chooses.
            block: of how many bytes the pieces are that reach the disk or not; 0: everything
                reached it in order up to some write, and nothing after that.
        """
        data = self.durable
        if self.doubtful:
            changed = bytearray(data)
            for number, old in self.doubtful.items():
                start = number * SECTOR
                if start < len(data) and not pick((key, "doubt", number), 2):
                    changed[start : start + SECTOR] = old[: len(data) - start]
            data = bytes(changed)
        if not self.pending:
            return data
        if not block:
            return _apply(data, self.pending[: pick((key, "cut"), len(self.pending) + 1)])
        return self._torn(data, key, pick, block)

    def _torn(self, data: bytes, key: int, pick: Pick, block: int) -> bytes:
        touching: dict[int, list[Wrote]] = {}
        sizes = {len(data)}
        size = len(data)
        for change in self.pending:
            if isinstance(change, Wrote):
                size = max(size, _end(change))
                for number in _blocks(change, block):
                    touching.setdefault(number, []).append(change)
            else:
                size = change.size
            sizes.add(size)
        lengths = sorted(sizes)
        length = lengths[pick((key, "length"), len(lengths))]
        result = bytearray(data[:length].ljust(length, b"\0"))
        for number, writes in sorted(touching.items()):
            start = number * block
            if start < length:
                end = min(start + block, length)
                for write in writes[: pick((key, number, block), len(writes) + 1)]:
                    first, last = max(start, write.offset), min(end, _end(write))
                    if first < last:
                        shift = write.offset
                        result[first:last] = write.data[first - shift : last - shift]
        return bytes(result)


def _end(change: Wrote) -> int:
    return change.offset + len(change.data)


def _blocks(change: Wrote, block: int) -> range:
    return range(change.offset // block, (_end(change) - 1) // block + 1)


def _apply(data: bytes, changes: Sequence[Wrote | Truncated]) -> bytes:
    """Return what bytes are after all of these changes."""
    result = bytearray(data)
    for change in changes:
        size = change.size if isinstance(change, Truncated) else change.offset
        if isinstance(change, Truncated):
            del result[size:]
        result.extend(bytes(max(0, size - len(result))))
        if isinstance(change, Wrote):
            result[change.offset : _end(change)] = change.data
    return bytes(result)


class Disk:
    """A disk after some records of a log.

    Attributes:
        files: by number.
        directories: number -> {name: what it meant, the durable meaning first}.
    """

    def __init__(self) -> None:
        self.files: dict[int, FileState] = {}
        self.directories: dict[int, dict[str, list[int | None]]] = {ROOT: {}}

    def copy(self) -> Disk:
        """Return another one like it."""
        made = Disk()
        made.files = {number: file.copy() for number, file in self.files.items()}
        made.directories = {
            number: {name: list(meanings) for name, meanings in names.items()}
            for number, names in self.directories.items()
        }
        return made

    def add_directory(self, number: int) -> None:
        """Add a directory without a name."""
        self.directories[number] = {}

    def apply(self, record: Record) -> None:
        """Do what a record says."""
        match record:
            case Wrote(file=file) | Truncated(file=file):
                self.files[file].change(record)
            case Synced(file=file):
                self.files[file].sync()
            case SyncFailed(file=file):
                self.files[file].sync_failed()
            case Named(directory=directory, name=name, what=what):
                self.directories[directory].setdefault(name, [None]).append(what)
            case NamesSynced(directory=directory):
                names = self.directories[directory]
                self.directories[directory] = {
                    name: [meanings[-1]]
                    for name, meanings in names.items()
                    if meanings[-1] is not None
                }
            case Made(what=what, is_directory=is_directory):
                if is_directory:
                    self.add_directory(what)
                else:
                    self.files[what] = FileState()
            case Note():
                pass

    def tree(self, pick: Pick, block: int = 0) -> Tree:
        """Return a state that a power cut may leave; see `FileState.contents`."""
        tree: Tree = {}
        self._build(ROOT, "", pick, block, tree)
        return tree

    def _build(self, directory: int, prefix: str, pick: Pick, block: int, tree: Tree) -> None:
        for name, meanings in sorted(self.directories[directory].items()):
            number = meanings[pick((directory, name), len(meanings))]
            if number is None:
                continue
            path = prefix + name
            if number in self.directories:
                tree[path] = None
                self._build(number, path + "/", pick, block, tree)
            else:
                tree[path] = self.files[number].contents(number, pick, block)


def oldest(_key: Hashable, _count: int) -> int:
    """Pick nothing but what was synchronised."""
    return 0


def newest(_key: Hashable, count: int) -> int:
    """Pick everything that was written."""
    return count - 1


def digest(tree: Tree) -> bytes:
    """Return a name for a state: equal states have equal ones."""
    hasher = hashlib.blake2b(digest_size=16)
    for path, contents in sorted(tree.items()):
        for part in (path.encode("utf-8", "surrogateescape"), contents or b""):
            hasher.update(len(part).to_bytes(8, "big"))
            hasher.update(part)
        hasher.update(b"d" if contents is None else b"f")
    return hasher.digest()


def write_tree(tree: Tree, target: Path) -> None:
    """Write a state into a new directory."""
    target.mkdir(mode=0o700)
    for path, contents in sorted(tree.items()):
        if contents is None:
            (target / path).mkdir(mode=0o700)
        else:
            (target / path).write_bytes(contents)
