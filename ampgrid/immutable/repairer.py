"""Repairing a file: its missing shares are made again, bad ones replaced, clumped ones spread.

It needs no more than the verify cap: blocks are decoded to crypttext and encoded again, and
every share that is written leads to the same root as those that were found. A server is told of
each bad share it holds, looks for itself, and may then take a good one in its place; where it
keeps the bad one, another server gets the share.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from ampgrid.caps import ChkCap, ChkVerifierCap, LitCap
from ampgrid.crypto import hashing
from ampgrid.crypto.identity import node_id_text
from ampgrid.erasure import Codec
from ampgrid.errors import AmpgridError, IntegrityError
from ampgrid.formats import hashtree
from ampgrid.formats.chkwriter import share_tail
from ampgrid.formats.share import ShareLayout
from ampgrid.immutable.checker import BadShare, Checker, CheckReport, Pace, at_once
from ampgrid.immutable.operation import Operation
from ampgrid.immutable.patience import Patients, PatientServer
from ampgrid.immutable.pool import SharePool
from ampgrid.immutable.segment import SegmentDecoder, SegmentFetch
from ampgrid.immutable.several import each
from ampgrid.placement import PlacementPlan, permute
from ampgrid.ports import Clock, Threads
from ampgrid.storage.client import Allocation, BucketWriter, StorageServer


@attrs.frozen
class RepairReport:
    """What a repair did.

    Attributes:
        before: what the check before it found.
        after: what there is now; the same as ``before`` where nothing was to be done.
        written: (share number, server) of each share that was written.
        problems: one line for each server that failed on the way.
    """

    before: CheckReport
    after: CheckReport
    written: tuple[tuple[int, bytes], ...] = ()
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report for JSON (``docs/reference/check.md``)."""
        return {
            **self.after.to_json(),
            "before": self.before.to_json(),
            "written": [
                {"share": number, "server": node_id_text(server)}
                for number, server in self.written
            ],
            "repair_problems": list(self.problems),
        }


class Repairer:
    """Repairs files.

    Args:
        servers: returns the storage peers that are connected now.
        threads: where hashing and coding happen.
        clock: time and timers.
    """

    def __init__(
        self, servers: Callable[[], Sequence[StorageServer]], threads: Threads, clock: Clock
    ) -> None:
        self._servers = servers
        self._threads = threads
        self._clock = clock
        self._checker = Checker(servers, threads, clock)

    async def repair(
        self,
        cap: ChkCap | ChkVerifierCap | LitCap,
        operation: Operation | None = None,
        *,
        verify: bool = False,
        pace: Pace | None = None,
        found: CheckReport | None = None,
        patients: Patients | None = None,
    ) -> RepairReport:
        """Check a file and write what is missing, bad or clumped.

        Args:
            cap: of the file; the verify cap is enough.
            operation: progress and cancelling.
            verify: read and hash every byte of what is there first.
            pace: awaited before bytes are read or written.
            found: what a check has just found, so that it is not done again.
            patients: the servers' allowances, where this repair is a part of more.

        Raises:
            NotEnoughSharesError: too few good shares are left.
            OperationCancelledError: somebody has cancelled.
        """
        operation = operation or Operation()
        patients = patients or Patients(self._clock)
        before = found or await self._checker.check(
            cap, operation, verify=verify, pace=pace or at_once, patients=patients
        )
        if isinstance(cap, LitCap):
            return RepairReport(before, before)
        # Who has just failed would only keep the repair waiting.
        servers = {
            s.server_id: patients.of(s)
            for s in self._servers()
            if s.server_id not in before.failing
        }
        await self._advise(servers, cap.storage_index, before.bad)
        repair = _Repair(cap, servers, before, self._threads, self._clock, operation)
        try:
            await repair.place()
            if repair.anything_to_do:
                await repair.write(pace)
            elif not before.bad:
                return RepairReport(before, before, (), tuple(repair.problems))
        finally:
            repair.let_go()
        # What was bad is believed to be good only after all of it was read: rotten blocks have
        # good hashes, and a server may keep them.
        after = await self._checker.check(
            cap,
            operation,
            pace=pace or at_once,
            patients=patients,
            doubted=[bad.place for bad in before.bad],
        )
        return RepairReport(before, after, tuple(repair.written), tuple(repair.problems))

    async def _advise(
        self, servers: dict[bytes, PatientServer], index: bytes, bad: Sequence[BadShare]
    ) -> None:
        """Tell servers of their bad shares, all at once, so that they may take good ones."""

        def start(share: BadShare) -> Callable[[], Deferred[None]]:
            telling = servers[share.server_id].advise_corrupt
            return lambda: Deferred.fromCoroutine(telling(index, share.number, share.reason))

        known = [share for share in bad if share.server_id in servers]
        for error in (await each({i: start(s) for i, s in enumerate(known)})).values():
            # Whoever does not listen keeps its bad share.
            if isinstance(error, Exception) and not isinstance(error, AmpgridError):
                raise error


