"""What stands in a directory under a name: a cap and metadata, sealed into an entry and opened.

A reader's child never has more than the read cap, whatever the entry says: that holds for what
is opened with read keys alone, here a second time after `ampgrid.formats.entry`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from sys import intern
from typing import Protocol, TypeAlias

from attrs import field, frozen

from ampgrid.caps import Cap, ChkCap, ChkVerifierCap, DirCap, DirReadCap, DirVerifierCap, LitCap
from ampgrid.caps import parse_cap as parse_any_cap
from ampgrid.crypto.directory_keys import ReadKeys, WriteKeys
from ampgrid.errors import AmpgridError, BadCapError
from ampgrid.formats.entry import Entry, open_entry, seal
from ampgrid.ports import Entropy
from ampgrid.vdrive.metadata import NOTHING, Metadata

#: What a name can stand for.
LinkableCap: TypeAlias = ChkCap | LitCap | DirCap | DirReadCap


class Linkable(Protocol):
    """Whatever has a cap: a file node, a directory node."""

    def get_uri(self) -> str:
        """Return the text of the cap."""
        ...


@frozen
class Link:
    """What is to be linked under a name.

    Attributes:
        child: a cap, its text, or a node.
        metadata: what to say of it (`ampgrid.vdrive.metadata`); None for nothing in
            particular.
    """

    child: str | Cap | Linkable = field(repr=False)
    metadata: Metadata | None = None


@frozen
class FoundChild:
    """A child as an entry tells of it.

    Attributes:
        name: in its directory.
        cap: with the right to write only if the directory's write key opened the entry.
        metadata: what the directory tells of it.
        suspect: whether its write cap was ignored, since it is not of what readers get.
    """

    name: str
    cap: LinkableCap
    metadata: Metadata = NOTHING
    suspect: bool = False

    @property
    def size(self) -> int | None:
        """Size of a file, bytes; None of a directory."""
        return size_of(self.cap)


def size_of(cap: LinkableCap) -> int | None:
    """Return the size of a file, bytes; None of a directory."""
    return None if isinstance(cap, DirCap | DirReadCap) else cap.get_size()


def linkable(child: str | Cap | Linkable) -> LinkableCap:
    """Return the cap of what is to be linked.

    Raises:
        BadCapError: it is no cap, its keys contradict each other, or it only verifies.
    """
    if isinstance(child, str):
        cap = parse_any_cap(child)
    elif isinstance(
        child, ChkCap | ChkVerifierCap | LitCap | DirCap | DirReadCap | DirVerifierCap
    ):
        cap = child
    else:
        cap = parse_any_cap(child.get_uri())
    if isinstance(cap, ChkVerifierCap | DirVerifierCap):
        raise BadCapError("this cap can verify but not read; a directory takes what can be read")
    return cap


class Sealer:
    """Seals and opens the entries of one directory.

    Args:
        index: of the directory, 32 bytes.
        read_keys: open names, read caps and metadata.
        write_keys: open and seal write caps; None for a reader.
        entropy: for nonces.
    """

    def __init__(
        self, index: bytes, read_keys: ReadKeys, write_keys: WriteKeys | None, entropy: Entropy
    ) -> None:
        self._index = index
        self._read_keys = read_keys
        self._write_keys = write_keys
        self._entropy = entropy

    def slot_of(self, name: str) -> bytes:
        """Return the slot of a name, 32 bytes."""
        return self._read_keys.slot_of(name)

    def seal(self, name: str, cap: LinkableCap, metadata: Metadata) -> bytes:
        """Return the sealed entry of a child.

        Raises:
            BadArgumentValueError: the metadata is larger than an entry takes.
        """
        write = cap.to_string() if isinstance(cap, DirCap) else ""
        entry = Entry(name, cap.get_readonly().to_string(), write, dict(metadata))
        return seal(entry, self._read_keys, self._write_keys, self._index, self._entropy)

    def open(self, slot: bytes, sealed: bytes) -> FoundChild:
        """Return the child of an entry.

        Raises:
            IntegrityError: it was not sealed with this directory's keys, for this slot.
            FormatError: it is malformed.
            BadCapError: what it names is of no kind that a name can stand for.
        """
        entry = open_entry(sealed, slot, self._read_keys, self._index, self._write_keys)
        text = entry.write if self._write_keys is not None and entry.write else entry.read
        cap = linkable(text)
        if self._write_keys is None:
            cap = cap.get_readonly()
        # One of each key for all children: a listing of 100,000 would have as many of each.
        metadata = {intern(key): value for key, value in entry.metadata.items()}
        return FoundChild(entry.name, cap, metadata, entry.suspect)

    def open_all(
        self, entries: Iterable[tuple[bytes, bytes]]
    ) -> tuple[Sequence[FoundChild], Sequence[str]]:
        """Return the children of entries, and a line for each that cannot be opened."""
        children: list[FoundChild] = []
        problems: list[str] = []
        for slot, sealed in entries:
            try:
                children.append(self.open(slot, sealed))
            except AmpgridError as error:
                problems.append(f"an entry cannot be read: {error}")
        return children, problems
