"""The store of directories over power cuts and failing disks, each campaign short."""

from __future__ import annotations

import os
import random
import shutil

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.store.health import PROBE_SECONDS
from ampgrid.testing.diskstates import Note, digest, newest, oldest, write_tree
from ampgrid.testing.faults import EIO, ENOSPC, FSYNC, LATE, SHORT
from ampgrid.testing.sqliteio import SqliteShim
from ampgrid.testing.writelog import WriteLog
from tests.campaigns.bench import workplace
from tests.campaigns.crash_states import random_state
from tests.campaigns.directory_bench import (
    SCENARIOS,
    Bench,
    Ledger,
    audit,
    check_accounts,
)
from tests.campaigns.scenarios import small_ballast

#: Set for a long run: so many times as many states and failures.
EFFORT = int(os.environ.get("AMPGRID_EFFORT", "1"))


class DirectoryCampaignTests(SynchronousTestCase):
    def run_all(self, campaign):
        problems = []
        with workplace("directories") as work, SqliteShim.installed() as shim, small_ballast():
            for name, (prepare, act) in SCENARIOS.items():
                problems += [f"{name}: {p}" for p in campaign(work, shim, prepare, act)]
                problems += [f"{name}: {error!r}" for error in shim.errors]
                shim.errors.clear()
        self.assertEqual(problems, [])

    def test_power_cuts(self):
        rng = random.Random(1)
        looked_at = []

        def campaign(work, shim, prepare, act):
            bench = Bench(work, shim)
            bench.open()
            prepare(bench)
            ledger = bench.ledger.copy()
            log = WriteLog(bench.disk)
            bench.record_into(log)
            act(bench)
            bench.record_into(None)
            bench.crash()
            shim.tap = None
            moments = []
            for disk, record in log.disks():
                if isinstance(record, Note):
                    ledger.tell(*record.what)
                moments.append((disk.copy(), ledger.copy()))
            chosen = moments[-1:] + rng.sample(moments, min(len(moments), 10 * EFFORT))
            seen = set()
            for disk, ledger in chosen:
                trees = [disk.tree(oldest), disk.tree(newest)]
                trees += [random_state(disk, rng) for _ in range(2)]
                for tree in trees:
                    key = digest(tree), str(ledger)
                    if key in seen:
                        continue
                    seen.add(key)
                    place = work / "cut"
                    write_tree(tree, place)
                    yield from audit(place / "store", ledger, bench.now)
                    shutil.rmtree(place)
            looked_at.append(len(seen))

        self.run_all(campaign)
        self.assertGreater(sum(looked_at), 80)

    def test_nth_failure(self):
        failures = []

        def campaign(work, shim, prepare, act):
            for fault in (EIO, ENOSPC, FSYNC, SHORT, LATE):
                for lasting in (False, True):
                    for at in range(0, 400, 1 if EFFORT > 1 else 7):
                        bench = Bench(work, shim)
                        bench.open()
                        prepare(bench)
                        bench.plan.set(at, fault, lasting=lasting)
                        act(bench)
                        failed = bench.plan.failed
                        bench.plan.heal()
                        where = f"{fault.name} at {at} ({failed}): "
                        if bench.store is not None:
                            yield from (where + p for p in check_accounts(bench.store))
                            yield from (where + p for p in go_on(bench))
                            bench.crash()
                        shim.tap = None
                        yield from (
                            where + p for p in audit(bench.folder, bench.ledger, bench.now)
                        )
                        if failed is None:
                            break
                        failures.append(where)

        self.run_all(campaign)
        self.assertGreater(len(failures), 100)

    def test_the_audit_finds_what_is_wrong(self):
        with workplace("directories") as work, SqliteShim.installed() as shim, small_ballast():
            bench = Bench(work, shim)
            bench.open()
            bench.create(1)
            ledger = Ledger()
            owner = bench.owner(1)
            ledger.tell("promised", owner.index, owner.ballot(counter=77))
            ledger.tell("accepted", owner.index, owner.ballot(counter=77))
            ledger.tell("leases", (owner.index, b"q" * 20), 5)
            bench.store.database.call(lambda sql: sql.execute("UPDATE directories SET live = 7"))
            bench.crash()
            shim.tap = None
            self.assertEqual(len(audit(bench.folder, ledger)), 4)


def go_on(bench):
    """Let the store, its disk well again, take something new once its probe is due."""
    bench.now += PROBE_SECONDS
    bench.create(9)
    if bench.owner(9).index not in bench.ledger.accepted:
        yield "nothing is accepted by a store whose disk is well"
    yield from check_accounts(bench.store)