class _Repair:
    """One repair of one file."""

    def __init__(
        self,
        cap: ChkCap | ChkVerifierCap,
        servers: dict[bytes, PatientServer],
        found: CheckReport,
        threads: Threads,
        clock: Clock,
        operation: Operation,
    ) -> None:
        self.problems: list[str] = []
        self.written: list[tuple[int, bytes]] = []
        self._cap = cap
        self._servers = servers
        self._found = found
        self._threads = threads
        self._clock = clock
        self._operation = operation
        self._writers: dict[tuple[bytes, int], BucketWriter] = {}
        order = permute(cap.storage_index, servers)
        self._plan: PlacementPlan[bytes] = PlacementPlan(order, cap.total, 1, surveyed=True)
        for server_id, numbers in found.holdings().items():
            if server_id in servers:
                self._plan.answered(server_id, (), numbers, ())
        self._pool = SharePool(
            cap, [patient.server for patient in servers.values()], threads, clock
        )
        self._size = 0

    @property
    def anything_to_do(self) -> bool:
        """Whether a server has taken in a share to be written."""
        return bool(self._writers)

    async def place(self) -> None:
        """Ask servers for room, as long as that improves anything."""
        if not self._plan.would_ask():
            return
        await self._pool.gather(self._operation.check)
        extension = self._pool.extension
        assert extension is not None
        self._layout = ShareLayout(
            extension.size, extension.needed_shares, extension.segment_size, extension.total_shares
        )
        while requests := self._plan.requests():
            self._operation.check()
            order = list(requests)
            answers = await each(
                {
                    i: self._asking(server_id, requests[server_id])
                    for i, server_id in enumerate(order)
                }
            )
            for i, answer in answers.items():
                self._take(order[i], requests[order[i]], answer)
        for place in self._plan.settle():
            self._abort(self._writers.pop(place))

    def _asking(
        self, server_id: bytes, numbers: frozenset[int]
    ) -> Callable[[], Deferred[Allocation]]:
        server, index, size = (
            self._servers[server_id],
            self._cap.storage_index,
            self._layout.share_size,
        )
        return lambda: Deferred.fromCoroutine(server.allocate(index, numbers, size))

    def _take(
        self, server_id: bytes, asked: frozenset[int], answer: Allocation | Exception
    ) -> None:
        if isinstance(answer, AmpgridError):
            self._fail(server_id, answer)
        elif isinstance(answer, Exception):
            raise answer
        else:
            for number, writer in answer.writers.items():
                self._writers[server_id, number] = writer
            good = self._found.holdings().get(server_id, set())
            kept_bad = answer.already_got - good
            self._plan.answered(server_id, asked, good, set(answer.writers), kept_bad)

    def _fail(self, server_id: bytes, error: Exception) -> None:
        self.problems.append(f"server {self._servers[server_id].name}: {error}")
        self._plan.failed(server_id)
        for place in [place for place in self._writers if place[0] == server_id]:
            self._abort(self._writers.pop(place))

    def _abort(self, writer: BucketWriter) -> None:
        # Nobody waits for it: the server frees it at the latest when the connection goes.
        Deferred.fromCoroutine(writer.abort())

    def let_go(self) -> None:
        """Free the room of every share that was not written to its end."""
        while self._writers:
            self._abort(self._writers.popitem()[1])

    async def write(self, pace: Pace | None) -> None:
        """Make the shares again and send them.

        Args:
            pace: awaited before the bytes of a segment are read and written.

        Raises:
            NotEnoughSharesError: too few good shares are left.
            IntegrityError: what was made does not lead to the file's root.
        """
        pool, operation = self._pool, self._operation
        extension = pool.extension
        assert extension is not None
        operation.enter("repairing", extension.size)
        hashes = await pool.crypttext_hashes(operation.check)
        decoder = SegmentDecoder(None, extension, hashes)
        roots = pool.known_roots()
        wanted = {number for _server, number in self._writers}
        # Those of unknown root are made too: the chain of a new share passes by them.
        made = sorted(wanted | (set(range(self._cap.total)) - roots.keys()))
        block_hashes: dict[int, list[bytes]] = {number: [] for number in made}
        await self._to_all(lambda _number: self._layout.header())
        for index in range(extension.num_segments):
            operation.check()
            if pace is not None:
                block_size = extension.segment_size // extension.needed_shares
                await pace(extension.segment_size + block_size * len(self._writers))
            crypttext = await self._segment(decoder, index)
            blocks = await self._threads.run(self._encode, crypttext, made)
            for number in made:
                block_hashes[number].append(blocks[number][1])
            await self._to_all({n: block for n, (block, _hash) in blocks.items()}.__getitem__)
            operation.done = min(extension.size, (index + 1) * extension.segment_size)
        tails = await self._threads.run(self._tails, hashes, block_hashes, roots)
        await self._to_all(tails.__getitem__)
        await self._close()

    async def _segment(self, decoder: SegmentDecoder, index: int) -> bytes:
        fetch = SegmentFetch(self._pool, index, self._cap.needed, self._operation)
        return await fetch.decoded(decoder, self._threads)

    def _encode(self, crypttext: bytes, made: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
        """Return {share number: (block, its hash)} of one segment (in a thread)."""
        needed, total = self._cap.needed, self._cap.total
        padded = crypttext + bytes(-len(crypttext) % needed)
        blocks = Codec(len(padded), needed, total).encode(padded, made)
        return {
            number: (bytes(block), hashing.block_hash(block))
            for number, block in zip(made, blocks, strict=True)
        }

    def _tails(
        self,
        crypttext_hashes: list[bytes],
        block_hashes: dict[int, list[bytes]],
        roots: dict[int, bytes],
    ) -> dict[int, bytes]:
        """Return what stands behind the data of each new share (in a thread)."""
        extension = self._pool.extension
        assert extension is not None
        trees = {number: hashtree.build_tree(row) for number, row in block_hashes.items()}
        roots = roots | {number: tree[:32] for number, tree in trees.items()}
        share_tree = hashtree.build_tree([roots[n] for n in range(self._cap.total)])
        if share_tree[:32] != extension.share_root_hash:
            raise IntegrityError("the shares that were made do not lead to the file's root")
        crypttext_tree = hashtree.build_tree(crypttext_hashes)
        return {
            number: share_tail(
                self._layout,
                crypttext_tree,
                tree,
                hashtree.chain_for(share_tree, number, self._cap.total),
                extension.pack(),
            )
            for number, tree in trees.items()
        }

    async def _to_all(self, piece: Callable[[int], bytes]) -> None:
        async def put(patient: PatientServer, writer: BucketWriter, data: bytes) -> None:
            await patient.within(writer.put(data))
            patient.moved(len(data))

        await self._each_writer(lambda p, writer: put(p, writer, piece(writer.number)))

    async def _close(self) -> None:
        await self._each_writer(lambda patient, writer: patient.within(writer.close()))
        self.written = [(number, server_id) for server_id, number in self._writers]
        self._writers = {}

    async def _each_writer(
        self, work: Callable[[PatientServer, BucketWriter], Coroutine[Any, Any, None]]
    ) -> None:
        def start(server_id: bytes, writer: BucketWriter) -> Callable[[], Deferred[None]]:
            patient = self._servers[server_id]
            return lambda: Deferred.fromCoroutine(work(patient, writer))

        places = list(self._writers)
        results = await each(
            {i: start(place[0], self._writers[place]) for i, place in enumerate(places)}
        )
        for i, error in results.items():
            if isinstance(error, AmpgridError):
                if places[i] in self._writers:
                    self._fail(places[i][0], error)
            elif isinstance(error, Exception):
                raise error
