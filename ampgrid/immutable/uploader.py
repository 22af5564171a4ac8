"""Uploading a file to the grid (seed 001's IUploader).

The steps: a cap that holds the data itself for the smallest files; otherwise the convergent
key, the storage index, a placement of the shares on the servers in permuted order, and the
shares. A file of one segment whose shares are small is encoded first and its shares are stored
in one round trip each; a larger one streams.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ampgrid.caps import MAX_INLINE_SIZE, MAX_LIT_SIZE, ChkCap, ChkVerifierCap, LitCap
from ampgrid.commands.errors import BusyError
from ampgrid.commands.storage import MAX_CHUNK_BYTES
from ampgrid.crypto import hashing
from ampgrid.crypto.sameness import FirstReading, Rereading
from ampgrid.errors import AmpgridError, BadArgumentValueError, FileError, NotHappyError
from ampgrid.formats.chkwriter import FileEncoder, FileTail
from ampgrid.formats.segments import (
    DEFAULT_MAX_SEGMENT_SIZE,
    MAX_SEGMENTS,
    num_segments,
    segment_size_for,
)
from ampgrid.immutable.budget import Budget
from ampgrid.immutable.earlykey import EarlyKey, KeyParameters
from ampgrid.immutable.encoder import AHEAD, ShareSender
from ampgrid.immutable.encoding import Encoding
from ampgrid.immutable.existing import claimed_extension
from ampgrid.immutable.operation import Operation
from ampgrid.immutable.several import each
from ampgrid.immutable.spool import Spool
from ampgrid.immutable.uploadables import SMALL_BYTES, Data, Uploadable
from ampgrid.placement import PlacementPlan, permute
from ampgrid.ports import Clock, Threads
from ampgrid.storage.client import WINDOW_BYTES, Allocation, BucketWriter, StorageServer
from ampgrid.wire import InlineThreads

_log = Logger()

#: Bytes read and hashed at once while the key is computed, and in one turn of a worker thread.
_HASH_PIECE = 1024 * 1024
_HASH_TURN = 4 * _HASH_PIECE
#: An upload is begun again when shares found on servers turn out to be foreign: from then on
#: it is known which are ours.
_ATTEMPTS = 2
#: How often a busy server is asked again, and the seconds between, growing.
_BUSY_TRIES = 12
_BUSY_SECONDS = 0.25
#: So many servers that failed are named in the message of an error.
_TOLD_PROBLEMS = 4


@attrs.frozen
class Uploaded:
    """What an upload came to.

    Attributes:
        cap: what gives the file back.
        size: of the file, bytes.
        shares_placed: number of distinct shares that are on servers now.
        servers_happy: happiness reached, a number of servers.
        shares_already_there: of them, how many were there before.
        problems: one line for each server that failed on the way.
    """

    cap: ChkCap | LitCap
    size: int
    shares_placed: int = 0
    servers_happy: int = 0
    shares_already_there: int = 0
    problems: tuple[str, ...] = ()


#: Notes durably that a file is to be kept alive.
Remember = Callable[[ChkVerifierCap, Encoding], Awaitable[None]]


#: Puts a cap where it belongs.
Link = Callable[[ChkCap | LitCap], Awaitable[None]]


async def _forget(_cap: ChkVerifierCap, _encoding: Encoding) -> None:
    """Keep no list of files."""


def needs_shares(size: int, *, inline: bool) -> bool:
    """Tell whether a file gets shares; a smaller one is held by its cap itself.

    Args:
        size: of the file, bytes.
        inline: whether it may be held by the entry of the directory that it goes into.
    """
    return size > (MAX_INLINE_SIZE if inline else MAX_LIT_SIZE)


class Uploader:
    """Uploads files.

    Args:
        servers: returns the storage peers that are connected now.
        convergence: the node's convergence secret.
        threads: where reading, enciphering, coding and hashing happen.
        max_segment_size: bytes.
        remember: awaited with every file before its cap is given away.
        budget: memory, shared with the node's other transfers.
        clock: by which a busy server is asked again; without one it counts as failed.
    """

    def __init__(
        self,
        servers: Callable[[], Sequence[StorageServer]],
        convergence: bytes,
        threads: Threads,
        max_segment_size: int = DEFAULT_MAX_SEGMENT_SIZE,
        remember: Remember = _forget,
        budget: Budget | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock
        self._servers = servers
        self._convergence = convergence
        self._threads = threads
        self._max_segment_size = max_segment_size
        self._remember = remember
        self._budget = budget or Budget()

    def early_key(self, size: int | None, encoding: Encoding) -> EarlyKey:
        """Return what finds the key of a file as its bytes come in.

        Args:
            size: of the file, at least 1; None if that is not known yet: then the key is found
                if the file turns out to have more than one segment.
            encoding: how it will be uploaded.
        """
        size = self._max_segment_size if size is None else size
        segment_size = segment_size_for(size, encoding.needed, self._max_segment_size)
        parameters = KeyParameters(size, encoding.needed, encoding.total, segment_size)
        return EarlyKey(self._convergence, parameters)

    async def upload_data(self, data: bytes, encoding: Encoding) -> Uploaded:
        """Upload bytes (see `upload`)."""
        return await self.upload(Data(data), encoding, Operation())

    async def upload(
        self,
        source: Uploadable,
        encoding: Encoding,
        operation: Operation,
        link: Link | None = None,
        *,
        inline: bool = False,
    ) -> Uploaded:
        """Upload what ``source`` holds; the caller closes it.

        Args:
            source: what is uploaded.
            encoding: how.
            operation: shows the progress.
            link: puts the cap where it belongs, once the shares are stored.
            inline: whether it may be held by the entry of a directory (`needs_shares`).

        Raises:
            BadArgumentValueError: there is no convergence secret.
            NotHappyError: the shares could not be placed on enough servers.
            FileError: the source cannot be read, or changed on the way; or the file could not
                be noted as one to be kept.
            OperationCancelledError: somebody has cancelled.
            Exception: whatever ``link`` raises.
        """
        if not self._convergence:
            # With a key that all the world can derive, whoever guesses a file can confirm it.
            raise BadArgumentValueError("this node has no convergence secret; it uploads nothing")
        size = source.get_size()
        operation.enter("hashing", size)
        if not needs_shares(size, inline=inline):
            lit = LitCap(await self._whole(source))
            operation.done = size
            if link is not None:
                await link(lit)
            return Uploaded(lit, size)
        operation.enter("waiting for its turn")
        async with self._budget.take(self._memory(size, encoding), operation.check):
            uploaded = await self._spread(source, encoding, operation)
        verify = uploaded.cap.get_verify_cap()
        assert verify is not None
        work = [self._remember(verify, encoding)]
        if link is not None:
            # Both wait for a disk: at the same time.
            work.append(link(uploaded.cap))
        outcomes = await each({n: _started(one) for n, one in enumerate(work)})
        for outcome in outcomes.values():
            if isinstance(outcome, Exception):
                raise outcome
        return uploaded

    async def _whole(self, source: Uploadable) -> bytes:
        if isinstance(source, Data):
            return _read_whole(source)
        return await self._threads.run(_read_whole, source)

    def _memory(self, size: int, encoding: Encoding) -> int:
        """Return what an upload may hold at once, bytes: segments, their blocks, the windows."""
        expansion = 1 + encoding.total / encoding.needed
        segments = min(size, (2 + AHEAD) * self._max_segment_size)
        windows = encoding.total * min(size // encoding.needed, WINDOW_BYTES)
        return int(2 * segments * expansion) + windows

    async def _spread(
        self, source: Uploadable, encoding: Encoding, operation: Operation
    ) -> Uploaded:
        size = source.get_size()
        operation.enter("hashing")
        segment_size = segment_size_for(size, encoding.needed, self._max_segment_size)
        if num_segments(size, segment_size) > MAX_SEGMENTS:
            raise FileError("the file is too large for segments of this size")
        early = source.early_key if isinstance(source, Spool) else None
        if size <= segment_size:
            # Read once: what is in memory cannot change between the two passes.
            source = Data(await self._whole(source))
        # A small file is encoded before a thread had even begun.
        threads = InlineThreads() if size <= SMALL_BYTES else self._threads
        parameters = KeyParameters(size, encoding.needed, encoding.total, segment_size)
        key = None if early is None else early.found(parameters)
        # Of what is always the same nobody need see that it is.
        reading = None if source.is_steady() else FirstReading()
        if key is None or reading is not None:
            key = await self._convergent_key(source, parameters, reading, operation, threads)
        operation.done = size
        own_extension: bytes | None = None
        for _attempt in range(_ATTEMPTS):
            upload = _Upload(
                key=key,
                source=source,
                rereading=None if reading is None else reading.again(),
                segment_size=segment_size,
                encoding=encoding,
                servers=self._servers(),
                threads=threads,
                clock=self._clock,
                operation=operation,
                own_extension=own_extension,
            )
            uploaded = await upload.run()
            if uploaded is not None:
                return uploaded
            own_extension = upload.own_extension
        raise NotHappyError("servers hold foreign shares in the place of this file's")

    async def _convergent_key(
        self,
        source: Uploadable,
        parameters: KeyParameters,
        reading: FirstReading | None,
        operation: Operation,
        threads: Threads,
    ) -> bytes:
        hasher = parameters.hasher(self._convergence)
        size = parameters.size

        def hash_some(start: int) -> int:
            end = min(start + _HASH_TURN, size)
            for at in range(start, end, _HASH_PIECE):
                piece = source.read_at(at, min(_HASH_PIECE, end - at))
                hasher.update(piece)
                if reading is not None:
                    reading.update(piece)
            return end

        while operation.done < size:
            operation.check()
            operation.done = await threads.run(hash_some, operation.done)
        return hasher.digest()


class _Upload:
    """One attempt at one upload."""

    def __init__(
        self,
        *,
        key: bytes,
        source: Uploadable,
        rereading: Rereading | None,
        segment_size: int,
        encoding: Encoding,
        servers: Sequence[StorageServer],
        threads: Threads,
        operation: Operation,
        clock: Clock | None,
        own_extension: bytes | None,
    ) -> None:
        size = source.get_size()
        self._encoding = encoding
        self._operation = operation
        self._threads = threads
        self._encoder = FileEncoder(key, size, encoding.needed, encoding.total, segment_size)
        self._layout = self._encoder.layout
        self._sender = ShareSender(self._encoder, source, rereading, threads, operation)
        self._storage_index = hashing.storage_index_hash(key)
        self._servers = {server.server_id: server for server in servers}
        order = permute(self._storage_index, self._servers)[: 2 * encoding.total]
        self._plan: PlacementPlan[bytes] = PlacementPlan(order, encoding.total, encoding.happy)
        self._writers: dict[tuple[bytes, int], BucketWriter] = {}
        self._stored: set[tuple[bytes, int]] = set()
        self._claims: dict[tuple[bytes, int], bytes | None] = {}
        self._clock = clock
        #: Hash of the file's URI extension, once it is known.
        self.own_extension = own_extension
        self._problems: list[str] = []

    async def run(self) -> Uploaded | None:
        """Upload; None if shares that were counted on turned out to be foreign."""
        try:
            if self._layout.num_segments == 1 and self._layout.share_size <= MAX_CHUNK_BYTES:
                tail = await self._store_small()
            else:
                tail = await self._stream()
        finally:
            await self._abort(list(self._writers.values()))
        self.own_extension = tail.ueb_hash
        self._check_happy()
        held_places = {(s, n) for s, numbers in self._plan.held().items() for n in numbers}
        if any(self._claims[place] != tail.ueb_hash for place in held_places):
            return None
        held = set().union(*self._plan.held().values())
        placed = held | {number for _server, number in self._stored}
        return Uploaded(
            cap=tail.cap,
            size=self._layout.size,
            shares_placed=len(placed),
            servers_happy=self._plan.happiness(),
            shares_already_there=len(held - {number for _server, number in self._stored}),
            problems=tuple(self._problems),
        )

    # Placement.

    async def _place(
        self, ask: Callable[[StorageServer, frozenset[int]], Coroutine[Any, Any, Allocation]]
    ) -> None:
        async def settle(server_id: bytes, numbers: frozenset[int]) -> None:
            try:
                answer = await self._patiently(lambda: ask(self._servers[server_id], numbers))
            except AmpgridError as error:
                self._server_failed(server_id, error)
            else:
                await self._take_answer(server_id, numbers, answer)

        def start(server_id: bytes, numbers: frozenset[int]) -> Callable[[], Deferred[None]]:
            return lambda: Deferred.fromCoroutine(settle(server_id, numbers))

        while requests := self._plan.requests():
            self._operation.check()
            settled = await each({i: start(*asked) for i, asked in enumerate(requests.items())})
            for error in settled.values():
                if isinstance(error, Exception):
                    raise error

    async def _patiently(self, ask: Callable[[], Coroutine[Any, Any, Allocation]]) -> Allocation:
        """Ask, and ask again while the server is busy."""
        for attempt in range(1, _BUSY_TRIES + 1):
            try:
                return await ask()
            except BusyError:
                if self._clock is None or attempt == _BUSY_TRIES:
                    raise
                await deferLater(cast("Any", self._clock), attempt * _BUSY_SECONDS)
                self._operation.check()
        raise AssertionError("the last attempt raises")

    async def _take_answer(
        self, server_id: bytes, asked: frozenset[int], answer: Allocation
    ) -> None:
        for number, writer in answer.writers.items():
            self._writers[server_id, number] = writer
        self._stored |= {(server_id, number) for number in answer.stored}
        held, unusable = await self._look_at(server_id, answer.already_got - answer.stored)
        accepted = set(answer.writers) | answer.stored
        self._plan.answered(server_id, asked, held, accepted, unusable)

    async def _look_at(
        self, server_id: bytes, numbers: frozenset[int]
    ) -> tuple[set[int], set[int]]:
        """Return which of the shares a server already had seem to be ours, and which not."""
        server = self._servers[server_id]
        held: set[int] = set()
        fresh = {n for n in numbers if n < self._encoding.total}
        looked = [n for n in fresh if (server_id, n) not in self._claims]
        if looked:
            sizes, _heads = await self._sizes(server)

            def look(number: int) -> Callable[[], Deferred[bytes | None]]:
                claimed = partial(
                    claimed_extension, server, self._storage_index, number, sizes.get(number, 0)
                )
                return lambda: Deferred.fromCoroutine(claimed(self._encoding.total))

            for number, claim in (await each({n: look(n) for n in looked})).items():
                if isinstance(claim, Exception):
                    raise claim
                self._claims[server_id, number] = claim
        for number in fresh:
            claim = self._claims[server_id, number]
            if claim is not None and self.own_extension in (None, claim):
                held.add(number)
        return held, set(numbers) - held

    async def _sizes(self, server: StorageServer) -> tuple[dict[int, int], dict[int, bytes]]:
        try:
            return await server.shares(self._storage_index)
        except AmpgridError:
            return {}, {}

    def _server_failed(self, server_id: bytes, error: Exception) -> None:
        self._problems.append(f"server {self._servers[server_id].name}: {error}")
        self._plan.failed(server_id)
        self._stored = {place for place in self._stored if place[0] != server_id}

    def _check_happy(self) -> None:
        if not self._plan.is_happy():
            told = "".join(f"; {problem}" for problem in self._problems[:_TOLD_PROBLEMS])
            raise NotHappyError(f"not uploaded: {self._plan.summary()}{told}")

    # Small files: encode first, then store each share in one round trip.

    async def _store_small(self) -> FileTail:
        self._operation.enter("uploading")
        tail, blocks = await self._sender.only_segment()
        header = self._layout.header()
        shares = [
            b"".join((header, block, self._encoder.share_tail(tail, number)))
            for number, block in enumerate(blocks)
        ]
        self.own_extension = tail.ueb_hash

        async def store(server: StorageServer, numbers: frozenset[int]) -> Allocation:
            if len(numbers) == 1:
                (number,) = numbers
                only = await server.store(self._storage_index, number, shares[number])
                return Allocation(only.already_got - only.stored, {}, only.stored)
            got: set[int] = set()
            stored: set[int] = set()
            results = await each(
                {
                    n: _starter(server.store, self._storage_index, n, shares[n])
                    for n in sorted(numbers)
                }
            )
            for answer in results.values():
                if isinstance(answer, Exception):
                    raise answer
                got |= answer.already_got
                stored |= answer.stored
            return Allocation(frozenset(got - stored), {}, frozenset(stored))

        await self._place(store)
        self._operation.done = self._layout.size
        return tail

    # Larger files: reserve room, then stream.

    async def _stream(self) -> FileTail:
        self._operation.enter("finding servers")

        async def allocate(server: StorageServer, numbers: frozenset[int]) -> Allocation:
            return await server.allocate(self._storage_index, numbers, self._layout.share_size)

        await self._place(allocate)
        self._check_happy()
        dropped = [self._writers.pop(place) for place in self._plan.settle()]
        self._operation.enter("uploading")
        chosen = {
            number: self._writers.pop((server_id, number))
            for number, server_id in self._plan.assignment().items()
        }
        await self._abort([*dropped, *self._writers.values()])
        self._writers = {(w.server.server_id, n): w for n, w in chosen.items()}
        going = dict(chosen)

        def loss(number: int, error: Exception) -> None:
            server_id = chosen[number].server.server_id
            self._server_failed(server_id, error)
            for other in [n for n, w in going.items() if w.server.server_id == server_id]:
                del going[other]
            self._check_happy()

        tail = await self._sender.send(going, loss)
        self._stored = {(w.server.server_id, number) for number, w in going.items()}
        for place in self._stored:
            self._writers.pop(place, None)
        return tail

    async def _abort(self, writers: Sequence[BucketWriter]) -> None:
        self._writers = {}
        for writer in writers:
            # Nobody waits for it: the server frees it at the latest when the connection goes.
            Deferred.fromCoroutine(writer.abort())


def _started(work: Awaitable[None]) -> Callable[[], Deferred[None]]:
    async def run() -> None:
        await work

    return lambda: Deferred.fromCoroutine(run())


def _starter(
    function: Callable[[bytes, int, bytes], object], index: bytes, number: int, data: bytes
) -> Callable[[], Deferred[Allocation]]:
    return lambda: Deferred.fromCoroutine(function(index, number, data))  # type: ignore[arg-type]


def _read_whole(source: Uploadable) -> bytes:
    """Return all bytes of a source (blocking).

    Raises:
        FileChangedError: there are others by now; half of both would be neither.
    """
    data = source.read_at(0, source.get_size())
    source.check_unchanged()
    return data
