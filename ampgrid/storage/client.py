"""The client's side of the storage Commands: one storage peer, and the shares sent to it.

`StorageServer` is a storage peer as uploads and downloads see it; `BucketWriter` sends one share
in order, with a window of unanswered writes, so that neither the latency of the network nor the
size of the share decides the pace or the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from ampgrid.commands import storage as commands
from ampgrid.commands.running import begin
from ampgrid.crypto import hashing
from ampgrid.crypto.hashing import Buffer
from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import (
    AmpgridError,
    BadArgumentValueError,
    CallTimeoutError,
    IntegrityError,
    PeerError,
)
from ampgrid.ports import Connection, Patience

#: The most unanswered bytes of one share, and how many it begins with.
WINDOW_BYTES = 12 * commands.MAX_CHUNK_BYTES
_FIRST_WINDOW_BYTES = 4 * commands.MAX_CHUNK_BYTES
#: An answer within so many seconds widens the window, one after so many narrows it.
_QUICK_SECONDS = 1.0
_LONG_SECONDS = 5.0
#: A share that moves more slowly than this for so long is given up.
_LEAST_BYTES_A_SECOND = 4_096
_LEAST_AFTER_SECONDS = 120.0
#: The most unanswered reads of one stretch of a share.
_READS_AT_ONCE = 16
_MOST_OFFSET = 2**63 - 1
#: Seconds for an answer about allocation or shares, beyond which a server is passed over.
ASK_SECONDS = 15.0
#: Seconds without the answer to any of a server's reads, or of a share's writes.
MOVE_SECONDS = 30.0
#: Seconds for the answer to a close, which waits for the disk.
CLOSE_SECONDS = 50.0


class LeaseSecrets:
    """The secrets that renew and cancel this client's leases, as Tahoe-LAFS derives them.

    Args:
        client_secret: 32 random bytes that the node keeps; empty where there are none, and then
            no lease can be made.

    Source: ``docs/specs/share.md``, "Lease secrets".
    """

    def __init__(self, client_secret: bytes) -> None:
        self._known = bool(client_secret)
        #: Of the last file: an upload makes leases at one server after the other.
        self._file = (b"", b"", b"")
        self._renewal = hashing.my_renewal_secret(client_secret)
        self._cancel = hashing.my_cancel_secret(client_secret)

    def for_server(self, storage_index: bytes, server_id: bytes) -> tuple[bytes, bytes]:
        """Return (renew secret, cancel secret) of one file at one server, 32 bytes each.

        Raises:
            BadArgumentValueError: anybody could derive them, since there is nothing secret.
        """
        if not self._known:
            raise BadArgumentValueError("this node has no lease secret, so it makes no leases")
        if self._file[0] != storage_index:
            self._file = (
                storage_index,
                hashing.file_renewal_secret(self._renewal, storage_index),
                hashing.file_cancel_secret(self._cancel, storage_index),
            )
        _, renewal, cancel = self._file
        return (
            hashing.bucket_renewal_secret(renewal, server_id),
            hashing.bucket_cancel_secret(cancel, server_id),
        )


@attrs.frozen
class Allocation:
    """What a server answered to a request for room.

    Attributes:
        already_got: every share of the file that it holds.
        writers: a writer for each share that it accepted and that is not stored yet.
        stored: shares that it accepted and has stored already.
    """

    already_got: frozenset[int]
    writers: dict[int, BucketWriter]
    stored: frozenset[int]


class StorageServer:
    """One storage peer over one connection; there is one of these a connection.

    Args:
        connection: to that peer (or to this node itself).
        secrets: what this client's leases are made with.
    """

    def __init__(self, connection: Connection, secrets: LeaseSecrets) -> None:
        self.connection = connection
        self.server_id = connection.peer_id
        self._secrets = secrets
        self._next_bucket = 0
        self._reading = Patience(MOVE_SECONDS)

    @property
    def name(self) -> str:
        """The start of its node id, enough to tell peers apart in a message."""
        return node_id_text(self.server_id)[:8]

    def _lease(self, storage_index: bytes) -> dict[str, bytes]:
        renew, cancel = self._secrets.for_server(storage_index, self.server_id)
        return {"renew_secret": renew, "cancel_secret": cancel}

    def _bucket(self) -> int:
        self._next_bucket += 1
        return self._next_bucket

    async def allocate(
        self, storage_index: bytes, numbers: Iterable[int], size: int
    ) -> Allocation:
        """Ask room for shares of ``size`` bytes each.

        Raises:
            PeerError: the server did not answer, or answered an error.
        """
        bucket, asked = self._bucket(), frozenset(numbers)
        try:
            answer = await self.connection.call(
                commands.AllocateBuckets,
                operation=(storage_index, bucket),
                deadline=ASK_SECONDS,
                storage_index=storage_index,
                shares=asked,
                allocated_size=size,
                bucket=bucket,
                **self._lease(storage_index),
            )
        except (CallTimeoutError, CancelledError):
            # It may still come to be: the room must not stay reserved for nobody.
            for number in asked:
                writer = BucketWriter(self, storage_index, bucket, number, size)
                Deferred.fromCoroutine(writer.abort())
            raise
        # A server that accepts what it was not asked for is not believed.
        writers = {
            number: BucketWriter(self, storage_index, bucket, number, size)
            for number in answer["accepted"] & asked
        }
        return Allocation(answer["already_got"], writers, frozenset())

    async def store(self, storage_index: bytes, number: int, data: bytes) -> Allocation:
        """Store one small share in one round trip.

        Args:
            storage_index: of the file, 16 bytes.
            number: of the share.
            data: all of it, at most `ampgrid.commands.storage.MAX_CHUNK_BYTES`.

        Raises:
            PeerError: the server did not answer, or answered an error.
        """
        bucket = self._bucket()
        answer = await self.connection.call(
            commands.AllocateBuckets,
            operation=(storage_index, bucket),
            deadline=CLOSE_SECONDS,
            storage_index=storage_index,
            shares=frozenset((number,)),
            allocated_size=len(data),
            bucket=bucket,
            data=data,
            close=True,
            **self._lease(storage_index),
        )
        return Allocation(answer["already_got"], {}, answer["accepted"] & {number})

    async def shares(
        self, storage_index: bytes, want: Iterable[int] = (), head: int = 0
    ) -> tuple[dict[int, int], dict[int, bytes]]:
        """Return the shares it holds, {number: size}, and {number: first bytes} of the wanted.

        Raises:
            PeerError: the server did not answer, or answered an error.
        """
        answer = await self.connection.call(
            commands.GetBuckets,
            deadline=ASK_SECONDS,
            storage_index=storage_index,
            want=frozenset(want),
            head=head,
        )
        return answer["sizes"], answer["heads"]

    async def read(self, storage_index: bytes, number: int, offset: int, length: int) -> bytes:
        """Return ``length`` bytes of a share, fewer only where it ends.

        Raises:
            PeerError: the server did not answer, or answered an error.
            IntegrityError: no share reaches to such a place.
        """
        if offset < 0 or length < 0 or offset + length > _MOST_OFFSET:
            raise IntegrityError("the share claims to be larger than a share can be")
        most = commands.MAX_CHUNK_BYTES
        if length <= most:
            return await self._read_chunk(storage_index, number, offset, length)
        starts = iter(range(offset, offset + length, most))
        reading: deque[Deferred[bytes]] = deque()
        chunks: list[bytes] = []
        try:
            while True:
                while len(reading) < _READS_AT_ONCE and (start := next(starts, None)) is not None:
                    size = min(most, offset + length - start)
                    chunk = self._read_chunk(storage_index, number, start, size)
                    reading.append(Deferred.fromCoroutine(chunk))
                if not reading:
                    return b"".join(chunks)
                chunks.append(await reading.popleft())
        finally:
            for unwanted in reading:
                unwanted.addErrback(lambda _failure: None)

    async def _read_chunk(
        self, storage_index: bytes, number: int, offset: int, length: int
    ) -> bytes:
        answer = await self.connection.call(
            commands.ReadShare,
            operation=(storage_index, number),
            deadline=self._reading,
            storage_index=storage_index,
            share=number,
            offset=offset,
            length=length,
        )
        data: bytes = answer["data"]
        return data[:length]

    async def advise_corrupt(self, storage_index: bytes, number: int, reason: str) -> None:
        """Tell the server that a share it holds is bad.

        Raises:
            PeerError: the server did not answer, or answered an error.
        """
        await self.connection.call(
            commands.AdviseCorruptShare,
            deadline=ASK_SECONDS,
            storage_index=storage_index,
            share=number,
            reason=reason,
        )

    async def add_lease(self, storage_index: bytes) -> None:
        """Add this client's lease to the shares of a file there, or renew it for the full time.

        Raises:
            NoSuchShareError: the server holds no share of the file.
            PeerError: the server did not answer, or answered another error.
        """
        await self.connection.call(
            commands.AddLease,
            deadline=ASK_SECONDS,
            storage_index=storage_index,
            **self._lease(storage_index),
        )

    async def space(self) -> dict[str, Any]:
        """Return what the server tells of its room (see `ampgrid.commands.storage.GetSpace`)."""
        return await self.connection.call(commands.GetSpace, deadline=ASK_SECONDS)


class BucketWriter:
    """Sends one share from its first byte to its last (seed 001's IStorageBucketWriter).

    Bytes are gathered into chunks; up to `WINDOW_BYTES` go without an answer. The first error
    ends the writer: it is raised by the next call, and nothing more is sent.
    """

    def __init__(
        self, server: StorageServer, storage_index: bytes, bucket: int, number: int, size: int
    ) -> None:
        self.server = server
        self.number = number
        self.size = size
        self._call = server.connection.call
        self._bucket = {"bucket": bucket, "share": number}
        self._operation = (storage_index, bucket)
        self._pieces: list[Buffer] = []
        self._gathered = 0
        self._offset = 0
        self._unanswered = 0
        self._error: Exception | None = None
        self._waiting: Deferred[None] | None = None
        self._writing = Patience(MOVE_SECONDS)
        self._closing = Patience(CLOSE_SECONDS, 10 * CLOSE_SECONDS)
        self._window = _FIRST_WINDOW_BYTES

    async def put(self, data: Buffer) -> None:
        """Send the next bytes of the share; waits while the window is full.

        Raises:
            PeerError: the server failed; the share is lost there.
        """
        most = commands.MAX_CHUNK_BYTES
        view = memoryview(data)
        while self._gathered + len(view) >= most:
            room = most - self._gathered
            self._pieces.append(view[:room])
            view = view[room:]
            self._send()
        if len(view):
            self._pieces.append(view)
            self._gathered += len(view)
        await self._until(self._window)

    def _send(self) -> None:
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self._gathered = 0
        if self._error is not None:
            return
        self._unanswered += len(data)
        call = self._call(
            commands.WriteShare,
            operation=self._operation,
            deadline=self._writing,
            offset=self._offset,
            data=data,
            **self._bucket,
        )
        self._offset += len(data)
        size = len(data)
        try:
            writing = begin(call)
        except Exception:  # noqa: BLE001 - as any other failure
            self._failed(Failure(), size)
            return
        if isinstance(writing, Deferred):
            writing.addCallbacks(self._answered, self._failed, (size,), {}, (size,))
        else:
            self._answered(writing, size)

    def _answered(self, _answer: object, size: int) -> None:
        self._unanswered -= size
        pace = self._writing
        # A close is sent behind the writes; its time begins with the last of their answers.
        self._closing.answered_at = pace.answered_at
        # On a slow line less is sent ahead, so that no write waits long behind others.
        if pace.took > _LONG_SECONDS:
            self._window = max(commands.MAX_CHUNK_BYTES, self._window // 2)
        elif pace.took < _QUICK_SECONDS:
            self._window = min(WINDOW_BYTES, self._window + commands.MAX_CHUNK_BYTES)
        if pace.began_at is not None:
            passed = pace.answered_at - pace.began_at
            moved = self._offset - self._unanswered
            if passed > _LEAST_AFTER_SECONDS and moved < passed * _LEAST_BYTES_A_SECOND:
                self._end(PeerError("the server takes the share too slowly"))
        self._wake()

    def _failed(self, failure: Failure, size: int) -> None:
        self._unanswered -= size
        error = failure.value
        self._end(error if isinstance(error, Exception) else PeerError("the write failed"))
        self._wake()
        failure.trap(AmpgridError)

    def _end(self, error: Exception) -> None:
        if self._error is None:
            self._error = error

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def _until(self, most: int) -> None:
        while self._error is None and self._unanswered > most:
            self._waiting = Deferred()
            await self._waiting
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        """Send what is left and store the share; returns after it is durable there.

        Raises:
            PeerError: the server failed; the share is lost there.
        """
        if self._gathered:
            self._send()
        # Sent behind the writes without waiting for their answers: one round trip less.
        await self._call(
            commands.CloseBucket,
            operation=self._operation,
            deadline=self._closing,
            **self._bucket,
        )
        await self._until(0)

    async def abort(self) -> None:
        """Throw the share away; a server that is gone has done so itself."""
        self._pieces = []
        self._gathered = 0
        if self._error is None:
            self._error = AmpgridError("the share was given up")
        if self.server.connection.connected:
            try:
                await self._call(commands.AbortBucket, deadline=ASK_SECONDS, **self._bucket)
            except AmpgridError:
                return
