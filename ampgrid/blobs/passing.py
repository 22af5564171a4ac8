"""Blobs that go past the local store: straight from an application to the remote, and back."""

from __future__ import annotations

from typing import IO

from attrs import define, field

from ampgrid.blobs.contents import Blob, ExternalBlob, open_remote
from ampgrid.blobs.port import Remote
from ampgrid.blobs.retrying import Retrying
from ampgrid.blobs.slots import Slots
from ampgrid.blobs.sources import Spool
from ampgrid.blobs.transfers import Moved, Watcher
from ampgrid.errors import BlobNotFoundError
from ampgrid.formats.blobcipher import BlobCipher
from ampgrid.formats.blobname import BlobName
from ampgrid.ports import Entropy, Threads
from ampgrid.store.blobrecord import Priority


@define
class Passing:
    """What moves blobs between an application and a remote.

    Attributes:
        remote: the remote.
        secret: of the user.
        threads: where files are read and blobs are sealed.
        retrying: how a failing remote is treated.
        entropy: for salts.
        slots: how many move at once.
        watcher: told of what moves.
    """

    remote: Remote
    secret: bytes = field(repr=False)
    threads: Threads
    retrying: Retrying
    entropy: Entropy
    slots: Slots
    watcher: Watcher

    async def upload(
        self, name: BlobName, plain: IO[bytes], size: int, priority: Priority
    ) -> None:
        """Put a blob to the remote; errors are those of `ampgrid.blobs.port.Remote.put`.

        Args:
            name: of the blob.
            plain: its content, from where it stands to its end.
            size: of that, bytes.
            priority: which goes first when several wait.
        """
        cipher = BlobCipher.sealing(self.secret, name, size, self.entropy)
        async with self.slots.taken(priority):
            spool = await Spool.filled(cipher, plain, self.threads)
            reached = 0

            def given(offset: int) -> None:
                nonlocal reached
                reached = max(reached, offset)
                self.watcher(Moved(name, sending=True, done=offset, total=spool.size))

            spool.tell(given)
            try:
                await self.retrying.run(lambda: self.remote.put(name, spool), lambda: reached)
            finally:
                await self.threads.run(spool.close)

    async def download(self, name: BlobName, priority: Priority) -> Blob | ExternalBlob | None:
        """Return a blob as it comes, None if there is none; it holds a stream until closed."""
        done = 0

        def told(count: int) -> None:
            nonlocal done
            done += count
            self.watcher(Moved(name, sending=False, done=done, total=stat.size))

        try:
            stat = await self.retrying.run(lambda: self.remote.stat(name))
            async with self.slots.taken(priority):
                return await open_remote(self.remote, self.secret, name, self.retrying, told)
        except BlobNotFoundError:
            return None
