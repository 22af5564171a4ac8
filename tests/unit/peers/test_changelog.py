"""The change log against a plain list of everything that happened."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.peers.changelog import ChangeLog

NODES = st.integers(0, 4).map(lambda n: bytes([n]) * 20)
EVENTS = st.lists(st.tuples(st.sampled_from(["note", "note", "forget", "restore"]), NODES))


class ChangeLogTests(SynchronousTestCase):
    """Whoever asks from any position learns of everything behind it."""

    @given(EVENTS, st.integers(0, 60), st.integers(1, 5))
    def test_against_a_list(self, events, cursor, most):
        log, latest, count = ChangeLog(), {}, 0
        for event, node_id in events:
            if event == "note":
                count += 1
                latest[node_id] = count
                self.assertEqual(count, log.note(node_id))
            elif event == "forget":
                latest.pop(node_id, None)
                log.forget(node_id)
            else:
                log = ChangeLog()
                log.restore(latest, count)
        expected = sorted((at, node_id) for node_id, at in latest.items() if at > cursor)
        self.assertEqual(expected[:most], log.after(cursor, most))
        self.assertEqual(count, log.cursor)

    def test_it_does_not_grow_with_the_number_of_changes(self):
        log = ChangeLog()
        for number in range(10_000):
            log.note(bytes([number % 3]) * 20)
        self.assertLess(len(log._entries), 100)
        self.assertEqual([9998, 9999, 10_000], [at for at, _ in log.after(0, 64)])

    def test_positions_are_never_given_twice(self):
        """Also when the node with the highest one was forgotten before a restart."""
        log = ChangeLog()
        log.note(b"a" * 20)
        log.note(b"b" * 20)
        log.forget(b"b" * 20)
        again = ChangeLog()
        again.restore({b"a" * 20: 1}, 2)
        self.assertEqual(3, again.note(b"c" * 20))
