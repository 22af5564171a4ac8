"""SQLite for the store: the driver, one connection a file, and group commit.

A `Database` runs jobs. All jobs that wait at one moment run in one transaction, each behind a
savepoint of its own unless it is alone, and share one COMMIT (write-ahead log,
``synchronous=FULL``, or ``NORMAL`` beside files that are not durable either); only then is any of
them answered. There is no thread of its own: of the threads that bring jobs, the one that gets
the connection works for all (so a job costs no hop beyond the caller's own, and a database
without threads is the same class).

Only one connection is opened to a file: SQLite before 3.51.3 can damage a file that several
connections write in this mode. Statements keep to what SQLite 3.15 knows (no UPSERT, no
RETURNING, no window functions), which the ``pysqlcipher3`` driver means on old systems.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar, cast

import attrs

from ampgrid.errors import BrokenStoreError, ConfigError, FormatError, NoRoomError, StoreError
from ampgrid.store.filesystem import FileSystem, PosixFileSystem
from ampgrid.store.sqlcipher import cipher_format, opens_in_format

T = TypeVar("T")

#: The most jobs in one transaction.
MOST_JOBS_A_GROUP = 256

#: Size of the write-ahead log, in pages of 4 KiB, from which it is copied into the file.
_CHECKPOINT_PAGES = 4000

#: What SQLite says of a page that is none.
_DAMAGE = ("is malformed", "is not a database")


class Rows(Protocol):
    """What a statement gives back."""

    @property
    def rowcount(self) -> int:
        """Number of rows that an UPDATE or DELETE changed."""
        ...

    @property
    def lastrowid(self) -> int | None:
        """Row id of the last INSERT."""
        ...

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, None after the last."""
        ...

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows."""
        ...

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...


class Sql(Protocol):
    """What a job uses of the driver's connection."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    @property
    def total_changes(self) -> int:
        """Number of rows changed since the connection was opened."""
        ...

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Rows:
        """Run one statement."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Job(Generic[T]):
    """Work for one transaction. A subclass says what happens after its end.

    Attributes:
        vital: it shall go on when the disk is full, with what is held back for that; `run` is
            then called again, after all that it changed was undone.
    """

    vital = False

    def run(self, sql: Sql) -> T:
        """Do it; an exception undoes what this job changed, and no other job."""
        raise NotImplementedError

    def committed(self) -> None:
        """Called once the changes are durable, before anybody is answered."""

    def undone(self) -> None:
        """Called instead of `committed` when the changes were undone.

        Where what is vital is run again, the others hear of it before that.
        """


class Call(Job[T]):
    """A job that is one function of the connection.

    Args:
        function: does it.
        vital: see `Job`.
    """

    def __init__(self, function: Callable[[Sql], T], *, vital: bool = False) -> None:
        self._function = function
        self.vital = vital

    def run(self, sql: Sql) -> T:
        """Call the function."""
        return self._function(sql)


class Outcome(Generic[T]):
    """What became of a job.

    Attributes:
        error: why it failed, None if it did not.
    """

    __slots__ = ("_value", "error")

    def __init__(self, value: T | None = None, error: Exception | None = None) -> None:
        self._value = value
        self.error = error

    def get(self) -> T:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast("T", self._value)


@attrs.frozen
class Schema:
    """The tables of one kind of database.

    Attributes:
        name: what it is called in messages.
        application_id: the number that marks a file of this kind (SQLite's header, offset 68).
        version: the version that ``statements`` make; kept in SQLite's ``user_version``.
        statements: what makes an empty file one of this version.
        upgrades: version -> statements that make the next one of it.
        oldest: the lowest version that can be brought up to date.
    """

    name: str
    application_id: int
    version: int
    statements: tuple[str, ...]
    upgrades: Mapping[int, tuple[str, ...]] = attrs.field(factory=dict)
    oldest: int = 1


def find_driver() -> ModuleType:
    """Return the SQLCipher driver: ``sqlcipher3``, or ``pysqlcipher3`` where that is asked for.

    ``AMPGRID_SQLCIPHER`` names the one to take; else the second serves where the first is
    missing.

    Raises:
        ConfigError: there is none.
    """
    wanted = os.environ.get("AMPGRID_SQLCIPHER", "")
    if wanted not in {"", "sqlcipher3", "pysqlcipher3"}:
        raise ConfigError("AMPGRID_SQLCIPHER names no driver: say sqlcipher3 or pysqlcipher3")
    for name in [wanted] if wanted else ["sqlcipher3", "pysqlcipher3"]:
        try:
            return importlib.import_module(f"{name}.dbapi2")
        except ImportError:
            continue
    raise ConfigError("no SQLCipher driver is installed: pip install sqlcipher3")


@attrs.define(eq=False)
class _Queued:
    job: Job[Any]
    outcome: Outcome[Any] | None = None
    is_told: bool = False

    def tell(self) -> None:
        """Tell the job, once, what became of it."""
        if self.is_told:
            return
        self.is_told = True
        if self.outcome is None or self.outcome.error is not None:
            self.job.undone()
        else:
            self.job.committed()


class Database:
    """One SQLite file, one connection, group commit. Every method may be called in any thread.

    Args:
        path: the file; made if it does not exist, in a directory that does.
        schema: its tables.
        when_broken: called when the disk refused (not: when it is full).
        when_full: called when the disk is full and something vital waits; tells whether there
            may be more room now.
        files: makes the file, and says by its `durable` whether a COMMIT waits for the disk. Where
            it does not, a power cut takes the last transactions, and leaves the file whole: the
            log is still synchronised before it is copied. What else SQLite does with the file
            is its own business.
        key: 32 bytes under which all of the file is enciphered (SQLCipher: each page with a MAC,
            no byte in clear); None for a file in clear.
        when_opened: called with the connection when there is a new one, in no transaction: a
            connection that enciphers is of no use after an error, and the next call makes
            another. What was said to have failed may be there then.

    Attributes:
        damaged: whether something in it was found to be no database any more.

    Raises:
        FormatError: the file is no database of this kind, of an unknown version, or made with
            another key.
        ConfigError: another process has it open, or it cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        when_broken: Callable[[], None] | None = None,
        when_full: Callable[[], bool] | None = None,
        files: FileSystem | None = None,
        key: bytes | None = None,
        when_opened: Callable[[Sql], None] | None = None,
    ) -> None:
        self.damaged = False
        self._name = path.name
        self._when_broken = when_broken
        self._when_full = when_full
        self._files: FileSystem = files or PosixFileSystem()
        self._driver = find_driver()
        self._queue: deque[_Queued] = deque()
        self._queue_lock = threading.Lock()
        self._lock = threading.Lock()
        self._commits = 0
        self._closed = False
        self._spoilt = False
        self._key = key
        self._reopen: Callable[[], Sql] = lambda: self._open(path, schema, self._key)
        self._is_enciphered = key is not None
        self._when_opened = when_opened
        self._sql = self._reopen()
        if when_opened is not None:
            try:
                self._call_when_opened(when_opened)
            except BaseException:
                self._sql.close()
                raise

    @property
    def commits(self) -> int:
        """Number of transactions that changed anything."""
        return self._commits

    @property
    def sqlite_version(self) -> str:
        """Version of the SQLite inside the driver."""
        return str(self._driver.sqlite_version)

    def run(self, job: Job[T]) -> T:
        """Run one job and return its result once it is durable.

        Raises:
            NoRoomError: the disk is full; nothing was changed.
            BrokenStoreError: the disk refused; nothing was changed.
            Exception: whatever the job raised; it changed nothing.
        """
        outcome: Outcome[T] = self.run_all([job])[0]
        return outcome.get()

    def call(self, function: Callable[[Sql], T], *, vital: bool = False) -> T:
        """Run one function as a job; see `run` and `Job`."""
        return self.run(Call(function, vital=vital))

    def run_all(self, jobs: Sequence[Job[Any]]) -> list[Outcome[Any]]:
        """Run jobs, in one transaction where that is possible; each has its own outcome."""
        mine = [_Queued(job) for job in jobs]
        with self._queue_lock:
            self._queue.extend(mine)
        with self._lock:
            # Whoever had the connection before may have done ours already.
            while mine and mine[-1].outcome is None:
                self._run_group()
        return [cast("Outcome[Any]", queued.outcome) for queued in mine]

    def read(self, function: Callable[[Sql], T]) -> T:
        """Call a function that changes nothing; it sees what is committed, and only that.

        Raises:
            BrokenStoreError: the database could not be read.
        """
        with self._lock:
            return self._call_reading(function)

    def read_if_free(self, function: Callable[[Sql], T]) -> T | None:
        """Do what `read` does if nobody has the connection now, and it is whole; else None.

        Raises:
            BrokenStoreError: the database could not be read.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return None if self._spoilt else self._call_reading(function)
        finally:
            self._lock.release()

    def _call_reading(self, function: Callable[[Sql], T]) -> T:
        self._check_open()
        try:
            return function(self._sql)
        except self._driver.Error as error:
            raise self._as_store_error(error) from error

    def rekey(self, key: bytes) -> None:
        """Encipher all of the file anew, in one transaction.

        Args:
            key: 32 bytes.

        Raises:
            StoreError: it could not be done; the file is as it was, under the key that it had.
        """
        with self._lock:
            self._check_open()
            try:
                self._sql.execute(f"PRAGMA rekey = \"x'{key.hex()}'\"").fetchall()
            except self._driver.Error as error:
                raise self._as_store_error(error) from None
            self._key = key
            # What is in the log under the former key is not kept longer than it must.
            self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the file; jobs brought later fail."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._sql.close()

    # In whichever thread holds the lock.

    def _run_group(self) -> None:
        with self._queue_lock:
            count = min(len(self._queue), MOST_JOBS_A_GROUP)
            group = [self._queue.popleft() for _ in range(count)]
        if isinstance(self._transact(group), NoRoomError):
            self._go_on(group)
        for queued in group:
            queued.tell()

    def _go_on(self, group: list[_Queued]) -> None:
        """Run what is vital of a group that failed because the disk is full."""
        vital = [queued for queued in group if queued.job.vital]
        # Of what the others did nothing may be believed by what is run again.
        for queued in group:
            if not queued.job.vital:
                queued.tell()
        # For the others that may have made room as well: for those that come next.
        reused = self._reuse_log()
        if not vital or (reused and not isinstance(self._transact(vital), NoRoomError)):
            return
        if self._when_full is not None and self._when_full():
            # First what is in the log: else the log would take up the room that was made.
            self._reuse_log()
            self._transact(vital)

    def _reuse_log(self) -> bool:
        """Copy the log into the database, so that the next transaction overwrites it."""
        try:
            row = self._sql.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        except self._driver.Error:
            return False
        return row is not None and row[0] == 0

    def _transact(self, group: list[_Queued]) -> StoreError | None:
        """Run jobs in one transaction; return why it failed as a whole, None if it did not."""
        try:
            self._check_open()
            changes = self._sql.total_changes
            self._sql.execute("BEGIN")
            for queued in group:
                queued.outcome = self._run_one(queued.job, alone=len(group) == 1)
            if self._sql.in_transaction:
                self._sql.execute("COMMIT")
                self._commits += self._sql.total_changes != changes
        except (self._driver.Error, StoreError) as error:
            self._roll_back()
            failure = error if isinstance(error, StoreError) else self._as_store_error(error)
            for queued in group:
                queued.outcome = Outcome(error=failure)
            return failure
        return None

    def _run_one(self, job: Job[Any], *, alone: bool) -> Outcome[Any]:
        if not alone:
            self._sql.execute("SAVEPOINT job")
        try:
            value = job.run(self._sql)
        except Exception as error:
            if not self._sql.in_transaction:
                # SQLite gave the whole transaction up, with all that other jobs did in it.
                raise self._as_store_error(error) from error
            if alone:
                self._sql.execute("ROLLBACK")
            else:
                self._sql.execute("ROLLBACK TO job")
                self._sql.execute("RELEASE job")
            if isinstance(error, self._driver.Error):
                return Outcome(error=self._as_store_error(error))
            return Outcome(error=error)
        if not alone:
            self._sql.execute("RELEASE job")
        return Outcome(value)

    def _roll_back(self) -> None:
        try:
            if not self._closed and self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
        except self._driver.Error:
            self._broken()

    def _broken(self) -> None:
        # SQLCipher keeps an error for good, and calls every page after it malformed.
        self._spoilt = self._is_enciphered
        if self._when_broken is not None:
            self._when_broken()

    def _check_open(self) -> None:
        if self._closed:
            raise BrokenStoreError("the store is closed")
        if self._spoilt:
            with suppress(self._driver.Error):
                self._sql.close()
            try:
                self._sql = self._reopen()
                self._spoilt = False
                if self._when_opened is not None:
                    self._call_when_opened(self._when_opened)
            except (ConfigError, FormatError) as error:
                raise BrokenStoreError(f"the database {self._name} is broken: {error}") from error

    def _call_when_opened(self, function: Callable[[Sql], None]) -> None:
        try:
            function(self._sql)
        except self._driver.Error as error:
            raise self._as_store_error(error) from error

    def _as_store_error(self, error: Exception) -> StoreError:
        if isinstance(error, StoreError):
            return error
        if "is full" in str(error):
            return NoRoomError("the disk is full: free some room")
        self._broken()
        if any(words in str(error) for words in _DAMAGE):
            self.damaged = True
        return BrokenStoreError(f"the database {self._name} could not be used: {error}")

    # Opening.

    def _open(self, path: Path, schema: Schema, key: bytes | None) -> Sql:
        files = self._files
        try:
            if files.size_of(path) is None:
                # Made here, so that it is nobody else's from the first moment.
                files.close(files.open_new(path))
                files.fsync_directory(path.parent)
            sql = self._driver.connect(
                str(path), timeout=0.5, isolation_level=None, check_same_thread=False
            )
        except (OSError, self._driver.Error) as error:
            raise ConfigError(f"the database {self._name} cannot be opened: {error}") from error
        try:
            if key is not None:
                # It writes to the standard error otherwise, about a wrong key for one.
                sql.execute("PRAGMA cipher_log_level = NONE").fetchall()
                # The key as it is: a passphrase would be stretched, which takes a second.
                sql.execute(f"PRAGMA key = \"x'{key.hex()}'\"").fetchone()
            # A schema that somebody planted calls no functions, and a page is looked at before
            # it is believed. Old versions know neither or not the first, and pass over it.
            sql.execute("PRAGMA trusted_schema=OFF").fetchall()
            sql.execute("PRAGMA cell_size_check=ON").fetchall()
            # Nothing that is sorted goes into a file in clear, whatever the driver was made with.
            sql.execute("PRAGMA temp_store=MEMORY").fetchall()
            # With the lock held for good no second process comes in, and no shared memory file
            # is needed.
            sql.execute("PRAGMA locking_mode=EXCLUSIVE").fetchone()
            self._check_kind(sql, schema)
            sql.execute("PRAGMA journal_mode=WAL").fetchone()
            sql.execute(f"PRAGMA synchronous={'FULL' if files.durable else 'NORMAL'}")
            sql.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}").fetchone()
            sql.execute("BEGIN IMMEDIATE")
            self._make_tables(sql, schema)
            sql.execute("COMMIT")
        except self._driver.DatabaseError as error:
            sql.close()
            if "locked" in str(error):
                raise ConfigError(
                    f"the database {self._name} is in use by another process: stop that first"
                ) from error
            why = error if key is None else self._why_unreadable(path, key)
            raise FormatError(f"the database {self._name} cannot be read: {why}") from error
        except BaseException:
            sql.close()
            raise
        return cast("Sql", sql)

    def _why_unreadable(self, path: Path, key: bytes) -> str:
        """Return why a file that is enciphered cannot be read, and what to do."""
        if cipher_format(self._driver) < 4:
            return (
                "it is damaged, was made with another key, or with the driver sqlcipher3, whose "
                "format pysqlcipher3 does not know: use AMPGRID_SQLCIPHER=sqlcipher3"
            )
        if opens_in_format(self._driver, path, key, 3):
            return (
                "it was made with the driver pysqlcipher3, in the format of SQLCipher 3: use "
                "AMPGRID_SQLCIPHER=pysqlcipher3, or convert it"
            )
        return "it is damaged, or was made with another key"

    def _check_kind(self, sql: Any, schema: Schema) -> None:
        application_id = sql.execute("PRAGMA application_id").fetchone()[0]
        version = sql.execute("PRAGMA user_version").fetchone()[0]
        tables = sql.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables and not version and not application_id:
            return
        if application_id != schema.application_id:
            raise FormatError(f"the file {self._name} is not {schema.name}")
        if not schema.oldest <= version <= schema.version:
            raise FormatError(
                f"{schema.name} {self._name} is of version {version}, and this ampgrid knows "
                f"{schema.version}: use the release that wrote it, or a newer one"
            )

    def _make_tables(self, sql: Any, schema: Schema) -> None:
        version = sql.execute("PRAGMA user_version").fetchone()[0]
        if not version:
            statements: list[str] = list(schema.statements)
        else:
            statements = [
                statement
                for number in range(version, schema.version)
                for statement in schema.upgrades[number]
            ]
        for statement in statements:
            sql.execute(statement)
        if version != schema.version:
            sql.execute(f"PRAGMA application_id={schema.application_id}")
            sql.execute(f"PRAGMA user_version={schema.version}")
