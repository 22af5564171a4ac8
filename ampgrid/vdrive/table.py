"""Replicated authenticated tables: what directories are kept in.

A table maps slots to sealed entries. Its record, which its replicas agree on, names the root of a
Merkle trie of the entries; so what any replica hands over is checked, and an answer is that of a
committed record or an error. This room reads and changes tables; what entries mean it does not
know.

Spec: ``docs/specs/register.md``, ``docs/specs/directories.md``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import (
    AmpgridError,
    ForkError,
    NotEnoughPeersError,
    NotMutableError,
    NotReachableError,
    SnapshotGoneError,
    UndecidedError,
)
from ampgrid.formats.ballot import Ballot
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.immutable.several import each
from ampgrid.ports import Clock, Entropy, Threads, WallClock
from ampgrid.register import memory, reader, words, writer
from ampgrid.vdrive.batch import Plan
from ampgrid.vdrive.changing import FIRST_WAIT, MOST_WAIT, WAIT_GROWTH, Changer
from ampgrid.vdrive.ground import Ground, Means
from ampgrid.vdrive.lanes import Lane
from ampgrid.vdrive.listing import Listing
from ampgrid.vdrive.membership import TableReport, look
from ampgrid.vdrive.nodes import FetchNodes, NodeCache, find_all
from ampgrid.vdrive.reading import Reading
from ampgrid.vdrive.remembered import Remembered
from ampgrid.vdrive.replica import Replica
from ampgrid.vdrive.seeker import Seeker, identify, in_order

#: Seconds after which a read gives up that finds nothing decided.
UNDECIDED_SECONDS = 10.0
#: How often a listing begins again with the present version before it gives up.
_MOST_RESTARTS = 5
#: The most tables whose state is kept at hand.
_MOST_TABLES = 2_000
#: The ballot of a directory's first record: the lowest there is.
FIRST_BALLOT = Ballot(0, 0, bytes(8))


class Table:
    """One table.

    Args:
        means: what all tables work with.
        index: of the directory, 32 bytes.
        keys: that sign its records, None if it is only read.
    """

    def __init__(self, means: Means, index: bytes, keys: WriteKeys | None) -> None:
        self.index = index
        self.ground = Ground(means, index, keys)
        self._means = means
        self._keys = keys
        self._lanes: dict[ReplicaId, Lane] = {}
        self._seeker = Seeker(self.ground, self.lane)
        self._changer = (
            None
            if keys is None
            else Changer(
                self.ground, keys, self.lane, self._last_known, self.remember, self._forked
            )
        )

    @property
    def is_mutable(self) -> bool:
        """Whether it can be changed through this object."""
        return self._keys is not None

    def lane(self, replica_id: ReplicaId) -> Lane:
        """Return what is on its way to a replica."""
        lane = self._lanes.get(replica_id)
        if lane is None:
            lane = self._lanes[replica_id] = Lane(self.ground, replica_id)
        return lane

    # Reading.

    async def record(self) -> Record:
        """Return the committed record, which is not below any that was seen before.

        Raises:
            NotReachableError: too few replicas answered; whether there are any is not known.
            UndecidedError: a change is under way that only who has the write cap can settle.
            RolledBackError: the replicas show an older one than was seen before.
            ForkError: two signed records contradict each other.
        """
        return (await self.read())[0]

    async def get(self, slot: bytes) -> bytes | None:
        """Return the entry of a slot, None if it is proven that there is none; see `record`."""
        return (await self.get_many([slot]))[slot]

    async def get_many(self, slots: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Return the entries of several slots, all of one record; see `record`."""
        for _restart in range(_MOST_RESTARTS):
            record, reading = await self.read(slots)
            try:
                return await find_all(
                    record.root, slots, reading.desk, self.fetch_from(reading, record)
                )
            except SnapshotGoneError:
                continue
        raise SnapshotGoneError("the directory changes faster than it can be read: try again")

    async def entries(
        self, begun: Callable[[Record], None] | None = None
    ) -> AsyncIterator[list[tuple[bytes, bytes]]]:
        """Yield (slot, entry) in pages, all of one record, in the order of the slots.

        Args:
            begun: told the record before the first page; the last one that it is told counts.

        Raises:
            SnapshotGoneError: some pages were yielded, and the rest is not kept any more.
            AmpgridError: see `record`.
        """
        for restart in range(_MOST_RESTARTS):
            record, reading = await self.read(listing=True)
            if begun is not None:
                begun(record)
            fetch = self.fetch_from(reading, record)
            began = False
            try:
                async for page in Listing(record.root, record.count, reading.desk, fetch).pages():
                    began = True
                    yield page
                return
            except SnapshotGoneError:
                if began or restart + 1 == _MOST_RESTARTS:
                    raise

    def fetch_from(self, reading: Reading, record: Record) -> FetchNodes:
        """Return what fetches nodes of a record, from those that showed it first."""
        ground = self.ground

        def fetch(hashes: Sequence[bytes]) -> Deferred[dict[bytes, bytes]]:
            holders = [
                one for one, held in reading.shown.items() if held and held.root == record.root
            ]
            return ground.fetch(hashes, holders, record.replicas)

        return fetch

    async def read(
        self, slots: Sequence[bytes] = (), *, listing: bool = False, thorough: bool = False
    ) -> tuple[Record, Reading]:
        """Return the committed record, and the read that found it; see `record`."""
        clock = self._means.clock
        end = clock.seconds() + UNDECIDED_SECONDS
        pause = FIRST_WAIT
        while True:
            floor = self._means.remembered.get(self.index)
            reading, outcome = await self._seeker.seek(
                floor, slots, listing=listing, thorough=thorough
            )
            if isinstance(outcome, reader.Committed):
                return self.remember(outcome.record, floor), reading
            if isinstance(outcome, words.Forked):
                raise self._forked(outcome.first, outcome.second)
            if isinstance(outcome, words.TooFew):
                raise self._not_reachable(outcome, reading)
            if clock.seconds() > end:
                raise UndecidedError(
                    "a change of the directory is under way that cannot be settled from here:"
                    " try again"
                )
            if self._changer is not None:
                return await self.settle(), reading
            await self._sleep(self._means.uniform(pause / 2, pause))
            pause = min(pause * WAIT_GROWTH, MOST_WAIT)

    async def settle(self) -> Record:
        """Bring a decision about where a change was left half made; return what is committed.

        Raises:
            AmpgridError: see `record` and `change`.
        """
        if self._changer is None:
            return await self.record()
        return await self._changer.change(_no_change, ())

    def _not_reachable(self, outcome: words.TooFew, reading: Reading) -> AmpgridError:
        shown = [held for held in reading.shown.values() if held is not None]
        found, wanted = outcome.found, self._means.wanted_replicas
        if shown:
            # Those that have not answered yet, since this much was enough to know, may well.
            members = max(shown, key=lambda held: held.ballot).replicas
            peers = self._means.replicas()
            there = [one for one in members if one.node_id in peers]
            found, wanted = len(set(there) - reading.failures.keys()), len(members)
        text = f"not reachable: {found} of {wanted} replicas found"
        return NotReachableError(text, found=found, wanted=wanted)

    async def _last_known(self, *, seek: bool = False) -> Record:
        """Return a record that tells the replicas, committed or not.

        Args:
            seek: whether to look for it, also if one is known.
        """
        known = self._means.remembered.get(self.index)
        if known is not None and not seek:
            return known
        reading, outcome = await self._seeker.seek(known)
        if isinstance(outcome, reader.Committed):
            return self.remember(outcome.record)
        if isinstance(outcome, words.Forked):
            raise self._forked(outcome.first, outcome.second)
        if isinstance(outcome, reader.Undecided):
            record: Record = outcome.record
            return record
        raise self._not_reachable(outcome, reading)

    async def _sleep(self, seconds: float) -> None:
        waiting: Deferred[None] = Deferred()
        self._means.clock.callLater(seconds, waiting.callback, None)
        await waiting

    # Changing.

    async def create(self, replicas: Sequence[ReplicaId]) -> None:
        """Create it, over replicas that were chosen for its new key; see `Tables.create`.

        Raises:
            NotReachableError: too few of them took it.
        """
        assert self._changer is not None
        outcome = await self._changer.create(FIRST_BALLOT, replicas)
        if not isinstance(outcome, writer.Done):
            raise _not_created(outcome)

    async def change(self, plan: Plan, slots: Sequence[bytes] = ()) -> Record:
        """Change entries in one atomic step.

        Args:
            plan: a coroutine function that is given ``lookup(slots)``, which returns what is in
                slots of the base, and returns {slot: entry, or None to take it out}; an empty
                mapping changes nothing. It is called again when the base was not the last one.
                What it raises is raised here, once the base is known to be committed.
            slots: which the plan will look up or change; their nodes are fetched ahead.

        Returns:
            The committed record that holds the change.

        Raises:
            NotMutableError: there are no keys to sign with.
            ForkError: the directory is read only for this client, since it forked.
            NotReachableError: too few replicas answered; nothing was sent.
            UncertainChangeError: the change may or may not have been made.
            UndecidedError: others were ahead all the time; nothing was changed.
        """
        if self._changer is None:
            raise NotMutableError("the cap gives no right to change the directory")
        self._check_not_forked()
        return await self._changer.change(plan, slots)

    # Looking after the replicas.

    def may_be_reached(self) -> bool:
        """Tell whether a quorum of the replicas is connected now; nobody is asked.

        Of a directory that was never seen it is not known which they are: then any will do.
        """
        known = self._means.remembered.get(self.index)
        if known is None:
            return bool(self._means.replicas())
        return self.ground.may_reach(known)

    async def renew(self) -> int:
        """Renew this node's leases at all replicas; return at how many that was done.

        Raises:
            NotReachableError: too few replicas answered.
        """
        record, _reading = await self.read()
        return await self._at_all(record, lambda replica: replica.renew(self.index))

    async def cancel(self) -> int:
        """Cancel this node's leases at all replicas; return at how many that was done.

        Raises:
            NotReachableError: too few replicas answered.
        """
        record, _reading = await self.read()
        return await self._at_all(record, lambda replica: replica.cancel(self.index))

    async def _at_all(
        self, record: Record, do: Callable[[Replica], Coroutine[Any, Any, None]]
    ) -> int:
        ground = self.ground

        def asking(replica_id: ReplicaId) -> Callable[[], Deferred[Any]]:
            return lambda: Deferred.fromCoroutine(ground.asked(replica_id, do))

        work = {number: asking(one) for number, one in enumerate(record.replicas)}
        outcomes = await each(work)
        return sum(outcome is None for outcome in outcomes.values())

    async def check(self) -> TableReport:
        """Look at every replica; change nothing but what a read does.

        Raises:
            AmpgridError: see `record`.
        """
        record, _reading = await self.read()
        return await self._report(record)

    async def _report(
        self, record: Record, repaired: Sequence[str] = (), problems: Sequence[str] = ()
    ) -> TableReport:
        return TableReport(
            record,
            await look(self.ground, record),
            self._means.wanted_replicas,
            tuple(repaired),
            (*problems, *self.ground.troubles.lines),
        )

    async def repair(self, gone: Collection[bytes] | None = None) -> TableReport:
        """Bring replicas up to date; with keys also replace those that are lost.

        Args:
            gone: node ids of peers that will not come back; None if that is every one that is
                not connected.

        Returns:
            What there is then.

        Raises:
            AmpgridError: see `record`.
        """
        record, reading = await self.read(thorough=True)
        await reading.caught_up()
        done: list[str] = []
        problems: list[str] = []
        if self._changer is not None:
            self._check_not_forked()
            record, done, problems = await self._changer.look_after(record, gone)
            if done:
                # Those that are new get all that there is.
                record, reading = await self.read(thorough=True)
                await reading.caught_up()
        return await self._report(record, done, problems)

    # Memory.

    def remember(self, record: Record, floor: Record | None = None) -> Record:
        """Take note of a committed record; return it, or a higher one that is known.

        Raises:
            ForkError, RolledBackError: see `ampgrid.register.memory.remember`.
        """
        remembered = self._means.remembered
        known = remembered.get(self.index)
        try:
            best = memory.remember(floor, known, record)
        except ForkError:
            other = next(
                one for one in (floor, known) if one is not None and one.content != record.content
            )
            self._forked(other, record)
            raise
        if best != known:
            remembered.put(best)
        if best.recovered:
            self._lift_fork(best)
        if self._changer is not None:
            self._changer.outdated(best)
        return best

    def _forked(self, one: Record, other: Record) -> ForkError:
        self._means.remembered.put_fork(one, other)
        self.ground.troubles.note(
            self.index,
            f"directory {self.index.hex()[:8]} has two signed versions that contradict each"
            f" other: {one.version} and {other.version}",
        )
        return _fork_error()

    def _lift_fork(self, record: Record) -> None:
        """Forget a fork of epochs before that in which the directory was recovered."""
        fork = self._means.remembered.fork(self.index)
        if fork is not None and all(one.ballot.epoch < record.epoch for one in fork):
            self._means.remembered.drop_fork(self.index)

    @property
    def is_forked(self) -> bool:
        """Whether two of its signed records contradict each other, and neither was left since."""
        return self._means.remembered.fork(self.index) is not None

    def _check_not_forked(self) -> None:
        if self.is_forked:
            raise _fork_error()


