"""Looking at shares that are stored: every byte read and hashed, the bad ones set aside.

A share is bad if its bytes do not hold together (`ampgrid.formats.stored`), if its end is not
what was stored, or if the disk does not hand it over. It is looked at twice before that is
believed: a verdict should not hang on one bit in memory or one slow disk. A bad share is moved
to the quarantine (`ampgrid.store.quarantine`); its row goes, so that its number is free to be
stored anew.

What could not be looked at for other reasons (too many open files, say), or not be set aside for
want of room, is skipped and counted. What its own uploader calls bad, and is, is not set aside
but dropped: there is nobody to whom it could be of use.
"""

from __future__ import annotations

import contextlib
import errno
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from ampgrid.errors import (
    BrokenStoreError,
    FormatError,
    IntegrityError,
    NoRoomError,
    NotStoredError,
    StoreError,
)
from ampgrid.formats.stored import verifying
from ampgrid.store import catalog
from ampgrid.store.catalog import TAIL_BYTES, Finding, tail_of
from ampgrid.store.filesystem import FileSystem
from ampgrid.store.health import Health
from ampgrid.store.locks import ShareLocks
from ampgrid.store.quarantine import Quarantine, note
from ampgrid.store.readers import Readers
from ampgrid.store.recovery import Places, free_name
from ampgrid.store.space import Space
from ampgrid.store.sql import Database, Job, Sql
from ampgrid.store.stored import StoredShare, StoredShares

#: What a look at a share costs beside its bytes, in bytes: finding, opening, closing it.
COST_OF_A_SHARE = 4096

#: What is told of a share whose file is not there.
MISSING = "Its file is missing."

#: How a disk says that it cannot read what it has.
_UNREADABLE = frozenset({errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO)})


@attrs.define
class Step:
    """What one stretch of looking did.

    Attributes:
        cost: bytes read, and `COST_OF_A_SHARE` for each share.
        size: bytes of the shares that were finished.
        shares: shares that were finished.
        skipped: shares that could not be looked at, or not be set aside on a full disk;
            rows side by side that the database does not give count as one.
        bad: what was found bad, and set aside.
        position: row of the last share that was finished.
        ended: whether there are no more.
    """

    cost: int = 0
    size: int = 0
    shares: int = 0
    skipped: int = 0
    bad: list[Finding] = attrs.field(factory=list)
    position: int = 0
    ended: bool = False


@attrs.frozen
class ScrubProgress:
    """How far the scrub is. Times in seconds since 1970, of the store's own.

    Attributes:
        position: row of the last share that was looked at in this cycle.
        started: when this cycle began, 0 before the first.
        shares: shares looked at in this cycle.
        size: bytes of these.
        skipped: shares of this cycle that could not be looked at.
        bad: shares that this cycle found bad.
        done: whether this cycle is done.
        finished: when the last whole cycle ended, 0 before the first.
        cycles: whole cycles so far.
        bad_ever: shares found bad by any cycle.
    """

    position: int = 0
    started: int = 0
    shares: int = 0
    size: int = 0
    skipped: int = 0
    bad: int = 0
    done: int = 0
    finished: int = 0
    cycles: int = 0
    bad_ever: int = 0


class _MissingError(Exception):
    """The file of a share is not there."""


class _CondemnJob(Job[Finding | None]):
    """Delete the row of a bad share, if it is still that share; remember what was found.

    Args:
        share: the share.
        finding: what is remembered.
        space: the accounts.
        readers: open files of shares.
        aside: name of its file in the quarantine and how many bytes that has, which need not
            be as many as were stored; None if it is not there.
        lost: whether its file is missing, and its row is kept for when it comes back.
    """

    vital = True

    def __init__(
        self,
        share: StoredShare,
        finding: Finding,
        space: Space,
        readers: Readers,
        *,
        aside: tuple[str, int] | None = None,
        lost: bool = False,
    ) -> None:
        self._share = share
        self._finding = finding
        self._space = space
        self._readers = readers
        self._aside = aside
        self._lost = lost
        self._done = False

    def run(self, sql: Sql) -> Finding | None:
        """Return the finding; None if the share is another one by now, and nothing is done."""
        self._done = False
        share = self._share
        row = catalog.find(sql, *share.key)
        if row is None or row.row_id != share.row_id:
            return None
        if self._lost:
            catalog.lose(sql, share.row_id)
        else:
            sql.execute("DELETE FROM shares WHERE id = ?", (share.row_id,))
            if self._aside is not None:
                found = self._finding
                name, size = self._aside
                note(sql, name, *share.key, size, share.peer, found.found_at)
            elif share.in_file:
                sql.execute(
                    "INSERT OR REPLACE INTO doomed (storage_index, number) VALUES (?, ?)",
                    share.key,
                )
        sql.execute("DELETE FROM advisories WHERE storage_index = ? AND number = ?", share.key)
        catalog.note_finding(sql, self._finding)
        self._done = True
        return self._finding

    def committed(self) -> None:
        if self._done:
            self._space.drop(self._share.size, 1)
            if self._aside is not None:
                self._space.add_aside(self._aside[1])
            self._readers.forget(self._share.key)


