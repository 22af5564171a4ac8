"""A store of directories on a disk that fails and remembers, with a ledger of what it said.

`Bench` is to directories what `tests.campaigns.bench` is to shares, and `SCENARIOS` what is done
to it. `audit` opens a store as a crash or a power cut has left it and holds it to the ledger:
promises, records, leases and pointers that were acknowledged are there, no record is there
without all of its nodes, and the accounts are exact.
"""

from __future__ import annotations

import shutil

import attrs

from ampgrid.caps import LitCap
from ampgrid.errors import AmpgridError
from ampgrid.formats import trie
from ampgrid.formats.ballot import Prepare
from ampgrid.formats.pointer import Pointer
from ampgrid.formats.record import Record
from ampgrid.store.directories import Caller, DirectoryStore, Verdict
from ampgrid.store.leases import LEASE_SECONDS
from ampgrid.testing.faults import FailingFileSystem, FailingTap, FaultPlan
from ampgrid.testing.writelog import RecordingFileSystem, RecordingTap
from tests.contract.directory_owner import ELSEWHERE, Owner, entry_of, slot_of

NOW = 1_800_000_000
HOUR = 3600
PEER = b"p" * 20
STORE_ID = b"s" * 16
KEY = b"k" * 32
NAME = "directories.sqlite"


@attrs.define
class Ledger:
    """What the store said.

    Attributes:
        promised: {index: the highest ballot that was promised or accepted}.
        accepted: {index: the ballot of the last record that was accepted}.
        leases: {(index, peer): the earliest end}.
        pointers: {index: order of the last pointer}.
        expired: indexes that may be gone, all but their ballots.
    """

    promised: dict = attrs.field(factory=dict)
    accepted: dict = attrs.field(factory=dict)
    leases: dict = attrs.field(factory=dict)
    pointers: dict = attrs.field(factory=dict)
    expired: set = attrs.field(factory=set)

    def copy(self):
        """Return another ledger with the same entries."""
        return Ledger(
            dict(self.promised),
            dict(self.accepted),
            dict(self.leases),
            dict(self.pointers),
            set(self.expired),
        )

    def tell(self, what, key, value):
        """Note something that the store said."""
        entries = getattr(self, what)
        if what == "expired":
            entries.add(key)
            self.leases = {k: v for k, v in self.leases.items() if k[0] != key}
        elif key not in entries or entries[key] < value:
            entries[key] = value


def open_store(folder, now=NOW, **how):
    """Open the store in a folder."""
    return DirectoryStore.open(
        folder / NAME,
        KEY,
        b"n" * 20,
        wall=lambda: now,
        entropy=lambda size: STORE_ID[:size],
        **how,
    )


