"""The service of a peer that keeps blobs: who may, what at once, and what time brings.

It stands between the connections (and the web) and the blocking store: it knows users and their
tokens, keeps two puts of one name apart, and brings work into threads, in groups that share a
commit. It knows the time: what came of a blob is dropped after two days, the memory of a deleted
one after 90.

Spec: ``docs/specs/blobs.md#service``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import attrs
from twisted.logger import Logger

from ampgrid.blobs.receiving import IDLE_SECONDS, STALE_SECONDS, BlobKey, Receiving
from ampgrid.commands import errors as e
from ampgrid.errors import BlobNotFoundError, BlobRefusedError, InvalidBlobError, StoreError
from ampgrid.formats.blobname import BlobName, Flag
from ampgrid.formats.blobuser import (
    account_of_node,
    account_of_user,
    checked_user,
    is_token,
    new_token,
    token_digest,
)
from ampgrid.ports import Clock, DelayedCall, Entropy, Threads, WallClock
from ampgrid.storage.background import Background
from ampgrid.storage.groups import Groups, do_all
from ampgrid.storage.references import reference_of
from ampgrid.store.servedblobs import (
    SMALL_BYTES,
    BlobRoom,
    IncomingFile,
    Row,
    Selection,
    ServedBlobStore,
    User,
)
from ampgrid.store.sql import Job
from ampgrid.store.timekeeping import StoreClock

T = TypeVar("T")

_log = Logger()

#: How often it looks around, seconds.
LOOK_SECONDS = 60.0
#: How often the latest time seen is written down, seconds.
KEEP_SECONDS = 900
#: The most puts under way, of all users and of one.
MOST_PUTS = 1_024
MOST_PUTS_OF_ONE = 64
#: The most users with a token.
MOST_USERS = 10_000
#: The most groups of looks under way.
_LOOKS_AT_ONCE = 4
#: What a token is compared with of a user who has none.
_NO_DIGEST = bytes(32)


@attrs.frozen
class BlobSettings:
    """What a service of blobs does by itself.

    Attributes:
        members: whether every node of the grid has an account, beside the users with a token.
    """

    members: bool = True


class BlobService:
    """Keeps blobs for users.

    Args:
        store: where they are kept; the service closes it when it stops.
        clock: timers.
        wall: the wall clock, which is watched.
        threads: where the store is called.
        entropy: draws tokens, and the reference numbers of failures.
        settings: what it does by itself.
        monotonic: seconds that only grow; the clock's, if it is not given.
    """

    def __init__(
        self,
        store: ServedBlobStore,
        *,
        clock: Clock,
        wall: WallClock,
        threads: Threads,
        entropy: Entropy,
        settings: BlobSettings | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self.store = store
        self._clock = clock
        self._wall = wall
        self._threads = threads
        self._entropy = entropy
        self._settings = settings or BlobSettings()
        self.time = StoreClock(store.beginning, wall, monotonic or clock.seconds)
        self._changes: Groups[Job[Any]] = Groups(threads, self.spawn, store.run_all)
        self._looks: Groups[Callable[[], Any]] = Groups(
            threads, self.spawn, do_all, _LOOKS_AT_ONCE
        )
        self._puts: dict[BlobKey, Receiving] = {}
        self._beginning: set[BlobKey] = set()
        #: Puts between two parts: size, tag, and until when nobody else may put that name.
        self._parked: dict[BlobKey, tuple[int, bytes, float]] = {}
        self._users: dict[str, bytes] = {}
        self._background = Background("the service of blobs", _log)
        self._timer: DelayedCall | None = None
        self._serving = False
        self._room: BlobRoom | None = None
        self._keep_at = self.time.now() + KEEP_SECONDS

    # Beginning and end.

    async def start(self) -> None:
        """Begin to serve."""
        users: list[User] = await self.in_thread(self.store.users.all)
        self._users = {user.name: user.digest for user in users}
        self._room = await self.in_thread(self.store.room)
        self._serving = True
        self._timer = self._clock.callLater(LOOK_SECONDS, self._look_around)

    async def stop(self) -> None:
        """End the puts that are under way, write the time down, close the store."""
        self._serving = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for receiving in list(self._puts.values()):
            self.spawn(self._leave(receiving))
        await self._background.over()
        await self._keep_time()
        await self.in_thread(self.store.close)

    def _look_around(self) -> None:
        if self.time.look():
            _log.warn("the clock jumped")
        for receiving in list(self._puts.values()):
            if receiving.silent_seconds >= IDLE_SECONDS:
                self.spawn(self._leave(receiving))
        now = self._clock.seconds()
        self._parked = {key: one for key, one in self._parked.items() if now < one[2]}
        self.spawn(self._do_what_is_due())
        self._timer = self._clock.callLater(LOOK_SECONDS, self._look_around)

    async def _do_what_is_due(self) -> None:
        now = self.now()
        try:
            if now >= self._keep_at:
                self._keep_at = now + KEEP_SECONDS
                await self._keep_time()
            await self.sweep()
            self._room = await self.in_thread(self.store.room)
        except StoreError as error:
            _log.warn("the upkeep of blobs failed: {error}", error=error)

    async def sweep(self) -> int:
        """Drop what is too old; returns how many rows."""
        swept = 0
        while self._serving:
            busy = [one.incoming.id for one in self._puts.values() if one.incoming is not None]
            dropped: int = await self.in_thread(self.store.sweep, self.now(), busy)
            swept += dropped
            if not dropped:
                break
        return swept

    async def _keep_time(self) -> None:
        try:
            await self.in_thread(self.store.keep_time, self.now())
        except StoreError as error:
            _log.warn("the time could not be written down: {error}", error=error)

    # Who.

    def account(self, peer: bytes | None, user: str | None, token: bytes | str | None) -> str:
        """Return whose blobs a call is about.

        Args:
            peer: node id at the other end of the connection, 20 bytes; None if there is none.
            user: who it says it is; None for the peer itself.
            token: that proves it.

        Raises:
            BlobRefusedError: no blobs are kept for such a one.
        """
        if user is None and token is None and peer is not None:
            if not self._settings.members:
                raise BlobRefusedError("Blobs are kept here for users with a token alone.")
            return account_of_node(peer)
        digest = self._users.get(user or "", _NO_DIGEST)
        if not is_token(token or b"", digest) or user is None:
            raise BlobRefusedError("No blobs are kept here for this user and token.")
        return account_of_user(user)

    async def issue_token(self, user: str) -> str:
        """Give a user a token, in the place of any other, and return it.

        Raises:
            BadArgumentValueError: no user can be called so.
            BusyError: there are too many users, or the service is ending.
            StoreError: the store failed.
        """
        checked_user(user)
        self._check_serving()
        if user not in self._users and len(self._users) >= MOST_USERS:
            raise e.BusyError(f"there are {MOST_USERS} users already")
        token = new_token(self._entropy)
        digest = token_digest(token)
        await self.in_thread(self.store.users.set_token, user, digest, int(self._wall()))
        self._users[user] = digest
        return token

    async def revoke_token(self, user: str) -> bool:
        """Let a user have no token; False if there was none. The blobs stay."""
        self._check_serving()
        self._users.pop(user, None)
        dropped: bool = await self.in_thread(self.store.users.drop_token, user)
        return dropped

    async def users(self) -> list[User]:
        """Return all who have a token."""
        self._check_serving()
        users: list[User] = await self.in_thread(self.store.users.all)
        return users

    # Putting.

    async def begin(self, account: str, name: BlobName, size: int, tag: bytes) -> Receiving | None:
        """Begin to receive a blob, or go on; None if that very blob is here.

        Raises:
            BlobError: it cannot be put (see `ampgrid.blobs.port.Remote.put`).
            BusyError: somebody is putting that name, or too much is under way.
            StoreError: the store failed.
        """
        self._check_serving()
        key = (account, name)
        await self._make_way(key, size, tag)
        self._beginning.add(key)
        try:
            return await self._begin(key, size, tag)
        finally:
            self._beginning.discard(key)

    async def _begin(self, key: BlobKey, size: int, tag: bytes) -> Receiving | None:
        if size <= SMALL_BYTES:
            if await self._is_here(key, size, tag):
                return None
            incoming = None
        else:
            job = self.store.beginning_put(*key, size, tag, self.now())
            incoming = await self._changes.run(job)
            if incoming is None:
                return None
            await self.in_thread(self.store.open_file, incoming, self.now())
        receiving = Receiving(self, self._clock, key, size, tag, incoming)
        self._puts[key] = receiving
        if not self._serving:
            await receiving.leave(keep=True)
            self._check_serving()
        return receiving

    async def _is_here(self, key: BlobKey, size: int, tag: bytes) -> bool:
        """Tell whether a small blob is here; raises what its put would."""
        if size < len(tag):
            raise InvalidBlobError("No sealed blob is as short as this.")
        look = self.store.looking_for_put(*key, size, tag, self.now())
        here: bool = await self._changes.run(look)
        return here

    def park(self, receiving: Receiving) -> None:
        """Keep a name for a put that comes in parts, each by itself; for half a minute."""
        until = self._clock.seconds() + STALE_SECONDS
        self._parked[receiving.key] = (receiving.size, receiving.tag, until)

    async def _make_way(self, key: BlobKey, size: int, tag: bytes) -> None:
        """End a put of that name of which nothing is heard; refuse if another is under way."""
        parked = self._parked.get(key)
        if parked is not None:
            if parked[:2] != (size, tag) and self._clock.seconds() < parked[2]:
                raise e.BusyError("a blob of that name is just being put")
            del self._parked[key]
        known = self._puts.get(key)
        if key in self._beginning or (known and known.silent_seconds < STALE_SECONDS):
            raise e.BusyError("a blob of that name is just being put")
        if known is not None:
            self._beginning.add(key)
            try:
                await known.leave(keep=True)
            finally:
                self._beginning.discard(key)
        of_one = sum(1 for account, _name in self._puts if account == key[0])
        if len(self._puts) >= MOST_PUTS or of_one >= MOST_PUTS_OF_ONE:
            raise e.BusyError("too many blobs are being put")

    async def put_whole(self, account: str, name: BlobName, data: bytes) -> None:
        """Store a small blob in one hop.

        Raises:
            BlobError: it cannot be put (see `ampgrid.blobs.port.Remote.put`).
            StoreError: the store failed.
        """
        stored_at = int(self._wall() * 1_000_000)
        await self._changes.run(self.store.putting(account, name, data, self.now(), stored_at))

    async def put_at_once(self, account: str, name: BlobName, data: bytes) -> None:
        """Store a small blob that came in one piece.

        Raises:
            BusyError: somebody is putting that name.
            BlobError: see `put_whole`.
            StoreError: the store failed.
        """
        self._check_serving()
        await self._make_way((account, name), len(data), data[-16:])
        await self.put_whole(account, name, data)

    async def complete(self, incoming: IncomingFile) -> bool:
        """Let a blob be here whose bytes are on the disk; False if it was dropped meanwhile."""
        stored_at = int(self._wall() * 1_000_000)
        here: bool = await self._changes.run(
            self.store.completing(incoming, self.now(), stored_at)
        )
        return here

    async def drop(self, incoming: IncomingFile) -> None:
        """Forget what came of a blob."""
        await self._changes.run(self.store.dropping(incoming))

    def ended(self, receiving: Receiving) -> None:
        """Forget a put; called by it."""
        if self._puts.get(receiving.key) is receiving:
            del self._puts[receiving.key]

    def forget(self, receiving: Receiving) -> None:
        """End a put whose connection went; what came is kept."""
        self.spawn(self._leave(receiving))

    async def _leave(self, receiving: Receiving, *, keep: bool = True) -> None:
        try:
            await receiving.leave(keep=keep)
        except StoreError as error:
            _log.warn("what came of a blob is lost: {error}", error=error)

    # Changing and looking.

    async def delete(self, account: str, name: BlobName) -> None:
        """Delete a blob, and what came of one.

        Raises:
            BlobNotFoundError: there is none, and none was deleted lately.
            StoreError: the store failed.
        """
        self._check_serving()
        self._parked.pop((account, name), None)
        receiving = self._puts.get((account, name))
        if receiving is not None:
            await self._leave(receiving, keep=False)
        found: bool = await self._changes.run(self.store.deleting(account, name, self.now()))
        if not found:
            raise BlobNotFoundError(f"There is no blob {name}.")

    async def set_flags(self, account: str, name: BlobName, flags: tuple[Flag, ...]) -> None:
        """Set the flags of a blob; raises `BlobNotFoundError`, `StoreError`."""
        self._check_serving()
        await self._changes.run(self.store.flagging(account, name, flags, self.now()))

    async def stat(self, account: str, name: BlobName) -> Row:
        """Return the row of a blob; raises `BlobNotFoundError`, `StoreError`."""
        return await self._look(lambda: self.store.stat(account, name, self.now()))

    async def read(
        self, account: str, name: BlobName, offset: int, length: int
    ) -> tuple[Row, bytes]:
        """Return the row of a blob and bytes of it; raises `BlobNotFoundError`, `StoreError`."""
        return await self._look(lambda: self.store.read(account, name, offset, length, self.now()))

    async def page(
        self, account: str, chosen: Selection, after: str | int | None, most: int
    ) -> list[tuple[str, int]]:
        """Return (id, place) of the next blobs of a listing; raises `StoreError`."""
        return await self._look(lambda: self.store.page(account, chosen, after, most, self.now()))

    async def count(self, account: str, chosen: Selection) -> int:
        """Return how many blobs a listing has; raises `StoreError`."""
        return await self._look(lambda: self.store.count(account, chosen, self.now()))

    async def namespaces(self, account: str, after: str, most: int) -> list[str]:
        """Return the next namespaces of an account; raises `StoreError`."""
        return await self._look(lambda: self.store.namespaces(account, after, most, self.now()))

    async def used_by(self, account: str) -> int:
        """Return what an account takes, bytes; raises `StoreError`."""
        return await self._look(lambda: self.store.used_by(account))

    @property
    def account_quota(self) -> int | None:
        """The most bytes that an account may take, None for no bound."""
        return self.store.account_quota

    # What it tells.

    def status(self) -> dict[str, Any]:
        """Return what `status` shows, ready for JSON; sizes in bytes. Never blocks."""
        room = self._room
        facts = {} if room is None else attrs.asdict(room)
        return {
            "accepts": self._serving and not self.store.broken,
            "alarm": (
                "The disk failed, and no blob is accepted until a probe passes."
                if self.store.broken
                else ""
            ),
            **facts,
            "users": len(self._users),
            "puts": len(self._puts),
            "members": self._settings.members,
        }

    def report(self, error: StoreError) -> str:
        """Write a failure of the store to the log; return the number that it has there."""
        return reference_of(error, _log, self._entropy)

    # How it is done.

    def now(self) -> int:
        """Return the store's time."""
        return self.time.now()

    def in_thread(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]:
        """Run a function in a thread."""
        return self._threads.run(function, *args)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on its own; `stop` waits for it."""
        self._background.spawn(work)

    async def _look(self, look: Callable[[], T]) -> T:
        self._check_serving()
        found: T = await self._looks.run(look)
        return found

    def _check_serving(self) -> None:
        if not self._serving:
            raise e.BusyError("the service is not serving")
