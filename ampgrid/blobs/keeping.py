"""The local store of a user's blobs as a whole, and what of it is to be tried once more."""

from __future__ import annotations

import os
from pathlib import Path

from ampgrid.blobs.contents import is_whole
from ampgrid.blobs.managing import ManagedBlobs, space_of
from ampgrid.errors import BlobNotFoundError
from ampgrid.formats.blobname import BlobName
from ampgrid.store.blobopening import BlobStoreFiles
from ampgrid.store.blobopening import Opener as StoreOpener
from ampgrid.store.blobrecord import Priority, SyncStatus


class BlobKeeping(ManagedBlobs):
    """What a `ampgrid.blobs.manager.BlobManager` does with its local store."""

    async def set_priority(
        self, blob_id: str, priority: Priority, namespace: str | None = None
    ) -> None:
        """Let a blob go earlier or later.

        Raises:
            BlobNotFoundError: it is not known here.
        """
        name = BlobName.of(blob_id, namespace)
        store = await self._opened()
        if not await self.threads.run(store.set_priority, name, priority):
            raise BlobNotFoundError(f"There is no blob {name} here.")

    async def bring_again(self, blob_id: str, namespace: str | None = None) -> None:
        """Bring a blob from the remote once more, in the place of one that is damaged here.

        One that is whole stays, and so does what is left of one that the remote has not.

        Raises:
            BlobNotFoundError: the store has none that the remote has too.
            InvalidBlobError: what came was bad several times.
            RemoteUnavailableError: the remote does not answer; the next sync brings it.
        """
        name = BlobName.of(blob_id, namespace)
        store = await self._opened()
        async with self._locks.held(name), self._slots.taken(Priority.MEDIUM):
            blob = await self.threads.run(store.find, name)
            if blob is None or blob.status is not SyncStatus.SYNCED:
                raise BlobNotFoundError(f"There is no blob {name} in sync here.")
            if await is_whole(store, self.threads, self._secret, blob):
                return
            await self._retrying.run(lambda: self._remote.stat(name))
            await self.threads.run(store.want_again, name)
            if not await self._transfers(store).fetch(name):
                raise BlobNotFoundError(f"The remote has no blob {name} any more.")

    async def ask_again(self, namespace: str | None = None) -> int:
        """Let the blobs that failed be tried again by the next sync; return how many."""
        store = await self._opened()
        return await self.threads.run(store.ask_again, space_of(namespace))

    # The store as a whole.

    async def rekey(self, key: StoreOpener) -> None:
        """Give the local store another key or passphrase; all of it is enciphered anew.

        Raises:
            BadArgumentValueError: it is no key, or no passphrase.
            StoreError: it could not be done; the store is as it was.
        """
        store = await self._opened()
        assert self._files is not None
        assert self._key is not None
        await self.threads.run(self._files.rekey, store, self._key, key, self._entropy, self._cost)
        self._key = key

    async def export(
        self, path: str | os.PathLike[str], key: StoreOpener, cipher_format: int | None = None
    ) -> None:
        """Write all of the local store into a new one.

        Args:
            path: of its database.
            key: what shall open it: 32 bytes, or a passphrase.
            cipher_format: of SQLCipher, 3 for ``pysqlcipher3`` or 4 for ``sqlcipher3``; None for
                that of the driver.

        Raises:
            ConfigError: something is there already.
            BadArgumentValueError: the driver does not know that format.
        """
        store = await self._opened()
        files = BlobStoreFiles.at(Path(path))
        await self.threads.run(files.export, store, key, cipher_format, self._entropy, self._cost)

    async def check(self) -> list[str]:
        """Return what is wrong with the file of the local store, nothing if all is well."""
        store = await self._opened()
        return await self.threads.run(store.check)
