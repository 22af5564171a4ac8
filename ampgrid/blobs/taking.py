"""A blob on its way from an application into the local store."""

from __future__ import annotations

from typing import IO

from attrs import define, field

from ampgrid.blobs.contents import Blob, open_local
from ampgrid.blobs.sources import STEP_BYTES, Sealing
from ampgrid.blobs.transfers import UNSENT
from ampgrid.errors import BlobAlreadyExistsError, BlobDeletedError
from ampgrid.formats.blobcipher import BlobCipher
from ampgrid.formats.blobname import BlobName
from ampgrid.ports import Entropy, Threads, WallClock
from ampgrid.store.blobrecord import LocalBlob, Priority, SyncStatus
from ampgrid.store.blobwriting import Incoming
from ampgrid.store.localblobs import LocalBlobStore

#: Steps of a small blob, that are done in one go.
_STEPS_AT_ONCE = 2


@define
class Taking:
    """What seals blobs into a local store.

    Attributes:
        store: the local store.
        threads: where it is used and blobs are sealed.
        secret: of the user.
        entropy: for salts.
        wall: tells the time.
    """

    store: LocalBlobStore
    threads: Threads
    secret: bytes = field(repr=False)
    entropy: Entropy
    wall: WallClock

    async def bring(
        self, name: BlobName, plain: IO[bytes], size: int, status: SyncStatus, priority: Priority
    ) -> bool:
        """Take a blob in, as `take` does; return False if it was here, and only is to be sent.

        Raises:
            BlobAlreadyExistsError: there is another one of that name.
            BlobDeletedError: one of that name is about to be deleted at the remote.
            BadArgumentValueError: it has another size than was said.
        """
        blob = await self.threads.run(self.store.find, name)
        if blob is not None and blob.status is SyncStatus.PENDING_DOWNLOAD:
            # What was asked for and has not come may not even be there: the remote will tell.
            await self.threads.run(self.store.drop, name, [blob.status])
            blob = None
        if blob is None:
            await self.take(name, plain, size, status, priority)
            return True
        if blob.status is SyncStatus.PENDING_DELETE:
            raise BlobDeletedError(f"The blob {name} was deleted lately; use another id.")
        unsent = blob.usable and blob.status in UNSENT and status is SyncStatus.PENDING_UPLOAD
        if not unsent or not await self.is_same(blob, plain, size):
            raise BlobAlreadyExistsError(f"There is a blob {name} already.")
        return False

    async def take(
        self, name: BlobName, plain: IO[bytes], size: int, status: SyncStatus, priority: Priority
    ) -> None:
        """Seal a blob into the local store. It is there whole then, or not at all.

        Args:
            name: of the blob.
            plain: its content, from where it stands to its end.
            size: of that, bytes.
            status: that it gets.
            priority: that it gets.

        Raises:
            BlobAlreadyExistsError: there is one of that name.
            BadArgumentValueError: it has another size than was said.
        """
        cipher = BlobCipher.sealing(self.secret, name, size, self.entropy)
        incoming = Incoming.putting(
            self.store, name, status=status, priority=priority, now=self.wall()
        )
        sealing = Sealing(cipher, plain)

        def step() -> None:
            if not incoming.rows:
                incoming.add([cipher.preamble.data])
            for _ in range(_STEPS_AT_ONCE):
                if not sealing.ended:
                    incoming.add(sealing.step())
            if sealing.ended:
                incoming.finish(cipher.preamble.sealed_size, size)

        try:
            while not sealing.ended:
                await self.threads.run(step)
        except BaseException:
            await self.threads.run(incoming.discard)
            raise

    async def is_same(self, blob: LocalBlob, plain: IO[bytes], size: int) -> bool:
        """Tell whether a blob of the store has this content; ``plain`` is read for it."""
        here = await open_local(self.store, self.threads, self.secret, blob)
        if not isinstance(here, Blob) or here.size != size:
            return False
        while piece := await here.read(STEP_BYTES):
            if await self.threads.run(_read_all, plain, len(piece)) != piece:
                return False
        return await self.threads.run(plain.read, 1) == b""


def _read_all(plain: IO[bytes], length: int) -> bytes:
    """Return so many bytes, also of a file that gives fewer at once; fewer at its end."""
    parts = []
    while length and (part := plain.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
