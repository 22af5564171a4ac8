"""The index of the blobs in one namespace, kept in a directory of the grid.

Each child is a blob that is there, or the memory of a deleted one, under the blob's id; so what
becomes of a name is decided by one atomic change of one entry, whoever else is at it. The cap of
a blob's child gives its sealed bytes; of a deleted one it is an empty literal. The child ``#``
counts: its number grows with every blob that comes or is deleted, in the same change.

Names, sizes and flags are sealed in the directory: whoever keeps its replicas sees none of them.

Spec: ``docs/specs/blobs.md#grid``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from attrs import evolve, field, frozen

from ampgrid.blobs.adapting import deleted, missing, taken
from ampgrid.blobs.port import TOMBSTONE_SECONDS
from ampgrid.caps import ChkCap, DirCap, LitCap
from ampgrid.errors import (
    BadArgumentValueError,
    BlobError,
    BlobNotFoundError,
    ConditionFailedError,
    FormatError,
    SnapshotGoneError,
)
from ampgrid.formats.blobname import BlobName, Flag, flag_bits, flags_of_bits
from ampgrid.vdrive.children import FoundChild, Sealer
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.maker import NodeMaker
from ampgrid.vdrive.metadata import Metadata
from ampgrid.vdrive.ports import Changes, Lookup

#: The child that counts; no blob can be called so.
COUNTER = "#"
#: The version of what is told of a child.
VERSION = 1
#: The most deleted blobs that one change forgets.
MOST_FORGOTTEN = 32
_NOTHING = LitCap(b"")
#: A listing is begun again so often when the version that was being read is gone.
_READ_TRIES = 3


@frozen
class Entry:
    """What the index tells of a name.

    Attributes:
        place: in the order of coming and going.
        moment: when it came or was deleted, seconds since 1970 by the clock of who did it.
        cap: gives the sealed bytes; None of a deleted blob.
        size: of the sealed bytes.
        tag: the last 16 of them.
        flags: of the blob.
    """

    place: int
    moment: float
    cap: ChkCap | LitCap | None = field(default=None, repr=False)
    size: int = 0
    tag: bytes = b""
    flags: tuple[Flag, ...] = ()


class _DeclinedError(ConditionFailedError):
    """A plan does not go on: what it found on its base is against it."""

    def __init__(self, reason: BlobError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class BlobIndex:
    """The index of one namespace.

    Args:
        namespace: which.
        directory: that holds it.
        maker: makes nodes.
    """

    def __init__(self, namespace: str, directory: DirectoryNode, maker: NodeMaker) -> None:
        cap = directory.cap
        self._namespace = namespace
        self._maker = maker
        self._table = maker.table(cap)
        if isinstance(cap, DirCap):
            self._sealer = Sealer(cap.index, cap.keys.read, cap.keys, maker.entropy)
        else:
            self._sealer = Sealer(cap.index, cap.keys, None, maker.entropy)
        self._seen: tuple[bytes, dict[str, Entry]] | None = None

    # Looking.

    async def find(self, blob_id: str) -> Entry | None:
        """Return what is told of a name; None of one that is not there.

        Raises:
            AmpgridError: the directory could not be read.
        """
        slot = self._sealer.slot_of(blob_id)
        sealed = await self._table.get(slot)
        return self._fresh(self._opened(slot, sealed))

    async def get(self, blob_id: str) -> Entry:
        """Return what is told of a blob that is there.

        Raises:
            BlobNotFoundError: it is not there.
            AmpgridError: the directory could not be read.
        """
        entry = await self.find(blob_id)
        if entry is None or entry.cap is None:
            raise self._missing(blob_id)
        return entry

    async def all(self) -> Mapping[str, Entry]:
        """Return all there is, by id; what cannot be opened is left out.

        Raises:
            AmpgridError: the directory could not be read.
        """
        root = (await self._table.record()).root
        if self._seen is None or self._seen[0] != root:
            self._seen = root, await self._read()
        now = self._maker.wall()
        return {i: entry for i, entry in self._seen[1].items() if not _is_old(entry, now)}

    async def _read(self) -> dict[str, Entry]:
        for attempt in range(1, _READ_TRIES + 1):
            entries: dict[str, Entry] = {}
            try:
                async for page in self._table.entries():
                    opening = self._maker.threads.run(self._sealer.open_all, page)
                    children, _problems = await opening
                    found = ((child.name, _entry_of(child)) for child in children)
                    entries.update((name, entry) for name, entry in found if entry is not None)
            except SnapshotGoneError:
                if attempt == _READ_TRIES:
                    raise
            else:
                return entries
        raise AssertionError("the last attempt raises")

    # Changing.

    async def check_free(self, blob_id: str, size: int, tag: bytes) -> bool:
        """Tell whether a blob may be put; False if that very blob is there.

        Raises:
            BlobAlreadyExistsError: another one is there.
            BlobDeletedError: one was deleted lately.
            AmpgridError: the directory could not be read.
        """
        return self._is_free(blob_id, await self.find(blob_id), size, tag)

    async def put(self, blob_id: str, entry: Entry) -> None:
        """Let a blob be there; its place is given to it here.

        Raises:
            BlobAlreadyExistsError: another one is there.
            BlobDeletedError: one was deleted lately.
            AmpgridError: the directory could not be changed.
        """

        def change(found: Entry | None) -> Entry | None:
            free = self._is_free(blob_id, found, entry.size, entry.tag)
            return entry if free else None

        await self._change(blob_id, change, counts=True)

    async def delete(self, blob_id: str) -> Entry | None:
        """Turn a blob into the memory of it; returns it, None if it had been deleted before.

        Some memories that are too old go in the same change, so that no index grows for ever.

        Raises:
            BlobNotFoundError: it is not there, and was not lately.
            AmpgridError: the directory could not be changed.
        """
        gone: list[Entry] = []

        def change(found: Entry | None) -> Entry | None:
            gone.clear()
            if found is None:
                raise _DeclinedError(self._missing(blob_id))
            if found.cap is None:
                return None
            gone.append(found)
            return Entry(0, self._maker.wall())

        if self._seen is None:
            await self.all()
        await self._change(blob_id, change, counts=True, forgets=self._old())
        return gone[0] if gone else None

    async def set_flags(self, blob_id: str, flags: tuple[Flag, ...]) -> None:
        """Let a blob have these flags.

        Raises:
            BlobNotFoundError: it is not there.
            AmpgridError: the directory could not be changed.
        """

        def change(found: Entry | None) -> Entry | None:
            if found is None or found.cap is None:
                raise _DeclinedError(self._missing(blob_id))
            return None if found.flags == flags else evolve(found, flags=flags)

        await self._change(blob_id, change)

    async def forget_old(self) -> int:
        """Forget some of those that were deleted too long ago; returns how many.

        Raises:
            AmpgridError: the directory could not be changed.
        """
        await self.all()
        slots = self._old()

        async def plan(lookup: Lookup) -> Changes:
            return self._forgotten(await lookup(slots))

        if slots:
            await self._table.change(plan, slots)
        return len(slots)

    def _old(self) -> tuple[bytes, ...]:
        """Return slots of what was deleted too long ago, as far as that was read; some of them."""
        if self._seen is None:
            return ()
        now = self._maker.wall()
        old = (i for i, entry in self._seen[1].items() if _is_old(entry, now))
        return tuple(self._sealer.slot_of(blob_id) for blob_id in islice(old, MOST_FORGOTTEN))

    def _forgotten(self, found: Mapping[bytes, bytes | None]) -> dict[bytes, bytes | None]:
        """Return what takes out of the table what is too old among the entries found."""
        now = self._maker.wall()
        return {
            slot: None
            for slot, sealed in found.items()
            if (entry := self._opened(slot, sealed)) is not None and _is_old(entry, now)
        }

    async def _change(
        self,
        blob_id: str,
        change: Callable[[Entry | None], Entry | None],
        *,
        counts: bool = False,
        forgets: tuple[bytes, ...] = (),
    ) -> None:
        """Change one entry, atomically.

        Args:
            blob_id: whose.
            change: told what is there, returns what shall be; None to leave it as it is.
            counts: whether it gets the next place.
            forgets: slots of what may be too old, and goes then.
        """
        slot, counter = self._sealer.slot_of(blob_id), self._sealer.slot_of(COUNTER)
        own = (slot, counter) if counts else (slot,)
        beside = tuple(old for old in forgets if old not in own)
        slots = (*own, *beside)

        async def plan(lookup: Lookup) -> Changes:
            found = await lookup(slots)
            try:
                made = change(self._fresh(self._opened(slot, found[slot])))
            except BlobError as error:
                raise _DeclinedError(error) from error
            if made is None:
                return {}
            changes = self._forgotten({old: found[old] for old in beside})
            if counts:
                made = evolve(made, place=self._place(counter, found[counter]) + 1)
                told = {"blob": VERSION, "place": made.place}
                changes[counter] = self._sealer.seal(COUNTER, _NOTHING, told)
            changes[slot] = self._sealer.seal(blob_id, made.cap or _NOTHING, _told(made))
            return changes

        try:
            await self._table.change(plan, slots)
        except _DeclinedError as declined:
            raise declined.reason from None

    # Entries.

    def _place(self, slot: bytes, sealed: bytes | None) -> int:
        if sealed is None:
            return 0
        place = self._sealer.open(slot, sealed).metadata.get("place")
        if not isinstance(place, int) or isinstance(place, bool) or place < 0:
            raise FormatError("The index of the blobs is damaged: it does not count.")
        return place

    def _opened(self, slot: bytes, sealed: bytes | None) -> Entry | None:
        if sealed is None:
            return None
        entry = _entry_of(self._sealer.open(slot, sealed))
        if entry is None:
            raise FormatError("The index of the blobs holds something that is no blob.")
        return entry

    def _fresh(self, entry: Entry | None) -> Entry | None:
        return None if entry is None or _is_old(entry, self._maker.wall()) else entry

    def _is_free(self, blob_id: str, found: Entry | None, size: int, tag: bytes) -> bool:
        if found is None:
            return True
        name = BlobName(self._namespace, blob_id)
        if found.cap is None:
            raise deleted(name)
        if (found.size, found.tag) != (size, tag):
            raise taken(name)
        return False

    def _missing(self, blob_id: str) -> BlobNotFoundError:
        return missing(BlobName(self._namespace, blob_id))


def _is_old(entry: Entry, now: float) -> bool:
    return entry.cap is None and entry.moment <= now - TOMBSTONE_SECONDS


def _told(entry: Entry) -> Metadata:
    """Return what the directory tells of a child."""
    told: dict[str, str | int | float | bool] = {
        "blob": VERSION,
        "place": entry.place,
        "changed": entry.moment,
    }
    if entry.cap is not None:
        told |= {"size": entry.size, "tag": entry.tag.hex(), "flags": flag_bits(entry.flags)}
    return told


def _entry_of(child: FoundChild) -> Entry | None:
    """Return what a child is; None of one that is no blob, or of another version."""
    told = child.metadata
    place, moment = _whole(told.get("place")), told.get("changed")
    if told.get("blob") != VERSION or place is None or not isinstance(moment, int | float):
        return None
    cap = child.cap
    if cap == _NOTHING:
        return Entry(place, float(moment))
    size, bits = _whole(told.get("size")), _whole(told.get("flags"))
    if not isinstance(cap, ChkCap | LitCap) or size != cap.get_size() or bits not in range(16):
        return None
    try:
        name, tag = BlobName.of(child.name), bytes.fromhex(str(told.get("tag")))
    except (BadArgumentValueError, ValueError):
        return None
    if len(tag) != 16 or size < 16:
        return None
    assert name.blob_id == child.name
    return Entry(place, float(moment), cap, size, tag, flags_of_bits(bits or 0))


def _whole(value: object) -> int | None:
    """Return a number that counts something; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        return None
    return value


def in_order(
    entries: Mapping[str, Entry], order_by: str | None, after: str | None, most: int
) -> tuple[Sequence[str], str | None]:
    """Return a page of a listing, and where the next one begins.

    Args:
        entries: what is listed.
        order_by: see `ampgrid.blobs.port.Remote.page`.
        after: see there.
        most: ids in the page.

    Raises:
        BadArgumentValueError: ``after`` is no place in such a listing.
    """
    if order_by is None:
        ids = sorted(i for i in entries if after is None or i > after)
        return ids[:most], ids[most - 1] if len(ids) > most else None
    if after is not None and not (after.isascii() and after.isdecimal() and len(after) < 20):
        raise BadArgumentValueError("That is no place in a listing.")
    sign = -1 if order_by == "-date" else 1
    begin = None if after is None else sign * int(after)
    pairs = sorted((sign * entry.place, i) for i, entry in entries.items())
    rest = [pair for pair in pairs if begin is None or pair[0] > begin]
    page = [i for _place, i in rest[:most]]
    return page, str(abs(rest[most - 1][0])) if len(rest) > most else None
