"""The bounds of transfers: what they count, and that they are bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks import bound
from tests.benchmarks.amounts import Amount, median_of, timed
from tests.benchmarks.bound import FIRST, Bound, Piece

COSTS = {
    "SHA-256": 0.001,
    "AES-128-CTR": 0.0002,
    "AES-128-GMAC": 0.00005,
    "encode 3-of-5, zfec": 0.003,
    "decode 3-of-5, zfec": 0.004,
    "file read, cached": 0.0001,
    "file written, durable": 0.0005,
    "shares stored, 33 MB": 0.0006,
}


def parts(**more: float) -> dict[str, Amount]:
    costs = {**COSTS, **more}
    found = {name: Amount(1 / cpu, "MB", cpu) for name, cpu in costs.items()}
    found["tls stream"] = Amount(900, "MB", 0.0019, here=0.0009, there=0.001)
    return found


class TransfersTest(SynchronousTestCase):
    def test_an_upload_is_the_sum_of_its_pieces(self) -> None:
        limit = bound.upload(parts(), 3, 5, 2)
        hashing = 0.001 * (1 + 1 + 1 + 5 / 3) + 2 * 0.00005
        network = 0.0019 * 5 / 3
        expected = hashing + network + 2 * 0.0001 + 0.0002 + 0.003 + 0.0006 * 5 / 3
        self.assertAlmostEqual(limit.cpu, expected)
        self.assertAlmostEqual(limit.rate, 2 / expected)

    def test_its_first_pass_is_serial(self) -> None:
        limit = bound.upload(parts(), 3, 5, 2)
        first = 0.001 + 0.00005 + 0.0001
        self.assertAlmostEqual(1 / limit.serial_rate, first + (limit.cpu - first) / 2)
        # With many cores the longest lane is left: what the reactor sends.
        many = bound.upload(parts(), 3, 5, 1000)
        self.assertAlmostEqual(1 / many.serial_rate, first + 5 / 3 * 0.0009)

    def test_a_download_is_the_sum_of_its_pieces(self) -> None:
        limit = bound.download(parts(), 3, 5, 4)
        expected = 0.0001 + 0.0019 + 0.001 + 0.004 + 0.0002 + 0.0005
        self.assertAlmostEqual(limit.cpu, expected)
        self.assertAlmostEqual(limit.rate, 4 / expected)

    def test_more_shares_cost_an_upload_alone(self) -> None:
        wide = parts(**{"encode 3-of-10, zfec": 0.003, "decode 3-of-10, zfec": 0.004})
        less, more = bound.upload(wide, 3, 5, 2), bound.upload(wide, 3, 10, 2)
        self.assertAlmostEqual(more.cpu - less.cpu, (0.001 + 0.0019 + 0.0006) * 5 / 3)
        same = bound.download(wide, 3, 5, 2), bound.download(wide, 3, 10, 2)
        self.assertAlmostEqual(same[0].cpu, same[1].cpu)

    def test_the_fast_engine_counts_where_it_is(self) -> None:
        fast = parts(**{"encode 3-of-5, isal": 0.0001, "decode 3-of-5, isal": 0.0002})
        for kind, saved in ((bound.upload, 0.0029), (bound.download, 0.0038)):
            difference = kind(parts(), 3, 5, 2).cpu - kind(fast, 3, 5, 2).cpu
            self.assertAlmostEqual(difference, saved)

    def test_what_was_not_measured_is_missed(self) -> None:
        for name in COSTS:
            some = parts()
            del some[name]
            with self.assertRaises((KeyError, StopIteration)):
                bound.upload(some, 3, 5, 2)
                bound.download(some, 3, 5, 2)


pieces = st.builds(
    Piece,
    name=st.just("piece"),
    where=st.sampled_from(["client", "nodes"]),
    times=st.floats(0.1, 10),
    cpu=st.floats(1e-5, 1e-2),
    lane=st.sampled_from(["", "", FIRST, "a", "b"]),
)


class BoundTest(SynchronousTestCase):
    @given(st.lists(pieces, min_size=1, max_size=8), st.integers(1, 64))
    def test_serial_parts_only_lower_it_and_one_core_makes_no_difference(
        self, some: list[Piece], cores: int
    ) -> None:
        limit = Bound(some, cores)
        self.assertLessEqual(limit.serial_rate, limit.rate * (1 + 1e-9))
        alone = Bound(some, 1)
        self.assertAlmostEqual(alone.serial_rate / alone.rate, 1)
        self.assertLessEqual(alone.rate, limit.rate * (1 + 1e-9))

    def test_it_is_told_for_json(self) -> None:
        told = Bound([Piece("hash", "client", 2, 0.5, FIRST)], 2).to_json()
        self.assertEqual((told["rate"], told["serial_rate"], told["cpu"]), (2, 1, 1))
        self.assertEqual(told["pieces"][0]["seconds"], 1)


class AmountTest(SynchronousTestCase):
    def test_medians_are_taken_of_each_number(self) -> None:
        some = [Amount(rate, "MB", 10 - rate, rate * 2, 0) for rate in (1, 5, 2)]
        self.assertEqual(median_of(some), Amount(2, "MB", 8, 4, 0))

    def test_work_is_done_at_least_twice_beside_the_warm_up(self) -> None:
        done: list[None] = []
        amount = timed(lambda: done.append(None), 3, "things", 0)
        self.assertEqual((len(done), amount.unit), (3, "things"))
        self.assertGreater(amount.rate, 0)
