"""The dialler: back-off, head start, and the machine under any inputs."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import HandshakeError
from ampgrid.peers.dialler import CAP_SECONDS, HEAD_START_SECONDS, Dialler, back_off
from tests.unit.peers.fakes import FakeConnection

LOW, OWN, HIGH = b"\x01" * 20, b"\x55" * 20, b"\xfe" * 20
HINTS = (("192.0.2.1", 4000),)


def longest(low, high):
    """Draw the upper bound."""
    assert low == 0.0
    return high


class BackOffTests(SynchronousTestCase):
    """How long to wait."""

    @given(st.integers(1, 10**9), st.integers())
    def test_never_beyond_the_bound(self, failures, seed):
        delay = back_off(failures, random.Random(seed).uniform)
        self.assertTrue(0 <= delay <= min(CAP_SECONDS, 2.0 ** min(failures - 1, 10)))

    def test_the_bound_doubles_up_to_the_cap(self):
        self.assertEqual([1, 2, 4, 8, 16, 32, 60, 60], [back_off(n, longest) for n in range(1, 9)])

    def test_all_of_it_is_chance(self):
        """Full jitter: a thousand peers of one lost node come back all over the minute."""
        uniform = random.Random(1).uniform
        delays = [back_off(10, uniform) for _ in range(1000)]
        per_slot = [sum(lo <= d < lo + 10 for d in delays) for lo in range(0, 60, 10)]
        self.assertTrue(all(120 < count < 220 for count in per_slot), per_slot)


class Bench:
    """A dialler with its surroundings."""

    def __init__(self, peer=HIGH, uniform=longest):
        self.clock = Clock()
        self.dials = []
        self.states = []
        self.outcome = lambda: fail(HandshakeError("nobody there\nsecond line"))
        self.dialler = Dialler(
            peer,
            own_id=OWN,
            dial=self.dial,
            clock=self.clock,
            uniform=uniform,
            on_state=self.states.append,
        )

    async def dial(self, node_id, hints):
        self.dials.append((self.clock.seconds(), hints))
        return await self.outcome()

    def connection(self):
        return FakeConnection(HIGH, dialled=True)


class DiallerTests(SynchronousTestCase):
    """What it does in the situations that happen."""

    def test_without_an_address_nothing_happens(self):
        bench = Bench()
        bench.dialler.announced(())
        bench.clock.advance(1000)
        self.assertEqual([], bench.dials)
        self.assertEqual("idle", bench.dialler.state)

    def test_a_higher_peer_is_dialled_at_once(self):
        bench = Bench(HIGH)
        bench.outcome = Deferred
        bench.dialler.announced(HINTS)
        bench.clock.advance(0)
        self.assertEqual([(0, HINTS)], bench.dials)
        self.assertEqual("dialling", bench.dialler.state)

    def test_a_lower_peer_has_a_head_start(self):
        bench = Bench(LOW)
        bench.dialler.announced(HINTS)
        bench.clock.advance(HEAD_START_SECONDS - 0.01)
        self.assertEqual([], bench.dials)
        bench.clock.advance(0.01)
        self.assertEqual(1, len(bench.dials))

    def test_a_lower_peer_that_dials_in_time_is_not_dialled(self):
        bench = Bench(LOW)
        bench.dialler.announced(HINTS)
        bench.clock.advance(1)
        bench.dialler.connected()
        bench.clock.advance(1000)
        self.assertEqual([], bench.dials)
        self.assertEqual("connected", bench.dialler.state)

    def test_failures_are_spaced_and_named(self):
        bench = Bench()
        bench.dialler.announced(HINTS)
        bench.clock.pump([0] + [0.5] * 700)
        times = [time for time, _ in bench.dials]
        self.assertEqual([0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303], times)
        self.assertEqual("nobody there", bench.dialler.last_error)
        self.assertEqual("waiting", bench.dialler.state)

    def test_success_resets(self):
        bench = Bench()
        bench.dialler.announced(HINTS)
        bench.clock.pump([0, 1, 2, 4])
        bench.outcome = lambda: succeed(bench.connection())
        bench.clock.advance(8)
        self.assertEqual(("connected", ""), (bench.dialler.state, bench.dialler.last_error))
        bench.clock.advance(10)
        bench.dialler.disconnected()
        bench.clock.advance(0.99)
        self.assertEqual(5, len(bench.dials))
        bench.clock.advance(0.01)
        self.assertEqual(6, len(bench.dials))

    def test_connections_that_do_not_last_are_no_success(self):
        """A peer that hangs up at once is dialled ever more rarely."""
        bench = Bench()
        bench.outcome = lambda: succeed(bench.connection())
        bench.dialler.announced(HINTS)
        for _ in range(3000):
            bench.clock.advance(0.1)
            if bench.dialler.state == "connected":
                bench.dialler.disconnected()
        self.assertLess(len(bench.dials), 12)

    def test_a_connection_lost_within_the_dial_is_a_failure(self):
        bench = Bench()
        gone = bench.connection()
        gone.lose()
        bench.outcome = lambda: succeed(gone)
        bench.dialler.announced(HINTS)
        bench.clock.advance(0)
        self.assertEqual("waiting", bench.dialler.state)
        self.assertEqual("the connection was lost at once", bench.dialler.last_error)

    def test_a_changed_announcement_retries_at_once(self):
        bench = Bench()
        bench.dialler.announced(HINTS)
        bench.clock.pump([0, 1, 2, 4, 8, 16])
        count = len(bench.dials)
        other = (("192.0.2.2", 5000),)
        bench.dialler.announced(other)
        bench.clock.advance(0)
        self.assertEqual((bench.clock.seconds(), other), bench.dials[-1])
        self.assertEqual(count + 1, len(bench.dials))
        bench.clock.advance(1)
        self.assertEqual(count + 2, len(bench.dials))

    def test_addresses_that_change_while_dialling_are_for_the_next_dial(self):
        bench = Bench()
        dialled = Deferred()
        bench.outcome = lambda: dialled
        bench.dialler.announced(HINTS)
        bench.clock.advance(0)
        other = (("192.0.2.2", 5000),)
        bench.dialler.announced(other)
        dialled.errback(HandshakeError("no"))
        bench.clock.advance(1)
        self.assertEqual(other, bench.dials[-1][1])

    def test_the_table_may_tell_before_the_dial_returns(self):
        """The usual order: the connection is in the table while the dial still runs."""
        bench = Bench()

        def outcome():
            bench.dialler.connected()
            return succeed(bench.connection())

        bench.outcome = outcome
        bench.dialler.announced(HINTS)
        bench.clock.advance(0)
        self.assertEqual("connected", bench.dialler.state)
        self.assertEqual(["holding", "dialling", "connected"], bench.states)

    def test_an_incoming_connection_lets_the_dial_go(self):
        bench = Bench()
        dialled = Deferred()
        bench.outcome = lambda: dialled
        bench.dialler.announced(HINTS)
        bench.clock.advance(0)
        bench.dialler.connected()
        dialled.errback(HandshakeError("already connected"))
        self.assertEqual(("connected", ""), (bench.dialler.state, bench.dialler.last_error))

    def test_stopping_cancels(self):
        bench = Bench()
        dialled = Deferred()
        bench.outcome = lambda: dialled
        bench.dialler.announced(HINTS)
        bench.clock.advance(0)
        bench.dialler.stop()
        self.assertTrue(dialled.called)
        self.assertEqual("stopped", bench.dialler.state)
        bench.dialler.announced(HINTS)
        bench.clock.advance(1000)
        self.assertEqual(1, len(bench.dials))
        self.assertEqual([], bench.clock.getDelayedCalls())

    def test_addresses_that_go_end_the_dialling(self):
        for seconds in (None, 0, 0.5):
            bench = Bench(LOW)
            bench.outcome = Deferred if seconds == 0 else bench.outcome
            bench.dialler.announced(HINTS)
            if seconds is not None:
                bench.clock.advance(HEAD_START_SECONDS)
                bench.clock.advance(seconds)
            bench.dialler.announced(())
            self.assertEqual("idle", bench.dialler.state)
            self.assertEqual([], bench.clock.getDelayedCalls())

    def test_a_peer_without_addresses_is_not_dialled_after_its_connection(self):
        bench = Bench()
        bench.dialler.connected()
        bench.dialler.disconnected()
        self.assertEqual("idle", bench.dialler.state)
        self.assertEqual([], bench.clock.getDelayedCalls())

    def test_an_unforeseen_failure_is_logged_and_retried(self):
        bench = Bench()
        bench.outcome = lambda: fail(ZeroDivisionError())
        bench.dialler.announced(HINTS)
        bench.clock.advance(0)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual("ZeroDivisionError", bench.dialler.last_error)
        bench.clock.advance(1)
        self.assertEqual(2, len(bench.dials))
        self.flushLoggedErrors(ZeroDivisionError)


INPUTS = {
    "announced": lambda b: b.dialler.announced(HINTS),
    "unannounced": lambda b: b.dialler.announced(()),
    "connected": lambda b: b.dialler.connected(),
    "disconnected": lambda b: b.dialler.disconnected(),
    "time": lambda b: b.clock.advance(1.5),
    "dial succeeds": lambda b: b.finish(lambda d: d.callback(b.connection())),
    "dial fails": lambda b: b.finish(lambda d: d.errback(HandshakeError("no"))),
    "raw wait_over": lambda b: b.dialler._machine.wait_over(),
    "raw dial_succeeded": lambda b: b.dialler._machine.dial_succeeded(),
    "raw dial_failed": lambda b: b.dialler._machine.dial_failed("no"),
    "stop": lambda b: b.dialler.stop(),
}


class SlowBench(Bench):
    """Dials end when the test says so."""

    def __init__(self):
        super().__init__()
        self.pending = []
        self.outcome = self.begin

    def begin(self):
        self.pending.append(Deferred())
        return self.pending[-1]

    def finish(self, function):
        if self.pending and not self.pending[-1].called:
            function(self.pending[-1])


class MachineTests(SynchronousTestCase):
    """Any input in any state."""

    @given(st.lists(st.sampled_from(sorted(INPUTS)), max_size=25))
    @settings(max_examples=300, deadline=None)
    def test_any_inputs(self, names):
        """No input is ever an error, and each state owns exactly its timer or its dial."""
        bench = SlowBench()
        for name in names:
            INPUTS[name](bench)
            state = bench.dialler.state
            timers = [call for call in bench.clock.getDelayedCalls() if call.active()]
            self.assertEqual(1 if state in ("holding", "waiting") else 0, len(timers), state)
            if state == "dialling":
                self.assertFalse(bench.pending[-1].called)
            if state in ("idle", "stopped"):
                let_go = {"connected", "raw dial_succeeded", "raw dial_failed"} & set(names)
                self.assertTrue(let_go or all(dial.called for dial in bench.pending))
        self.assertEqual("stop" in names, bench.dialler.state == "stopped")

    def test_every_state_takes_every_input(self):
        """From each state that can be reached, each input, once."""
        ways = {
            "idle": [],
            "holding": ["announced"],
            "dialling": ["announced", "time"],
            "connected": ["connected"],
            "waiting": ["announced", "time", "dial fails"],
            "stopped": ["stop"],
        }
        for state, way in ways.items():
            for feed in INPUTS.values():
                bench = SlowBench()
                for step in way:
                    INPUTS[step](bench)
                self.assertEqual(state, bench.dialler.state)
                feed(bench)
                self.assertIn(bench.dialler.state, ways)