def _fork_error() -> ForkError:
    return ForkError(
        "two signed versions of the directory contradict each other; both are kept, and it is"
        " read only here: recover-directory goes on from one of them"
    )


async def _no_change(_lookup: object) -> Mapping[bytes, bytes | None]:
    return {}


class Tables:
    """All tables that a node knows.

    Args:
        replicas: returns the connected vdrive peers, {node id: replica}.
        clock: time and timers.
        wall: seconds since 1970.
        entropy: random bytes.
        uniform: a random number between two.
        threads: where long work happens.
        remembered: the floor below which no replica is believed.
        cache: nodes of all tables.
        wanted_replicas: how many a new directory gets.
    """

    def __init__(
        self,
        replicas: Callable[[], Mapping[bytes, Replica]],
        *,
        clock: Clock,
        wall: WallClock,
        entropy: Entropy,
        uniform: Callable[[float, float], float],
        threads: Threads,
        remembered: Remembered,
        cache: NodeCache,
        wanted_replicas: int = 4,
    ) -> None:
        self.means = Means(
            replicas,
            clock,
            wall,
            entropy,
            uniform,
            threads,
            remembered,
            cache,
            wanted_replicas,
        )
        self._tables: OrderedDict[tuple[bytes, bool], Table] = OrderedDict()

    def table(self, index: bytes, keys: WriteKeys | None) -> Table:
        """Return the table of an index (32 bytes); without keys it is only read."""
        key = (index, keys is not None)
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = Table(self.means, index, keys)
            if len(self._tables) > _MOST_TABLES:
                self._tables.popitem(last=False)
        self._tables.move_to_end(key)
        return table

    async def create(self, keys: WriteKeys) -> Table:
        """Create an empty table under keys that were drawn for it, and never used before.

        It is on the first peers of the permuted order. If it fails, draw new keys: another set
        of replicas must never be chosen for the same.

        Raises:
            NotEnoughPeersError: no connected peer keeps directories.
            NotReachableError, UncertainChangeError: too few of those chosen took it.
        """
        table = self.table(keys.fingerprint, keys)
        replicas = await self._choose(table.ground)
        await table.create(replicas)
        return table

    async def _choose(self, ground: Ground) -> list[ReplicaId]:
        wanted = self.means.wanted_replicas
        chosen: list[ReplicaId] = []
        peers = in_order(ground)
        while peers and len(chosen) < wanted:
            count = wanted - len(chosen)
            chosen += await identify(peers[:count])
            del peers[:count]
        if not chosen:
            raise NotEnoughPeersError("no peer that keeps directories is connected")
        return chosen


def _not_created(outcome: Any) -> AmpgridError:
    if isinstance(outcome, words.TooFew):
        return NotReachableError(
            f"not reachable: {outcome.found} of {outcome.wanted} peers took the new directory",
            found=outcome.found,
            wanted=outcome.wanted,
        )
    return NotReachableError("the new directory was not taken: try again with a new one")
