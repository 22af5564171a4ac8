"""Advice that a share is bad: the server looks for itself, as often as a peer may ask."""

from __future__ import annotations

from ampgrid.commands import errors as e
from ampgrid.commands import storage as commands
from ampgrid.storage import advice
from tests.material import make_shares, some_bytes
from tests.unit.storage.service_case import INDEX, Client, ServiceCase


class AdviceTests(ServiceCase):
    def advise(self, share=0, index=INDEX, client=None):
        return (client or self.client).send(
            commands.AdviseCorruptShare, storage_index=index, share=share, reason="looks odd"
        )

    def keep(self, size=5_000, number=0, good=True):
        cap, shares = make_shares(some_bytes(size), 1, 4)
        share = bytearray(shares[number])
        if not good:
            share[len(share) // 3] ^= 1
        index = cap.storage_index
        self.successResultOf(self.client.allocate((number,), len(share), 50 + number, index))
        for at in range(0, len(share), 60_000):
            part = bytes(share[at : at + 60_000])
            self.successResultOf(self.client.write(at, part, number, 50 + number))
        self.successResultOf(self.client.close(number, 50 + number))
        return index

    def told(self):
        return self.service.status()["advice"]

    def test_a_good_share_stays(self):
        for size in (5_000, 200_000):
            index = self.keep(size)
            self.successResultOf(self.advise(0, index))
            self.assertEqual(set(self.client.sizes(index)), {0})
            self.assertEqual(len(self.store.advisories()), 1)
            self.store.database.call(lambda sql: sql.execute("DELETE FROM advisories"))
        self.assertEqual(self.told(), {"followed": 2, "refused": 0, "found_bad": 0})

    def test_a_bad_share_is_gone_when_the_answer_comes(self):
        other = Client(self, b"q" * 20)
        for size in (5_000, 200_000):
            index = self.keep(size, good=False)
            good = self.keep(size, 1)
            self.assertEqual(index, good)
            self.successResultOf(self.advise(0, index, other))
            self.assertEqual(set(self.client.sizes(index)), {1})
            self.assertEqual(self.keep(size, 0), index)
            self.successResultOf(self.advise(0, index))
            self.assertEqual(set(self.client.sizes(index)), {0, 1})
        self.assertEqual(self.told()["found_bad"], 2)
        self.assertEqual(self.service.status()["quarantine"]["files"], 2)

    def test_what_its_uploader_calls_bad_is_not_kept(self):
        for size in (5_000, 200_000):
            index = self.keep(size, good=False)
            self.successResultOf(self.advise(0, index))
            self.assertEqual(self.client.sizes(index), {})
        self.assertEqual(self.told()["found_bad"], 2)
        self.assertEqual(self.service.status()["quarantine"], {"files": 0, "bytes": 0})

    def test_who_advised_is_answered_also_if_the_end_of_the_look_fails(self):
        index = self.keep()
        walk_to = self.store.upkeep.walk_to

        def badly(*args):
            walk = walk_to(*args)
            walk.close = failing
            return walk

        def failing():
            raise OSError(5, "the disk is gone")

        self.patch(self.store.upkeep, "walk_to", badly)
        for _ in range(3):
            self.successResultOf(self.advise(0, index))
        self.assertEqual(self.told()["followed"], 3)

    def test_large_shares_keep_small_ones_waiting_for_a_turn_only(self):
        self.patch(advice, "_TURN_BYTES", 2**20)
        self.patch(advice, "HOP_BYTES", 2**19)
        large = [self.keep(size) for size in (9 * 2**20, 9 * 2**20 + 1)]
        small = self.keep(5_000)
        self.threads.held = True
        advised = [self.advise(0, index) for index in (*large, small)]
        steps = 0
        while not advised[2].called:
            self.threads.step()
            steps += 1
        self.assertLess(steps, 15)
        self.assertNoResult(advised[0])
        self.threads.release()
        for each in advised:
            self.successResultOf(each)

    def test_a_peer_may_ask_so_much_and_more_with_time(self):
        self.patch(advice, "MOST_MIB", 5)
        index = self.keep()
        for _ in range(5):
            self.successResultOf(self.advise(0, index))
        for _ in range(3):
            self.successResultOf(self.advise(0, index))
        self.assertEqual(self.told(), {"followed": 5, "refused": 3, "found_bad": 0})
        other = Client(self, b"q" * 20)
        self.successResultOf(self.advise(0, index, other))
        self.assertEqual(self.told()["followed"], 6)
        self.clock.advance(2)
        for _ in range(3):
            self.successResultOf(self.advise(0, index))
        self.assertEqual(self.told(), {"followed": 8, "refused": 4, "found_bad": 0})
        # Noted all the same.
        self.assertEqual(len(self.store.advisories()), 1)

    def test_a_large_share_costs_its_size_and_never_more_than_all(self):
        self.patch(advice, "MOST_MIB", 3)
        index = self.keep(2 * 2**20)
        for _ in range(2):
            self.successResultOf(self.advise(0, index))
        self.assertEqual(self.told()["refused"], 1)
        self.patch(advice, "MOST_MIB", 1)
        self.clock.advance(10)
        self.successResultOf(self.advise(0, index))
        self.assertEqual(self.told()["followed"], 2)

    def test_peers_are_remembered_within_bounds(self):
        self.patch(advice, "_MOST_PEERS", 3)
        index = self.keep()
        for number in range(9):
            self.successResultOf(self.advise(0, index, Client(self, bytes([number]) * 20)))
        self.assertEqual(len(self.service.upkeep.advice._allowances), 3)

    def test_an_answer_does_not_wait_for_ever(self):
        index = self.keep(200_000)
        self.threads.held = True
        answer = self.advise(0, index)
        for _ in range(2):
            self.threads.step()
        self.assertNoResult(answer)
        self.clock.advance(advice.ANSWER_SECONDS)
        self.successResultOf(answer)
        self.threads.release()
        self.assertEqual(self.told()["followed"], 1)

    def test_who_asks_of_the_same_share_waits_for_the_same_look(self):
        index = self.keep(200_000, good=False)
        self.threads.held = True
        answers = [self.advise(0, index), self.advise(0, index, Client(self, b"q" * 20))]
        while len(self.threads):
            self.threads.step()
        self.threads.held = False
        for answer in answers:
            self.successResultOf(answer)
        self.assertEqual(self.told(), {"followed": 1, "refused": 0, "found_bad": 1})

    def test_stopping_lets_nobody_wait(self):
        index = self.keep(200_000)
        self.threads.held = True
        answer = self.advise(0, index)
        for _ in range(2):
            self.threads.step()
        self.assertNoResult(answer)
        self.start()
        self.successResultOf(answer)

    def test_of_what_is_not_here(self):
        self.client.failed(e.NoSuchShareError, self.advise(0))
        self.assertEqual(self.told()["followed"], 0)
