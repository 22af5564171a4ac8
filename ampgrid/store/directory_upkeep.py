"""What a store of directories does about time, for a service that decides when.

`DirectoryStore` hands this out as ``upkeep``. All calls block, may come from any thread, and take
the store's own time (`ampgrid.store.timekeeping`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from ampgrid.register import acceptor
from ampgrid.store import directory_leases, directory_nodes, directory_walks, marks
from ampgrid.store.directory_accounts import Booking, Bookings
from ampgrid.store.directory_changes import AcceptJob, Inside
from ampgrid.store.sql import Database, Job, Sql

_EXPIRED = "expired"


@attrs.frozen
class DirectoryCounts:
    """What became of directories without a lease.

    Attributes:
        marked: how many are marked.
        expired: how many were dropped, ever.
    """

    marked: int = 0
    expired: int = 0


class _UpkeepJob(Job[int]):
    """A job on many directories; what it books is taken back if it is undone.

    Args:
        inside: of the store.
        now: the time, seconds since 1970.
        grace: seconds for which a directory has to be marked before it is dropped.
    """

    vital = True

    def __init__(self, inside: Inside, now: int, *, grace: int = 0) -> None:
        self._inside = inside
        self._now = now
        self._grace = grace
        self._booked = Bookings(inside.accounts)
        self._touched: list[bytes] = []

    def run(self, sql: Sql) -> int:
        """Act; what an earlier run booked is taken back first."""
        self.undone()
        try:
            return self.act(sql)
        except BaseException:
            self.undone()
            raise

    def act(self, sql: Sql) -> int:
        """Do one batch or slice; what is returned is the result of the job."""
        raise NotImplementedError

    def book(self, booking: Booking) -> None:
        """Change the accounts, until the job is undone."""
        self._booked.add(*booking)

    def committed(self) -> None:
        self._booked.stand()

    def undone(self) -> None:
        self._booked.take_back()
        for index in self._touched:
            self._inside.rows.forget(index)

    def drop(self, sql: Sql, indexes: Sequence[bytes]) -> None:
        """Drop directories, all but their ballots; their nodes go with the next sweeps."""
        rows = self._inside.rows
        for index in indexes:
            self._touched.append(index)
            rows.forget(index)
            row = rows.load(sql, index)
            if row.id is None:
                continue
            counted = sql.execute(
                "SELECT count(*) FROM leases WHERE directory = ?", (row.id,)
            ).fetchone()
            assert counted is not None
            directory_walks.delete_all(sql, row.id)
            self.book(("live", -row.live, row.maker))
            self.book(("leases", -counted[0], None))
            self.book(("directories", -1, row.maker))
            if row.held is None:
                self.book(("promises", -1, row.maker))
            rows.drop(sql, index, acceptor.forget(row.state))


class _WalkJob(_UpkeepJob):
    """A slice of a walk (see `directory_walks`); returns 0 if there is none."""

    def act(self, sql: Sql) -> int:
        walk = directory_walks.pending(sql)
        if walk is None:
            return 0
        live = self._inside.live_root(sql, walk.directory)
        for booking in directory_walks.go_on(sql, walk, live):
            self.book(booking)
        return 1


class _SweepJob(_UpkeepJob):
    """Deletes a batch of nodes that are long gone; returns how many."""

    def act(self, sql: Sql) -> int:
        rows = directory_nodes.due(sql, self._now - directory_nodes.GONE_SECONDS)
        for booking in self._inside.delete_gone(sql, rows):
            self.book(booking)
        return len(rows)


class _LongJob(_UpkeepJob):
    """A slice of what another job has to look at; returns whether that can be run again."""

    vital = False

    def __init__(self, inside: Inside, job: AcceptJob) -> None:
        super().__init__(inside, 0)
        self._job = job

    def act(self, sql: Sql) -> int:
        def book(bookings: Iterable[Booking]) -> None:
            for booking in bookings:
                self.book(booking)

        return self._job.go_on(sql, book)


class _ExpireJob(_UpkeepJob):
    """Drops a batch of directories without a lease; returns how many."""

    def act(self, sql: Sql) -> int:
        due = directory_leases.due(sql, self._now, self._grace)
        self.drop(sql, due)
        if due:
            marks.write(sql, _EXPIRED, (marks.read(sql, _EXPIRED) or 0) + len(due))
        return len(due)


class _OutdatedJob(_UpkeepJob):
    """Drops a batch that were left long ago, or never came; returns how many."""

    def act(self, sql: Sql) -> int:
        outdated = directory_leases.outdated(sql, self._now)
        self.drop(sql, outdated)
        return len(outdated)


class _OldPointersJob(_UpkeepJob):
    """Deletes a batch of pointers that nobody put for a year; returns how many."""

    def act(self, sql: Sql) -> int:
        rows = sql.execute(
            "SELECT name, peer FROM pointers WHERE put_at <= ? ORDER BY put_at LIMIT ?",
            (self._now - directory_leases.SNAPSHOT_SECONDS, directory_leases.DIRECTORIES_A_BATCH),
        ).fetchall()
        for name, peer in rows:
            sql.execute("DELETE FROM pointers WHERE name = ?", (name,))
            self.book(("pointers", -1, peer))
        return len(rows)


class DirectoryUpkeep:
    """Time and leases of one store of directories.

    Args:
        database: the store's.
        inside: of the store.
    """

    def __init__(self, database: Database, inside: Inside) -> None:
        self._database = database
        self._inside = inside

    def keep_time(self, now: int) -> None:
        """Write the latest time seen down; an earlier one than is there changes nothing."""
        marks.keep_time(self._database, now)

    def walk(self) -> bool:
        """Do a slice of what is still to be done to large directories; tell if there was any."""
        return bool(self._database.run(_WalkJob(self._inside, 0)))

    def go_on(self, job: AcceptJob) -> bool:
        """Do a slice of what a job has to look at; tell whether it can be run again.

        Raises:
            FormatError: it cannot be done; see `DirectoryStore.accepting`.
        """
        return bool(self._database.run(_LongJob(self._inside, job)))

    def sweep(self, now: int) -> int:
        """Delete a batch of nodes that were replaced or staged an hour ago; returns how many."""
        return self._database.run(_SweepJob(self._inside, now))

    def drop_outdated(self, now: int) -> int:
        """Drop a batch of directories that were left 90 days ago, or never came; how many."""
        return self._database.run(_OutdatedJob(self._inside, now))

    def mark_ended(self, now: int) -> int:
        """Mark a batch of directories whose last lease has run out; returns how many."""
        return self._database.call(lambda sql: directory_leases.mark_ended(sql, now), vital=True)

    def expire(self, now: int, grace: int) -> int:
        """Drop a batch of directories that were marked a grace ago and have no lease.

        Returns:
            How many; 0 when there are none left.
        """
        return self._database.run(_ExpireJob(self._inside, now, grace=grace))

    def drop_pointers(self, now: int) -> int:
        """Drop a batch of pointers to snapshots that nobody put for a year; returns how many."""
        return self._database.run(_OldPointersJob(self._inside, now))

    def forget_marks(self) -> None:
        """Take all marks away: the grace begins anew."""
        self._database.call(
            lambda sql: sql.execute(
                "UPDATE directories SET marked_at = NULL WHERE marked_at IS NOT NULL"
            ),
            vital=True,
        )

    def count(self) -> DirectoryCounts:
        """Count what has no lease."""

        def count(sql: Sql) -> DirectoryCounts:
            row = sql.execute(
                "SELECT count(*) FROM directories WHERE marked_at IS NOT NULL"
            ).fetchone()
            assert row is not None
            return DirectoryCounts(int(row[0]), marks.read(sql, _EXPIRED) or 0)

        return self._database.read(count)