class Examiner:
    """Looks at stored shares and sets bad ones aside.

    Args:
        database: the store's.
        files: the file system.
        places: where things are.
        health: of the store.
        space: the accounts.
        readers: open files of shares.
        locks: keep uploads of the same shares away.

    Attributes:
        lost_any: whether a row lost its file, so that the next start must look for it.
        stored: which shares there are.
        quarantine: where bad shares are set aside.
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
    ) -> None:
        self.lost_any = False
        self.stored = StoredShares(database)
        self._database = database
        self._files = files
        self._places = places
        self._health = health
        self._space = space
        self._readers = readers
        self._locks = locks
        self.quarantine = Quarantine(database, files, places, health, space)

    # Looking at one.

    def look(self, share: StoredShare) -> Iterator[int]:
        """Read and hash a share.

        Yields:
            How many bytes were read since the last time.

        Raises:
            IntegrityError, FormatError: it is bad.
            NotStoredError: it is no longer here.
            BrokenStoreError: it could not be looked at.
        """
        if not share.in_file:
            data = self._database.read(
                lambda sql: catalog.data(sql, *share.key, 0, share.size + 1)
            )
            if data is None and self.stored.named(*share.key) != [share]:
                raise NotStoredError("the share is gone")
            if len(data or b"") != share.size:
                raise IntegrityError("Its row is not of the size that was stored.")
            yield from self._look_at(
                share, lambda offset, length: (data or b"")[offset : offset + length]
            )
            return
        try:
            yield from self._look_at_file(share)
        except FileNotFoundError:
            if self.stored.named(*share.key) != [share]:
                raise NotStoredError("the share is gone") from None
            raise _MissingError from None
        except OSError as error:
            if error.errno in _UNREADABLE:
                raise IntegrityError(f"The disk failed under it: {error.strerror}.") from error
            raise BrokenStoreError(f"a share could not be read: {error.strerror}") from error

    def _look_at_file(self, share: StoredShare) -> Iterator[int]:
        path = self._places.share(*share.key)
        descriptor = self._files.open_read(path)
        try:
            if self._files.size_of(path) != share.size:
                raise IntegrityError("Its file is not of the size that was stored.")
            yield from self._look_at(
                share, lambda offset, length: self._files.read_at(descriptor, offset, length)
            )
        finally:
            self._files.close(descriptor)

    def _look_at(self, share: StoredShare, read: Callable[[int, int], bytes]) -> Iterator[int]:
        length = min(TAIL_BYTES, share.size)
        last = read(share.size - length, length)
        if len(last) != length:
            raise IntegrityError("It is shorter than what was stored.")
        tail = tail_of(last)
        if share.tail is not None and share.tail != tail:
            raise IntegrityError("Its end is not what was stored.")
        yield length
        yield from verifying(read, share.size, share.number)
        if share.tail is None:
            self._database.call(
                lambda sql: sql.execute(
                    "UPDATE shares SET tail = ? WHERE id = ? AND storage_index = ? AND number = ?",
                    (tail, share.row_id, *share.key),
                )
            )

    # Setting one aside.

    def condemn(
        self, share: StoredShare, reason: str, now: int, *, keep: bool = True
    ) -> Finding | None:
        """Move a bad share to the quarantine and forget its row; None if it is gone by now.

        Args:
            share: the share.
            reason: one sentence.
            now: the time, seconds since 1970.
            keep: whether it is worth keeping; else it is dropped.

        Raises:
            StoreError: that failed, and the share may still be stored.
        """
        finding = Finding(share.storage_index, share.number, share.size, share.peer, reason, now)
        with self._locks.shares.of(share.key):
            if self.stored.named(*share.key)[:1] != [share]:
                return None
            if not keep:
                return self._drop(share, finding)
            # Until its row is gone, too, a start would find a row without its file.
            self._health.untidy = True
            with self._health.reading():
                aside = free_name(self._files, self._places, *share.key)
            try:
                if share.in_file:
                    size = self._move_aside(share, aside)
                else:
                    size = self._copy_aside(share, aside)
                lies_there = aside.name, size
                found = self._database.run(
                    _CondemnJob(share, finding, self._space, self._readers, aside=lies_there)
                )
            except StoreError:
                self._put_back(share, aside)
                raise
        self.quarantine.trim(*share.key, share.peer, aside.name)
        return found

    def _drop(self, share: StoredShare, finding: Finding) -> Finding | None:
        """Forget a bad share and remove its file, as one that has expired; the lock is held."""
        found = self._database.run(_CondemnJob(share, finding, self._space, self._readers))
        if found is not None and share.in_file:
            path = self._places.share(*share.key)
            # What fails is noted as doomed, and is done with what has expired.
            with contextlib.suppress(StoreError):
                with self._health.synchronising():
                    self._files.unlink(path)
                    self._files.fsync_directory(path.parent)
                self._database.call(
                    lambda sql: sql.execute(
                        "DELETE FROM doomed WHERE storage_index = ? AND number = ?", share.key
                    ),
                    vital=True,
                )
        return found

    def lose(self, share: StoredShare, now: int) -> Finding | None:
        """Claim a share no longer whose file is not there; None if it is gone by now."""
        finding = Finding(share.storage_index, share.number, share.size, share.peer, MISSING, now)
        path = self._places.share(*share.key)
        with self._locks.shares.of(share.key):
            with self._health.reading():
                # It may have been on its way to the quarantine, and have come back.
                if share.in_file and self._files.size_of(path) is not None:
                    return None
            self.lost_any = True
            return self._database.run(
                _CondemnJob(share, finding, self._space, self._readers, lost=True)
            )

    def _move_aside(self, share: StoredShare, aside: Path) -> int:
        path = self._places.share(*share.key)
        with self._health.reading():
            size = self._files.size_of(path) or 0
        with self._health.synchronising():
            # Its row goes after it: after a crash between the two, the next start finds the row
            # without its file, and not a bad file that it would take for a new share.
            self._files.rename(path, aside)
            self._files.fsync_directory(self._places.quarantine)
            self._files.fsync_directory(path.parent)
        return size

    def _copy_aside(self, share: StoredShare, aside: Path) -> int:
        data = self._database.read(lambda sql: catalog.data(sql, *share.key, 0, share.size))
        with self._health.writing():
            descriptor = self._files.open_new(aside)
            try:
                self._files.write_at(descriptor, 0, [data or b""])
                self._files.fsync(descriptor)
            finally:
                self._files.close(descriptor)
            self._files.fsync_directory(self._places.quarantine)
        return len(data or b"")

    def _put_back(self, share: StoredShare, aside: Path) -> None:
        """Undo what was done before a failure: who has a row is claimed to be here."""
        with self._health.synchronising():
            if not share.in_file:
                self._files.unlink(aside)
            elif self._files.size_of(aside) is not None:
                self._files.rename(aside, self._places.share(*share.key))


class Walk:
    """A walk over stored shares, in stretches. One thread at a time.

    Args:
        examiner: looks.
        more: returns the shares that follow a row, none at the end.
        position: the row after which it begins.
        adviser: node id of who calls these shares bad: if they are his own, bad ones are dropped
            and not set aside. None if nobody does.
    """

    def __init__(
        self,
        examiner: Examiner,
        more: Callable[[int], list[StoredShare]],
        position: int = 0,
        adviser: bytes | None = None,
    ) -> None:
        self._examiner = examiner
        self._more = more
        self._position = position
        self._adviser = adviser
        self._rows: deque[StoredShare] = deque()
        self._share: StoredShare | None = None
        self._look: Iterator[int] = iter(())
        self._doubted = False
        self._ended = False

    def advance(self, budget: int, now: int) -> Step:
        """Look at shares until ``budget`` bytes are spent, or a little more, or all are done.

        Args:
            budget: bytes to read.
            now: the time, seconds since 1970, for what is found.

        Raises:
            StoreError: a bad share could not be set aside; it is looked at again next time.
        """
        step = Step(position=self._position)
        while step.cost < budget and not self._ended:
            if self._share is None:
                self._begin(step)
            else:
                self._go_on(self._share, step, now)
        step.position = self._position
        step.ended = self._ended
        return step

    def close(self) -> None:
        """End; a share that was being looked at is closed."""
        self._ended = True
        self._stop_looking()

    def _stop_looking(self) -> None:
        close = getattr(self._look, "close", None)
        if close is not None:
            close()
        self._look = iter(())
        self._share = None
        self._doubted = False

    def _begin(self, step: Step) -> None:
        if not self._rows:
            before = self._examiner.stored.unreadable
            self._rows.extend(self._more(self._position))
            step.skipped += self._examiner.stored.unreadable - before
        if not self._rows:
            self._ended = True
            return
        self._share = self._rows[0]
        self._look = self._examiner.look(self._share)
        step.cost += COST_OF_A_SHARE

    def _go_on(self, share: StoredShare, step: Step, now: int) -> None:
        try:
            step.cost += next(self._look)
            return
        except StopIteration:
            pass
        except NotStoredError:
            pass
        except (IntegrityError, FormatError, _MissingError) as error:
            if not self._doubted:
                self._doubted = True
                self._look = self._examiner.look(share)
                return
            self._condemn(share, error, step, now)
        except BrokenStoreError:
            step.skipped += 1
        step.shares += 1
        step.size += share.size
        self._position = share.row_id
        self._rows.popleft()
        self._stop_looking()

    def _condemn(self, share: StoredShare, error: Exception, step: Step, now: int) -> None:
        try:
            if isinstance(error, _MissingError):
                found = self._examiner.lose(share, now)
            else:
                keep = share.peer != self._adviser
                found = self._examiner.condemn(share, str(error), now, keep=keep)
        except NoRoomError:
            # No room for the copy of a small one: another time, and the others now.
            step.skipped += 1
            return
        except BaseException:
            self._stop_looking()
            raise
        if found is not None:
            step.bad.append(found)