class Bench:
    """One store, in the directory ``disk/store`` of a workplace."""

    def __init__(self, work, shim):
        self.work = work
        self.disk = work / "disk"
        shutil.rmtree(self.disk, ignore_errors=True)
        self.folder = self.disk / "store"
        self.folder.mkdir(parents=True)
        self.plan = FaultPlan()
        self.files = RecordingFileSystem(FailingFileSystem(self.plan))
        self.tap = RecordingTap(FailingTap(self.plan, self.folder))
        self.shim = shim
        shim.tap = self.tap
        self.ledger = Ledger()
        self.log = None
        self.now = NOW
        self.store = None
        self.owners = {}
        self.records = {}

    def open(self):
        """Open the store."""
        self.store = open_store(self.folder, self.now, files=self.files)

    def start(self):
        """Open the store, where that may fail."""
        self._attempt(self.open)

    def crash(self):
        """End the store as a killed process does."""
        if self.store is None:
            return
        killed = self.work / "killed"
        shutil.rmtree(killed, ignore_errors=True)
        shutil.copytree(self.folder, killed)
        self.shim.tap = None
        self.store.close()
        self.store = None
        self.shim.tap = self.tap
        shutil.rmtree(self.folder)
        killed.rename(self.folder)

    def record_into(self, log):
        """Write down what is written from now on; None for no more."""
        self.files.log = self.tap.log = self.log = log

    def tell(self, what, key, value=None):
        """Tell the ledger, and the log when."""
        self.ledger.tell(what, key, value)
        if self.log is not None:
            self.log.note((what, key, value))

    def _attempt(self, work):
        try:
            return work()
        except AmpgridError:
            return None

    def _run(self, job):
        return self._attempt(lambda: self.store.run(job))

    # What a client asks.

    def caller(self, peer=PEER):
        """Return who asks."""
        return Caller(peer, self.now)

    def owner(self, number):
        """Return the owner of a directory."""
        if number not in self.owners:
            me = attrs.evolve(ELSEWHERE, node_id=b"n" * 20, store_id=STORE_ID)
            self.owners[number] = Owner(number, me, names_following=True)
        return self.owners[number]

    def prepare(self, number):
        """Ask for a promise."""
        owner = self.owner(number)
        prepare = owner.prepare()
        judged = self._run(self.store.preparing(owner.index, self.caller(), prepare))
        if judged is not None and judged.verdict is Verdict.DONE:
            self.tell("promised", owner.index, prepare.ballot)

    def create(self, number):
        """Create a directory."""
        self.accept(number, self.owner(number).first())

    def change(self, number, changes):
        """Change entries of a directory."""
        owner = self.owner(number)
        if number in self.records:
            record = owner.change(self.records[number], changes)
            self.accept(number, record, changes)

    def accept(self, number, record, changes=None):
        """Bring a record, with the following ballot in it."""
        owner = self.owner(number)
        job = self.store.accepting(owner.index, self.caller(), record, changes)
        judged = self._run(job)
        # Its writer goes on from it in either case: it may be there.
        if judged is None or judged.verdict is not Verdict.DONE:
            return
        self.records[number] = record
        self.tell("accepted", owner.index, record.ballot)
        self.tell("promised", owner.index, record.following)
        if record.version == 1:
            self.tell("leases", (owner.index, PEER), self.now + LEASE_SECONDS)

    def stage_and_accept(self, number, changes):
        """Stage the nodes of a change in two boxes, then bring its record."""
        owner = self.owner(number)
        if number not in self.records:
            return
        record = owner.change(self.records[number], changes)
        nodes = owner.nodes_of(record)
        half = len(nodes) // 2
        for box in (nodes[:half], nodes[half:]):
            self._run(self.store.staging(owner.index, self.caller(), box, shown=False))
        self.accept(number, record)

    def group(self, number, count):
        """Bring several changes, each of the one before, in one group."""
        owner = self.owner(number)
        if number not in self.records:
            return
        record, jobs, records = self.records[number], [], []
        for each in range(count):
            changes = {slot_of(each + 200): entry_of(each)}
            record = owner.change(record, changes)
            records.append(record)
            jobs.append(self.store.accepting(owner.index, self.caller(), record, changes))
        for record, outcome in zip(records, self.store.run_all(jobs), strict=True):
            judged = self._attempt(outcome.get)
            if judged is not None and judged.verdict is Verdict.DONE:
                self.records[number] = record
                self.tell("accepted", owner.index, record.ballot)
                self.tell("promised", owner.index, record.ballot)

    def move(self, number):
        """Let the store leave the set, and be released."""
        if number in self.records:
            owner = self.owner(number)
            moved = owner.move(self.records[number], ELSEWHERE)
            self.accept(number, moved)
            released = owner.release(moved)
            self._run(self.store.accepting(owner.index, self.caller(), released))

    def renew(self, number, peer=PEER):
        """Renew a lease."""
        index = self.owner(number).index
        job = self.store.renewing(index, self.caller(peer))
        renewed = self._attempt(lambda: self.store.run(job) or True)
        if renewed:
            self.tell("leases", (index, peer), self.now + LEASE_SECONDS)
        return renewed

    def point(self, number, version):
        """Put a pointer."""
        owner = self.owner(number)
        pointer = Pointer.make(owner.keys, epoch=0, version=version, cap=LitCap(b"x"))
        job = self.store.pointing(owner.index, self.caller(), pointer)
        if self._attempt(lambda: self.store.run(job) or True):
            self.tell("pointers", owner.index, pointer.order)

    def expire(self, *numbers):
        """Let what has no lease go, and sweep."""
        for number in numbers:
            self.tell("expired", self.owner(number).index)
        upkeep = self.store.upkeep
        self._attempt(lambda: upkeep.keep_time(self.now))
        self._attempt(lambda: upkeep.mark_ended(self.now))
        self.now += HOUR + 1
        self._attempt(lambda: upkeep.expire(self.now, HOUR))
        for _ in range(3):
            self._attempt(lambda: upkeep.sweep(self.now))


def audit(folder, ledger, now=NOW):
    """Open a store that was left somehow; return what is wrong, and close it."""
    if not (folder / NAME).exists() and not ledger.promised:
        return []
    store = open_store(folder, now)
    try:
        return [*_check(store, ledger), *check_accounts(store)]
    finally:
        store.close()


