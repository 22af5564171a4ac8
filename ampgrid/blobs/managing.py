"""What all that a `BlobManager` does needs: its parts, its local store, its remote.

Its subjects are `ampgrid.blobs.looking`, `ampgrid.blobs.keeping` and, with what an application
does with a blob, `ampgrid.blobs.manager`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ampgrid.blobs.bounds import Bounds
from ampgrid.blobs.passing import Passing
from ampgrid.blobs.port import Remote
from ampgrid.blobs.remotes import Account, open_remote_at
from ampgrid.blobs.retrying import Retrying
from ampgrid.blobs.slots import NameLocks, Slots
from ampgrid.blobs.syncing import Syncing
from ampgrid.blobs.transfers import Transfers, Watcher
from ampgrid.crypto.sealed import DEFAULT_COST, Cost
from ampgrid.errors import BadArgumentValueError
from ampgrid.formats.blobcipher import checked_secret
from ampgrid.formats.blobname import DEFAULT_NAMESPACE, BlobName, checked_namespace
from ampgrid.formats.blobuser import checked_user
from ampgrid.ports import Clock, Entropy, Threads, WallClock
from ampgrid.store.blobopening import BlobStoreFiles
from ampgrid.store.blobopening import Opener as StoreOpener
from ampgrid.store.blobrecord import LocalBlob
from ampgrid.store.localblobs import LocalBlobStore
from ampgrid.wire.threads import PoolThreads

#: Transfers that run at once, and tries of what comes no further.
TRANSFERS_AT_ONCE = 3
ATTEMPTS = 8


class ManagedBlobs:
    """The parts of a `ampgrid.blobs.manager.BlobManager`, which says what its arguments are."""

    def __init__(
        self,
        local_path: str | os.PathLike[str] | None,
        remote: Remote | str | None,
        key: StoreOpener | None,
        secret: bytes,
        user: str,
        token: str | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        *,
        transfers: int = TRANSFERS_AT_ONCE,
        attempts: int = ATTEMPTS,
        watcher: Watcher = lambda _moved: None,
        clock: Clock | None = None,
        wall: WallClock = time.time,
        threads: Threads | None = None,
        entropy: Entropy = os.urandom,
        uniform: Callable[[float, float], float] = random.uniform,
        cost: Cost = DEFAULT_COST,
        bounds: Bounds = Bounds(),  # noqa: B008 - it cannot change
    ) -> None:
        checked_user(user)
        self._secret = checked_secret(secret)
        if local_path is not None and not key:
            raise BadArgumentValueError("A local store of blobs needs a key or a passphrase.")
        if transfers < 1 or attempts < 1:
            raise BadArgumentValueError("At least one transfer, and one attempt.")
        if isinstance(remote, str):
            account = Account(user, token, None if cert_file is None else Path(cert_file))
            remote = open_remote_at(remote, account)
        self._files = (
            None
            if local_path is None
            else BlobStoreFiles.at(Path(local_path) / f"{user}_blobs.db")
        )
        self._key = key
        self._cost = cost
        self._bounds = bounds
        self._remote_or_none = remote
        clock, self._own_threads = _surroundings(clock, threads)
        chosen = threads or self._own_threads
        assert chosen is not None
        self.threads: Threads = chosen
        self._retrying = Retrying(clock, uniform, attempts)
        self._entropy = entropy
        self._wall = wall
        self._watcher = watcher
        self._transfers_at_once = transfers
        self._slots = Slots(transfers)
        self._locks = NameLocks()
        self._store: LocalBlobStore | None = None
        self._closed = False

    async def close(self) -> None:
        """End; what is under way fails, and goes on another time."""
        if self._closed:
            return
        self._closed = True
        if self._remote_or_none is not None:
            await self._remote_or_none.close()
        if self._store is not None:
            await self.threads.run(self._store.close)
        if self._own_threads is not None:
            await self._own_threads.stop(10.0)

    # Inside.

    @property
    def _remote(self) -> Remote:
        if self._remote_or_none is None:
            raise BadArgumentValueError("There is no remote: name one.")
        return self._remote_or_none

    async def _opened(self) -> LocalBlobStore:
        """Return the local store; it is opened when it is used first."""
        files, key = self._files, self._key
        if files is None or key is None:
            raise BadArgumentValueError("There is no local store: name its directory.")
        async with self._locks.held("the local store"):
            if self._closed:
                raise BadArgumentValueError("The blobs were closed.")
            if self._store is None:
                self._store = await self.threads.run(files.open, key, self._entropy, self._cost)
            return self._store

    async def _find(self, blob_id: str, namespace: str | None) -> LocalBlob | None:
        name = BlobName.of(blob_id, namespace)
        store = await self._opened()
        return await self.threads.run(store.find, name)

    def _passing(self) -> Passing:
        return Passing(
            self._remote,
            self._secret,
            self.threads,
            self._retrying,
            self._entropy,
            self._slots,
            self._watcher,
        )

    def _transfers(self, store: LocalBlobStore) -> Transfers:
        return Transfers(
            store,
            self._remote,
            self._secret,
            self.threads,
            self._retrying,
            self._watcher,
            self._bounds,
        )

    def _syncing(self, store: LocalBlobStore) -> Syncing:
        return Syncing(
            self._transfers(store), self._slots, self._locks, self._transfers_at_once, self._wall
        )

    async def _sweep(self, store: LocalBlobStore) -> None:
        """Free what deleted blobs took, some rows at a time."""
        while not self._closed and await self.threads.run(store.sweep):
            pass


def space_of(namespace: str | None) -> str:
    """Return the namespace that is meant; none, or an empty one, means the default."""
    return checked_namespace(namespace or DEFAULT_NAMESPACE)


def _surroundings(
    clock: Clock | None, threads: Threads | None
) -> tuple[Clock, PoolThreads | None]:
    """Return the clock, and threads of one's own where none were given."""
    if clock is not None and threads is not None:
        return clock, None
    from twisted.internet import reactor

    reactor_: Any = reactor
    return clock or reactor_, None if threads else PoolThreads(reactor_, 4, "blobs")
