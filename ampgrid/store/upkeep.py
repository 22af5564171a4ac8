"""What a store does about time and decay, for a service that decides when.

Times, expiry, scrub: `ShareStore` hands this out as `ShareStore.upkeep`. All calls block, may
come from any thread, and take the time as an argument: the store's own
(`ampgrid.store.timekeeping`).
"""

from __future__ import annotations

from functools import partial

import attrs

from ampgrid.store import catalog, expiry, marks
from ampgrid.store.catalog import Finding
from ampgrid.store.expiry import Expired, ExpireJob, LeaseCounts, Marking, Remover
from ampgrid.store.filesystem import FileSystem
from ampgrid.store.health import Health
from ampgrid.store.locks import ShareLocks
from ampgrid.store.readers import Readers
from ampgrid.store.recovery import Places
from ampgrid.store.scrubbing import Examiner, ScrubProgress, Walk
from ampgrid.store.space import Space
from ampgrid.store.sql import Database, Sql
from ampgrid.store.timekeeping import Beginning


class ShareUpkeep:
    """Time and decay of one store; implements `ampgrid.store.port.StoreUpkeep`.

    Args:
        database: the store's.
        files: the file system.
        places: where things are.
        health: of the store.
        space: the accounts.
        readers: open files of shares.
        locks: keep uploads of the same shares away.
        beginning: the store's time when it was opened.

    Attributes:
        beginning: as given.
        examiner: looks at shares.
    """

    def __init__(
        self,
        database: Database,
        files: FileSystem,
        places: Places,
        health: Health,
        space: Space,
        readers: Readers,
        locks: ShareLocks,
        beginning: Beginning,
    ) -> None:
        self.beginning = beginning
        self._health = health
        self.examiner = Examiner(database, files, places, health, space, readers, locks)
        self._database = database
        self._space = space
        self._readers = readers
        self._remover = Remover(database, files, places, health, locks)

    @property
    def broken(self) -> bool:
        """Whether the disk failed and no probe has passed since."""
        return self._health.broken

    @property
    def damaged(self) -> bool:
        """Whether pages of the database were found to be none, since the store was opened."""
        return self._database.damaged

    # Time.

    def keep_time(self, now: int) -> None:
        """Write the latest time seen down; an earlier one than is there changes nothing."""
        marks.keep_time(self._database, now)

    # Expiry.

    def mark_ended(self, now: int, after: tuple[int, bytes] | None = None) -> Marking:
        """Mark a batch of files whose last lease has run out; see `ampgrid.store.expiry`.

        Args:
            now: the time.
            after: ``last`` of the batch before, None for the first.
        """
        return self._database.call(
            lambda sql: expiry.mark_ended(sql, now, (-1, b"") if after is None else after),
            vital=True,
        )

    def expire(self, now: int, grace: int) -> Expired:
        """Delete a batch of files that were marked ``grace`` seconds ago and have no lease.

        Their files are still there, and removed by `remove_files`.
        """
        return self._database.run(ExpireJob(now, grace, self._space, self._readers))

    def remove_files(self) -> int:
        """Remove a batch of files whose shares have expired; return how many, 0 for none left.

        Raises:
            BrokenStoreError: the disk refused; they are tried again next time.
        """
        return self._remover.remove_batch()

    def forget_marks(self) -> None:
        """Take all marks away: the grace begins anew."""
        self._database.call(lambda sql: sql.execute("DELETE FROM marked"), vital=True)

    def count_leases(self) -> LeaseCounts:
        """Count leases and what became of files without; takes as long as there are leases."""
        return self._database.read(expiry.count_leases)

    # Decay.

    def walk(self, position: int = 0) -> Walk:
        """Return a walk over all shares after a row."""
        return Walk(self.examiner, self.examiner.stored.after, position)

    def walk_to(self, storage_index: bytes, number: int, adviser: bytes | None = None) -> Walk:
        """Return a walk over one share.

        Args:
            storage_index: of the share, 16 bytes.
            number: of the share.
            adviser: node id of who calls it bad; a bad one of his own is dropped, not set aside.
                None if nobody does.
        """
        return Walk(
            self.examiner,
            lambda position: [] if position else self.examiner.stored.named(storage_index, number),
            adviser=adviser,
        )

    def load_scrub(self) -> ScrubProgress:
        """Return how far the scrub is."""

        def load(sql: Sql) -> ScrubProgress:
            return ScrubProgress(
                **{
                    field.name: marks.read(sql, f"scrub_{field.name}") or 0
                    for field in attrs.fields(ScrubProgress)
                }
            )

        return self._database.read(load)

    def save_scrub(self, progress: ScrubProgress) -> None:
        """Write down how far the scrub is."""

        def save(sql: Sql) -> None:
            for name, value in attrs.asdict(progress).items():
                if marks.read(sql, f"scrub_{name}") != value:
                    marks.write(sql, f"scrub_{name}", value)

        self._database.call(save, vital=True)

    def findings(self, most: int) -> list[Finding]:
        """Return what was found bad, by a scrub or on advice, the latest first."""
        return self._database.read(partial(catalog.findings, most=most))

    def count_findings(self, since: int) -> int:
        """Return how many shares were found bad at or after a time."""
        return self._database.read(partial(catalog.count_findings, since=since))

    def count_aside(self, now: int) -> None:
        """Count again what lies in the quarantine, and drop what has lain there too long."""
        self.examiner.quarantine.count(now)

    def account_aside(self, peer: bytes) -> int:
        """Return the bytes of a peer's shares that lie in the quarantine."""
        return self.examiner.quarantine.account(peer)

    # Accounts.

    def largest_accounts(self, most: int) -> list[tuple[bytes, int, int]]:
        """Return (node id, bytes, shares) of the peers with most bytes here, largest first."""
        return self._database.read(partial(catalog.largest_accounts, most=most))
