"""The list of kept files as the node's services see it: recorded at every put, read in pages."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ampgrid.caps import ChkCap, ChkVerifierCap, LitCap
from ampgrid.errors import FileError, StoreError
from ampgrid.immutable.encoding import Encoding
from ampgrid.immutable.schedule import Schedule
from ampgrid.ports import Threads, WallClock
from ampgrid.storage.groups import Groups
from ampgrid.store.keptdb import FilePut, KeptDatabase, KeptFile

_log = Logger()

#: Files in one page of the list.
PAGE = 100


class KeptFiles:
    """The files that a node keeps.

    Args:
        database: where they are listed.
        threads: where it is read and written.
        wall: wall-clock time.
        schedule: when a new file is looked at first.

    Attributes:
        count: how many are kept.
        failing: how many of them could not be kept as they should.
    """

    def __init__(
        self, database: KeptDatabase, threads: Threads, wall: WallClock, schedule: Schedule
    ) -> None:
        self._database = database
        self._threads = threads
        self._wall = wall
        self._schedule = schedule
        # Many small files at once are noted with one commit.
        self._groups: Groups[FilePut] = Groups(threads, _spawn, database.record_all)
        self.count = 0
        self.failing = 0
        self._since = 0.0
        self._added = 0

    async def start(self) -> dict[str, str]:
        """Count what is kept; returns the marks of the keeper."""
        await self.recount()
        return await self._threads.run(self._database.marks)

    async def recount(self) -> None:
        """Count the files anew."""
        since = self._since
        counts = await self._threads.run(self._database.counts, since)
        self.count, self.failing, added = counts
        if since == self._since:
            self._added = added

    def added_since(self, moment: float) -> int:
        """Return how many of the files were put after a moment, seconds since 1970.

        For a moment that was not asked for before it is known a little later, and 0 till then.
        """
        if moment != self._since:
            self._since, self._added = moment, 0
            _spawn(self.recount())
        return self._added

    async def remember(self, cap: ChkVerifierCap, encoding: Encoding) -> None:
        """Keep a file from now on; it is on the disk when this returns.

        Raises:
            FileError: it could not be noted.
        """
        now = self._wall()
        put = FilePut(cap, encoding.happy, now, self._schedule.first(now))
        try:
            is_new = bool(await self._groups.run(put))
        except StoreError as error:
            raise FileError(
                "its shares are in the grid, but this node could not note that it has to keep "
                f"them ({error}); put it again"
            ) from error
        self.count += is_new
        self._added += is_new

    async def drop(self, cap: ChkCap | ChkVerifierCap | LitCap) -> bool:
        """Keep a file no longer; tell if it was kept."""
        verify = cap.get_verify_cap()
        if verify is None or not await self._threads.run(self._database.drop, verify):
            return False
        await self.recount()
        return True

    async def get(self, number: int) -> KeptFile | None:
        """Return the file of a row, None if it is kept no longer."""
        return await self._threads.run(self._database.get, number)

    async def find(self, cap: ChkVerifierCap) -> KeptFile | None:
        """Return what is known of a file, None if it is not kept."""
        return await self._threads.run(self._database.find, cap)

    async def page(self, after: int, most: int = PAGE) -> list[KeptFile]:
        """Return files by number, those above ``after``."""
        return await self._threads.run(self._database.page, after, most)

    async def due(self, after: tuple[float, int], until: float) -> list[KeptFile]:
        """Return files by moment (see `KeptDatabase.due`)."""
        return await self._threads.run(self._database.due, after, until, PAGE)

    async def next_due(self) -> float | None:
        """Return the earliest moment at which a file is due, None if nothing is kept."""
        return await self._threads.run(self._database.next_due)

    async def looked_at(self, file: KeptFile, marks: Mapping[str, str]) -> None:
        """Write what a look at a file found, and marks with it."""
        await self._threads.run(self._database.looked_at, file, marks)

    async def marks(self) -> dict[str, str]:
        """Return the marks."""
        return await self._threads.run(self._database.marks)

    async def set_marks(self, marks: Mapping[str, str]) -> None:
        """Write marks."""
        await self._threads.run(self._database.set_marks, marks)


def _spawn(work: Coroutine[Any, Any, None]) -> None:
    Deferred.fromCoroutine(work).addErrback(
        lambda failure: _log.failure("kept files could not be noted", failure)
    )


def kept_json(file: KeptFile) -> dict[str, Any]:
    """Return a kept file for JSON (``docs/reference/keeper.md``)."""
    cap = file.cap
    return {
        "cap": cap.to_string(),
        "size": cap.size,
        "shares": f"{cap.needed}/{file.happy}/{cap.total}",
        "put_at": file.put_at,
        "next_at": file.next_at,
        "renewed_at": file.renewed_at,
        "renewed_servers": file.renewed_servers,
        "checked_at": file.checked_at,
        "verified_at": file.verified_at,
        "shares_good": file.good,
        "shares_bad": file.bad,
        "servers_happy": file.servers_happy,
        "suspected_at": file.suspected_at,
        "repaired_at": file.repaired_at,
        "skips": file.skips,
        "failures": file.failures,
        "problem": file.problem,
    }