def _check(store, ledger):
    for index, ballot in ledger.promised.items():
        row = store.database.read(lambda sql, index=index: store._rows.load(sql, index))
        if row.state.promised is None or row.state.promised < ballot:
            yield f"a promise is forgotten: {ballot}, there is {row.state.promised}"
        accepted = ledger.accepted.get(index)
        if accepted is not None and row.held is None and index not in ledger.expired:
            yield "an accepted record is gone"
        if row.held is not None:
            if accepted is not None and Record.unpack(row.held).ballot < accepted:
                yield "an older record is there"
            Record.unpack(row.held).check(index)
        if row.prepared is not None:
            Prepare.unpack(row.prepared).check(index)
    for (index, peer), end in ledger.leases.items():
        found = store.database.read(
            lambda sql, index=index, peer=peer: sql.execute(
                "SELECT expires_at, kept_until FROM leases l"
                " JOIN directories d ON d.id = l.directory JOIN peers p ON p.id = l.peer"
                " WHERE d.name = ? AND p.node_id = ?",
                (index, peer),
            ).fetchone()
        )
        if found is None or min(found) < end:
            yield f"a lease is not what it should be: {found}, not {end}"
    for index, order in ledger.pointers.items():
        if Pointer.unpack(store.pointer(index)).order < order:
            yield "an older pointer is there"


def check_accounts(store):
    """Yield what is wrong with the nodes and the accounts of an open store."""
    while store.upkeep.walk():
        pass

    def look(sql):
        rows = sql.execute("SELECT id, name, live, retired_at FROM directories").fetchall()
        sums = {"live": 0, "gone": 0, "all": 0}
        for number, name, live, retired in rows:
            row = store._rows.load(sql, bytes(name))
            nodes = {
                bytes(digest): bytes(data)
                for digest, data in sql.execute(
                    "SELECT hash, data FROM nodes WHERE directory = ?", (number,)
                )
            }
            under = {}
            if row.state.accepted is not None and not retired:
                under = dict(trie.preorder(row.state.accepted.root, nodes.get))
                if len(dict(trie.entries(row.state.accepted.root, nodes.get))) != (
                    row.state.accepted.count
                ):
                    yield "the entries are not as many as the record says"
            gone = {
                bytes(digest)
                for (digest,) in sql.execute(
                    "SELECT n.hash FROM gone g JOIN nodes n ON n.id = g.node"
                    " WHERE n.directory = ?",
                    (number,),
                )
            }
            if set(under) != set(nodes) - gone:
                yield "what is live is not what is under the record's root"
            expected = sum(len(node) + 160 for node in under.values())
            if live != expected:
                yield f"live are {expected} bytes, not {live}"
            sums["live"] += live
        sums["gone"] = sql.execute("SELECT total(size) FROM gone").fetchone()[0]
        sums["leases"] = sql.execute("SELECT count(*) FROM leases").fetchone()[0]
        room = store._accounts.look(fresh=False)
        told = (room.live, room.staged + room.replaced, room.leases, room.directories)
        counted = (sums["live"], sums["gone"], sums["leases"], len(rows))
        if told != counted:
            yield f"the accounts say {told}, and it is {counted}"
        lost = sql.execute(
            "SELECT count(*) FROM gone WHERE node NOT IN (SELECT id FROM nodes)"
        ).fetchone()[0]
        if lost:
            yield "nodes that are not there are gone"

    return store.database.read(lambda sql: list(look(sql)))


# What is done.

MANY = {slot_of(n): entry_of(n) for n in range(40)}
FEWER = {slot_of(n): None for n in range(30)}
SCENARIOS = {}


def scenario(name, prepare=lambda bench: None):
    """Make a function what is done after ``prepare``."""

    def add(act):
        SCENARIOS[name] = (prepare, act)
        return act

    return add


def two_directories(bench):
    """Keep two directories, one with many entries."""
    bench.create(1)
    bench.change(1, MANY)
    bench.create(2)
    bench.store.database.read(lambda sql: sql.execute("PRAGMA wal_autocheckpoint=16").fetchone())


@scenario("promise and create")
def _create(bench):
    bench.prepare(1)
    bench.create(1)
    bench.create(2)


@scenario("change", two_directories)
def _change(bench):
    bench.change(1, {slot_of(50): entry_of(50)})
    bench.change(1, FEWER)
    bench.prepare(1)
    bench.change(2, {slot_of(1): entry_of(1)})


@scenario("change in a group", two_directories)
def _group(bench):
    bench.group(2, 6)


@scenario("stage and accept", two_directories)
def _stage(bench):
    bench.stage_and_accept(2, MANY)


@scenario("leases and pointers", two_directories)
def _leases(bench):
    bench.now += 5
    bench.renew(1)
    bench.renew(2, b"q" * 20)
    bench.point(1, 3)
    bench.point(1, 4)


@scenario("leave the set", two_directories)
def _leave(bench):
    bench.move(1)


@scenario("expire and sweep", two_directories)
def _expire(bench):
    bench.now += 5 * HOUR
    renewed = bench.renew(2)
    bench.now += LEASE_SECONDS - HOUR
    bench.expire(*([1] if renewed else [1, 2]))


@scenario("start")
def _start(bench):
    bench.crash()
    bench.start()
    if bench.store is not None:
        bench.create(1)
