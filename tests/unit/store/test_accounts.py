"""The accounts of peers and of the room, against a model, after every operation."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ampgrid.errors import NotStoredError, WriteConflictError
from ampgrid.store import LEASE_SECONDS, SMALL_SHARE_BYTES, ShareStore, quarantine
from ampgrid.store.space import LEASE_OVERHEAD, SHARE_OVERHEAD
from tests.contract.share_store_contract import NOW, lease, pattern, request

PEERS = [bytes([letter]) * 20 for letter in b"abc"]
INDEXES = [bytes([letter]) * 16 for letter in b"xyz"]
PART_OF_ROOM = quarantine.PART_OF_ROOM
QUOTA = 5 * SMALL_SHARE_BYTES

peers = st.sampled_from(PEERS)
indexes = st.sampled_from(INDEXES)
numbers = st.integers(0, 3)
sizes = st.sampled_from([0, 1, 700, SMALL_SHARE_BYTES, SMALL_SHARE_BYTES + 1])


class AccountMachine(RuleBasedStateMachine):
    """Stores, expires, sets aside, restarts; a dictionary says what must be there."""

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.now = NOW
        self.model = {}
        self.ends = {}
        self.marked = {}
        self.aside = {}
        self.uploads = []
        self.store = None
        # As much as there is may lie in the quarantine: its own bounds have tests of their own.
        quarantine.PART_OF_ROOM = 1e-9
        self.open()

    def open(self):
        self.store = ShareStore.open(
            self.path / "store", wall=lambda: self.now, quota=QUOTA + sum(self.aside.values())
        )

    def teardown(self):
        quarantine.PART_OF_ROOM = PART_OF_ROOM
        if getattr(self, "store", None) is not None:
            for upload, _ in self.uploads:
                upload.discard()
            self.store.close()
            self.folder.cleanup()

    def left(self):
        """The largest share that fits, which comes with its own overhead and a lease's."""
        used = sum(size for size, _ in self.model.values()) + self.overhead()
        coming = self.promised() + (len(self.uploads) + 1) * (SHARE_OVERHEAD + LEASE_OVERHEAD)
        return self.store.room(fresh=False).quota - used - sum(self.aside.values()) - coming

    def overhead(self):
        return len(self.model) * SHARE_OVERHEAD + len(self.ends) * LEASE_OVERHEAD

    def promised(self):
        return sum(upload.size for upload, _ in self.uploads)

    def leased(self, index):
        self.ends[index] = max(self.ends.get(index, 0), self.now + LEASE_SECONDS)
        self.marked.pop(index, None)

    @rule(index=indexes, number=numbers, size=sizes, peer=peers)
    def put(self, index, number, size, peer):
        if size > SMALL_SHARE_BYTES:
            return
        fits = size <= self.left()
        asked = request((number,), size, index=index, peer=peer, terms=lease(1, self.now))
        held = any(key[0] == index for key in self.model)
        put = self.store.run_all([self.store.putting(asked, pattern(size))])[0].get()
        assert put.stored == ((index, number) not in self.model and fits)
        if put.stored:
            self.model[index, number] = (size, peer)
        if put.stored or held:
            self.leased(index)

    @rule(index=indexes, number=numbers, size=sizes, peer=peers)
    def allocate(self, index, number, size, peer):
        fits = size <= self.left()
        asked = request((number,), size, index=index, peer=peer, terms=lease(1, self.now))
        held = any(key[0] == index for key in self.model)
        task = self.store.allocating(asked, in_memory=True)
        accepted = self.store.run_all([task])[0].get().accepted
        assert set(accepted) == ({number} if fits and (index, number) not in self.model else set())
        if held:
            self.leased(index)
        for upload in accepted.values():
            self.uploads.append((upload, self.now))

    @precondition(lambda self: self.uploads)
    @rule(data=st.data(), keep=st.booleans())
    def end_upload(self, data, keep):
        upload, now = self.uploads.pop(data.draw(st.integers(0, len(self.uploads) - 1)))
        if not keep:
            upload.discard()
            return
        upload.write([(0, pattern(upload.size))])
        key = (upload.storage_index, upload.number)
        try:
            assert self.store.close_upload(upload) == (key not in self.model)
        except WriteConflictError:
            assert self.model[key][0] != upload.size
            return
        self.model.setdefault(key, (upload.size, upload.peer))
        end = max(self.ends.get(key[0], 0), now + LEASE_SECONDS)
        self.ends[key[0]] = end
        self.marked.pop(key[0], None)

    @rule(index=indexes)
    def renew(self, index):
        task = self.store.renewing_lease(index, lease(1).renew, self.now)
        try:
            self.store.run_all([task])[0].get()
        except NotStoredError:
            assert index not in self.ends
        else:
            self.leased(index)

    @rule(days=st.sampled_from([1, 10, 31, 40]))
    def time_passes(self, days):
        self.now += days * 86_400

    @rule()
    def mark(self):
        self.store.upkeep.mark_ended(self.now)
        for index, end in self.ends.items():
            if end <= self.now:
                self.marked.setdefault(index, self.now)

    @rule(removed=st.booleans())
    def expire(self, removed):
        expired = self.store.upkeep.expire(self.now, 86_400)
        due = [index for index, at in self.marked.items() if at <= self.now - 86_400]
        gone = {key: self.model.pop(key) for key in list(self.model) if key[0] in due}
        for index in due:
            del self.marked[index], self.ends[index]
        assert (expired.files, expired.shares) == (len(due), len(gone))
        assert expired.size == sum(size for size, _ in gone.values())
        while removed and self.store.upkeep.remove_files():
            pass

    @rule()
    def scrub(self):
        """None of these is a share, so all are set aside."""
        walk = self.store.upkeep.walk()
        while not (step := walk.advance(2**40, self.now)).ended:
            pass
        walk.close()
        assert {(f.storage_index, f.number) for f in step.bad} == set(self.model)
        # One copy of each share of each peer.
        self.aside |= {(*key, peer): size for key, (size, peer) in self.model.items()}
        self.model.clear()

    @rule(orderly=st.booleans())
    def restart(self, orderly):
        for upload, _ in self.uploads:
            upload.discard()
        self.uploads = []
        if orderly:
            self.store.close()
        else:
            database, self.store._database = self.store._database, None
            self.store._readers.close()
            database.close()
        self.open()

    @invariant()
    def exact(self):
        if getattr(self, "store", None) is None:
            return
        room = self.store.room(fresh=True)
        assert room.overhead == self.overhead()
        assert room.available == max(0, self.left())
        assert room.used == sum(size for size, _ in self.model.values())
        assert room.shares == len(self.model)
        assert (room.promised, room.aside) == (self.promised(), sum(self.aside.values()))
        accounts = {}
        for size, peer in self.model.values():
            old = accounts.get(peer, (0, 0))
            accounts[peer] = (old[0] + size, old[1] + 1)
        for peer in PEERS:
            assert self.store.account(peer) == accounts.get(peer, (0, 0))
            theirs = sum(size for key, size in self.aside.items() if key[2] == peer)
            assert self.store.upkeep.account_aside(peer) == theirs
        largest = self.store.upkeep.largest_accounts(10)
        assert largest == sorted(
            ((peer, *sums) for peer, sums in accounts.items()), key=lambda a: (-a[1], a[0])
        )
        assert self.store.accounts() == len(accounts)
        for index in INDEXES:
            held = {key[1]: size for key, (size, _) in self.model.items() if key[0] == index}
            assert self.store.shares(index) == held


AccountTests = AccountMachine.TestCase
AccountTests.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
