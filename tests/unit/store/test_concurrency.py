"""Many threads at one store."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from ampgrid.errors import WriteConflictError
from ampgrid.store.space import LEASE_OVERHEAD, SHARE_OVERHEAD
from tests.contract.share_store_contract import lease, pattern, request
from tests.patience import PATIENCE
from tests.unit.store.test_recovery import INDEX, LARGE, StoreCase


class ConcurrencyTests(StoreCase):
    def setUp(self):
        super().setUp()
        self.pool = ThreadPoolExecutor(8)
        self.addCleanup(self.pool.shutdown)

    def together(self, *calls):
        """Run calls that begin at the same moment; return their results."""
        barrier = threading.Barrier(len(calls))

        def begin(call):
            barrier.wait(PATIENCE)
            return call()

        return [future.result() for future in [self.pool.submit(begin, call) for call in calls]]

    def attempt(self, upload):
        """Close; return None if it contradicts what is stored."""
        try:
            return self.store.close_upload(upload)
        except WriteConflictError:
            return None

    def test_one_of_many_closes_wins(self):
        for size in (500, LARGE):
            for turn in range(6):
                index = bytes([size % 256, turn]) * 8
                uploads = []
                for salt in range(8):
                    asked = request((0,), size, index=index, terms=lease(salt + 1))
                    task = self.store.allocating(asked, in_memory=True)
                    upload = self.store.run_all([task])[0].get().accepted[0]
                    upload.write([(0, pattern(size, salt % 4))])
                    uploads.append(upload)
                won = self.together(*[lambda u=u: self.attempt(u) for u in uploads])
                self.assertEqual(won.count(True), 1)
                best = won.index(True) % 4
                self.assertEqual(self.store.read(index, 0, 0, size), pattern(size, best))
                # Two sent what stayed, and six something else.
                self.assertEqual((won.count(False), won.count(None)), (1, 6))
                self.assertEqual(won.index(False) % 4, best)
                self.assertEqual(len(self.store.lease_expiries(index)), 2)
        self.assertEqual(self.store.room(fresh=True).promised, 0)
        self.assertEqual([name for name in self.files() if "incoming" in name], [])
        self.check_accounts()
        self.open()
        self.check_accounts()

    def test_the_quota_holds_when_many_ask(self):
        overhead = SHARE_OVERHEAD + LEASE_OVERHEAD
        self.open(quota=10 * (LARGE + overhead))
        tasks = [self.store.allocating(request((n,), LARGE), in_memory=True) for n in range(32)]
        answers = self.together(
            *[lambda n=n: self.store.run_all(tasks[n * 4 : n * 4 + 4]) for n in range(8)]
        )
        accepted = [u for group in answers for r in group for u in r.get().accepted.values()]
        self.assertEqual(len(accepted), 10)
        for upload in accepted:
            upload.discard()
        available = self.store.room(fresh=True).available
        self.assertEqual(available, 10 * LARGE + 9 * overhead)

    def test_readers_and_writers(self):
        for number in range(4):
            self.keep(number)

        def read():
            for turn in range(50):
                number, offset = turn % 4, turn * 13
                data = self.store.read(INDEX, number, offset, 500)
                self.assertEqual(data, pattern(LARGE, number)[offset : offset + 500])
            return True

        def write():
            for turn in range(10):
                self.keep(100 + turn + 10 * (threading.get_ident() % 7), 600)
            return True

        self.assertEqual(self.together(read, read, read, write), [True] * 4)
