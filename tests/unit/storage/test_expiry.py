"""Expiry as the service does it: passes in their time, pauses, switched on and off."""

from __future__ import annotations

import errno

from ampgrid.commands import errors as e
from ampgrid.commands import storage as commands
from ampgrid.storage.upkeep import PASS_SECONDS, UpkeepSettings
from ampgrid.store.timekeeping import CALM_SECONDS
from tests.unit.storage.service_case import INDEX, LARGE, NOW, RENEW, Client, ServiceCase
from tests.unit.store.disks import FaultyFileSystem

HOUR, DAY = 3600, 86_400
MONTH = 31 * DAY


class ExpiryCase(ServiceCase):
    settings = UpkeepSettings(expire=True, grace_seconds=2 * DAY)

    def start(self, **how):
        super().start(**how)
        # Months of commits: what a power cut leaves is tested elsewhere.
        self.store.database._sql.execute("PRAGMA synchronous=OFF")

    def pass_time(self, seconds, step=1800):
        """Let time pass as it does, the service looking around."""
        self.clock.pump([step] * int(seconds // step))
        self.clock.advance(seconds % step)

    def renew(self):
        return self.client.send(commands.RenewLease, storage_index=INDEX, renew_secret=RENEW)

    def held(self, index=INDEX):
        return set(self.client.sizes(index))

    def expiry(self):
        return self.service.status()["expiry"]


class PassTests(ExpiryCase):
    def test_marked_then_deleted_and_told(self):
        self.successResultOf(self.client.put(b"data"))
        self.client.allocate((1,), LARGE)
        self.client.write(0, b"x" * 60_000, 1)
        self.client.write(60_000, b"x" * 10_000, 1)
        self.successResultOf(self.client.close(1))
        self.pass_time(MONTH - HOUR)
        self.assertEqual(self.expiry()["marked"], 0)
        self.pass_time(3 * HOUR)
        self.assertEqual(self.expiry()["marked"], 1)
        self.pass_time(2 * DAY - 3 * HOUR)
        self.assertEqual(self.held(), {0, 1})
        self.pass_time(4 * HOUR)
        self.assertEqual(self.held(), set())
        found = self.expiry()
        self.assertEqual(
            (found["marked"], found["expired_files"], found["expired_shares"]), (0, 1, 2)
        )
        self.assertEqual(found["freed_bytes"], LARGE + 4)
        self.assertEqual(self.client.space()["used"], 0)
        self.assertEqual(found["next_pass"], found["last_pass"] + PASS_SECONDS)
        self.assertEqual(self.service.status()["leases"], 0)
        self.client.failed(e.NoSuchLeaseError, self.renew())

    def test_what_is_renewed_stays_whenever_that_happens(self):
        for late in (-DAY, 0, HOUR, DAY, 2 * DAY - 2 * HOUR):
            self.successResultOf(self.client.put(b"data"))
            self.pass_time(MONTH + late)
            self.successResultOf(self.renew())
            self.pass_time(4 * DAY)
            self.assertEqual(self.held(), {0}, late)
            self.assertEqual(self.expiry()["marked"], 0)

    def test_off_nothing_goes_and_marks_are_forgotten(self):
        self.successResultOf(self.client.put(b"data"))
        self.pass_time(MONTH + DAY)
        self.assertEqual(self.expiry()["marked"], 1)
        self.settings = UpkeepSettings(expire=False)
        self.start()
        self.assertEqual(self.expiry()["marked"], 0)
        self.assertIsNone(self.expiry()["next_pass"])
        self.pass_time(20 * DAY)
        self.assertEqual(self.held(), {0})
        self.settings = ExpiryCase.settings
        self.start()
        self.pass_time(2 * DAY)
        self.assertEqual(self.held(), {0})
        self.pass_time(DAY)
        self.assertEqual(self.held(), set())

    def test_marks_and_time_outlive_a_restart(self):
        self.successResultOf(self.client.put(b"data"))
        self.pass_time(MONTH + 2 * HOUR)
        before = self.service.status()["time"]["now"]
        self.start()
        self.assertEqual(self.service.status()["time"]["now"], before)
        self.assertEqual(self.expiry()["marked"], 1)
        self.pass_time(2 * DAY)
        self.assertEqual(self.held(), set())

    def test_nothing_expires_in_the_first_hour(self):
        """Who was waiting for the node to be back can renew first."""
        self.successResultOf(self.client.put(b"data"))
        self.pass_time(MONTH + 2 * DAY - 600)
        self.start()
        self.pass_time(HOUR - 600)
        self.assertEqual(self.held(), {0})
        self.successResultOf(self.renew())
        self.pass_time(5 * DAY)
        self.assertEqual(self.held(), {0})

    def test_it_waits_for_its_threads_and_not_for_the_reactor(self):
        """A renewal that comes while a pass is on its way wins until the very deletion."""
        self.successResultOf(self.client.put(b"data"))
        self.pass_time(MONTH + 2 * DAY - HOUR)
        self.assertEqual(self.expiry()["marked"], 1)
        self.threads.held = True
        self.pass_time(2 * HOUR)
        self.assertTrue(self.service.upkeep.expiry.running)
        renewing = self.renew()
        self.threads.step(len(self.threads) - 1)
        self.threads.release()
        self.successResultOf(renewing)
        self.pass_time(4 * DAY)
        self.assertEqual(self.held(), {0})


class ClockTests(ExpiryCase):
    def test_a_jump_pauses_and_ends_no_lease(self):
        for jump in (10 * 365 * DAY, -10 * 365 * DAY, 2 * HOUR):
            self.successResultOf(self.client.put(b"data"))
            self.successResultOf(self.client.allocate((0,), 4))
            self.pass_time(3 * HOUR)
            self.wall_off += jump
            self.clock.pump([60, 60])
            found = self.expiry()
            self.assertTrue(CALM_SECONDS - 120 <= found["paused_seconds"] <= CALM_SECONDS)
            passes = found["last_pass"]
            self.pass_time(CALM_SECONDS - 600)
            self.assertEqual(self.expiry()["last_pass"], passes)
            self.pass_time(MONTH - DAY)
            self.assertEqual(self.expiry()["paused_seconds"], 0)
            self.assertEqual(self.held(), {0})
            self.assertEqual(self.expiry()["marked"], 0)
            self.successResultOf(self.renew())
        time = self.service.status()["time"]
        self.assertEqual((time["jumps"], time["behind_seconds"]), (3, 2 * HOUR))
        self.pass_time(MONTH + 3 * DAY)
        self.assertEqual(self.held(), set())

    def test_a_jump_while_it_was_off(self):
        self.successResultOf(self.client.put(b"data"))
        for jump in (365 * DAY, -400 * DAY):
            self.pass_time(3 * DAY)
            self.wall_off += jump
            self.start()
            self.assertGreater(self.expiry()["paused_seconds"], 0)
            self.pass_time(8 * DAY)
            self.assertEqual((self.held(), self.expiry()["marked"]), ({0}, 0))
        self.pass_time(5 * DAY)
        self.assertEqual(self.held(), {0})

    def test_a_jump_in_the_middle_of_a_pass(self):
        self.successResultOf(self.client.put(b"data"))
        self.pass_time(MONTH + 2 * DAY - HOUR)
        self.threads.held = True
        self.pass_time(2 * HOUR)
        self.wall_off += DAY
        self.threads.release()
        self.assertEqual(self.held(), {0})
        self.pass_time(3 * HOUR)
        self.assertEqual(self.held(), set())


class BrokenTests(ExpiryCase):
    def test_a_disk_that_fails_is_told_and_tried_again(self):
        disk = FaultyFileSystem({"unlink"})
        self.start(files=disk)
        self.client.allocate((0,), LARGE)
        self.client.write(0, b"x" * 60_000)
        self.client.write(60_000, b"x" * 10_000)
        self.successResultOf(self.client.close())
        self.pass_time(MONTH + 2 * DAY - HOUR)
        disk.plan(0, error=errno.EIO)
        self.pass_time(3 * HOUR)
        self.assertEqual(disk.failed, "unlink")
        self.assertEqual(self.held(), set())
        status = self.service.status()
        self.assertTrue(status["broken"])
        self.assertIn("disk failed", status["alarm"])
        disk.heal()
        self.pass_time(HOUR)
        self.assertEqual(self.expiry()["error"], "")
        self.assertEqual(list(self.directory.rglob("shares/*/*/*")), [])

    def test_stopping_in_the_middle(self):
        for number in range(3):
            self.successResultOf(self.client.put(b"data", 0, bytes([number]) * 16))
        self.pass_time(MONTH + 2 * DAY - HOUR)
        self.threads.held = True
        self.pass_time(2 * HOUR)
        self.start()
        self.pass_time(3 * HOUR)
        self.assertEqual(self.client.space()["used"], 0)


class StatusTests(ExpiryCase):
    def test_accounts(self):
        self.successResultOf(self.client.put(b"12345"))
        self.clock.advance(60)
        status = self.service.status()
        self.assertEqual(status["accounts"]["bytes"], 5)
        (largest,) = status["accounts"]["largest"]
        self.assertEqual((largest["bytes"], largest["shares"]), (5, 1))
        self.assertEqual((status["peers"], status["leases"]), (1, 1))
        self.assertEqual(status["time"]["now"], int(NOW) + 60)

    def test_every_peer_of_a_club_has_its_account_told(self):
        for number in range(40):
            client = Client(self, bytes([number]) * 20)
            self.successResultOf(client.put(b"12345", 0, bytes([number]) * 16))
        self.clock.advance(60)
        accounts = self.service.status()["accounts"]
        self.assertEqual((len(accounts["largest"]), accounts["peers"]), (40, 40))
