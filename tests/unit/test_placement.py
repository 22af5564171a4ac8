"""Placement: matching against an exhaustive oracle, and the plan against invented servers."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.placement import (
    MOST_ROUNDS,
    MOST_SHARES_PER_REQUEST,
    PlacementPlan,
    happiness,
    maximum_matching,
    permute,
)

HOLDINGS = st.dictionaries(
    st.integers(0, 5).map(lambda n: f"server{n}"), st.frozensets(st.integers(0, 5)), max_size=6
)


def largest_matching_size(holdings):
    """Try everything: every server takes one of its shares or none."""
    best = 0
    for choice in itertools.product(*[[None, *shares] for shares in holdings.values()]):
        taken = [share for share in choice if share is not None]
        if len(set(taken)) == len(taken):
            best = max(best, len(taken))
    return best


class PermuteTests(SynchronousTestCase):
    """The order of servers for one file."""

    @given(st.binary(min_size=16, max_size=16), st.sets(st.binary(min_size=20, max_size=20)))
    def test_order_is_by_sha1_of_index_and_node_id(self, index, node_ids):
        expected = [
            node_id
            for _, node_id in sorted((hashlib.sha1(index + n).digest(), n) for n in node_ids)
        ]
        self.assertEqual(expected, permute(index, node_ids))

    def test_known_answer(self):
        """Frozen: SHA-1 of sixteen zeros and each node id, worked out with sha1sum."""
        ids = [bytes([number]) * 20 for number in range(5)]
        self.assertEqual([3, 2, 1, 0, 4], [node_id[0] for node_id in permute(bytes(16), ids)])

    def test_one_named_twice_counts_once(self):
        self.assertEqual([b"a" * 20], permute(bytes(16), [b"a" * 20, b"a" * 20]))


class MatchingTests(SynchronousTestCase):
    """maximum_matching and happiness."""

    @given(HOLDINGS)
    def test_matching_is_valid_and_as_large_as_any(self, holdings):
        matching = maximum_matching(holdings)
        self.assertEqual(len(matching), len(set(matching.values())))
        self.assertTrue(all(share in holdings[server] for share, server in matching.items()))
        self.assertEqual(largest_matching_size(holdings), len(matching))
        self.assertEqual(len(matching), happiness(holdings))

    def test_every_small_graph(self):
        """All 512 graphs of three servers and three shares."""
        subsets = [{n for n in range(3) if bits >> n & 1} for bits in range(8)]
        for row in itertools.product(subsets, repeat=3):
            holdings = dict(enumerate(row))
            self.assertEqual(largest_matching_size(holdings), happiness(holdings), holdings)

    def test_long_chains_do_not_recurse(self):
        """Each server holds its own and the next one's share; the last holds only its own."""
        size = 256
        holdings = {n: {n, n + 1} if n < size - 1 else {n} for n in range(size)}
        self.assertEqual(size, happiness(dict(reversed(holdings.items()))))


class Grid:
    """Invented servers: {name: (shares held before, shares it has room for, dies)}."""

    def __init__(self, servers):
        self.servers = servers
        self.buckets = {name: set() for name in servers}

    def answer(self, plan, name, asked):
        held, room, dies = self.servers[name]
        if dies:
            plan.failed(name)
            return
        free = room - len(self.buckets[name])
        accepted = sorted(asked - held)[: max(free, 0)]
        self.buckets[name] |= set(accepted)
        plan.answered(name, asked, held, accepted)

    def run(self, plan):
        """Ask and answer until the plan has enough; return the rounds."""
        rounds = []
        while requests := plan.requests():
            rounds.append(requests)
            for name, asked in requests.items():
                self.answer(plan, name, asked)
        return rounds


def servers_strategy(room):
    return st.dictionaries(
        st.integers(0, 30),
        st.tuples(st.frozensets(st.integers(0, 11)), room, st.booleans()),
        max_size=9,
    )


def placed(plan):
    """{server: shares} when the upload is done: what was held, and what is assigned."""
    result = {server: set(shares) for server, shares in plan.held().items()}
    for share, server in plan.assignment().items():
        result.setdefault(server, set()).add(share)
    return result


class PlanPropertyTests(SynchronousTestCase):
    """What holds whatever the servers do."""

    @given(servers_strategy(st.integers(0, 12)), st.integers(1, 12))
    @settings(max_examples=200, deadline=None)
    def test_invariants(self, servers, total):
        grid = Grid(servers)
        plan = PlacementPlan(servers, total, 7)
        rounds = grid.run(plan)
        lost = sum(dies for _, _, dies in servers.values())
        self.assertLessEqual(len(rounds), MOST_ROUNDS + lost)
        asked = Counter((name, share) for r in rounds for name, s in r.items() for share in s)
        self.assertFalse([pair for pair, times in asked.items() if times > 1])
        for shares in (shares for r in rounds for shares in r.values()):
            self.assertTrue(shares and max(shares) < total)

        assignment = plan.assignment()
        for share, server in assignment.items():
            self.assertIn(share, grid.buckets[server])
        self.assertEqual(plan.happiness(), happiness(placed(plan)))
        held_anywhere = set().union(*plan.held().values())
        for share, server in assignment.items():
            if share in held_anywhere:
                without = placed(plan)
                without[server].discard(share)
                self.assertLess(happiness(without), plan.happiness(), "a needless copy")
        used = set(assignment.items())
        for server, share in plan.superfluous():
            self.assertNotIn((share, server), used)
            self.assertIn(share, grid.buckets[server])
        open_buckets = {(server, s) for server, b in grid.buckets.items() for s in b}
        self.assertEqual(
            open_buckets, set(plan.superfluous()) | {(server, s) for s, server in used}
        )

    @given(servers_strategy(st.sampled_from([0, 100])), st.integers(1, 12))
    @settings(max_examples=200, deadline=None)
    def test_the_greatest_happiness_is_reached_and_all_is_placed(self, servers, total):
        """Servers with room for all, for none, and dead ones; compared with the best possible."""
        plan = PlacementPlan(servers, total, 7)
        rounds = Grid(servers).run(plan)
        seen = set().union(*rounds)
        possible = {
            name: set(range(total)) if room else held & set(range(total))
            for name, (held, room, dies) in servers.items()
            if not dies and (room or name in seen)
        }
        self.assertEqual(happiness(possible), plan.happiness())
        if any(room and not dies for _, room, dies in servers.values()):
            self.assertEqual(set(range(total)), set().union(*placed(plan).values()))

    @given(st.integers(1, 12), st.integers(1, 12))
    def test_empty_servers_with_room_are_loaded_evenly_in_one_round(self, count, total):
        servers = {name: (frozenset(), 100, False) for name in range(count)}
        plan = PlacementPlan(servers, total, 1)
        rounds = Grid(servers).run(plan)
        self.assertEqual(1, len(rounds))
        self.assertEqual({share: share % count for share in range(total)}, plan.assignment())
        self.assertEqual([], plan.superfluous())

    @given(st.sets(st.integers(0, 9), max_size=9), st.integers(1, 20))
    def test_what_full_servers_refuse_is_spread_evenly(self, full, total):
        servers = {n: (frozenset(), 0 if n in full else 100, False) for n in range(10)}
        plan = PlacementPlan(servers, total, 1)
        Grid(servers).run(plan)
        loads = [len(shares) for shares in placed(plan).values()]
        self.assertEqual(total, sum(loads))
        self.assertEqual(min(total, 10 - len(full)), len(loads))
        self.assertLessEqual(max(loads) - min(loads), 1)

    @given(servers_strategy(st.integers(0, 12)), st.integers(1, 12), st.data())
    @settings(max_examples=100, deadline=None)
    def test_settled_choices_stay_when_a_server_fails(self, servers, total, data):
        assume(servers)
        grid = Grid(servers)
        plan = PlacementPlan(servers, total, 7)
        grid.run(plan)
        for server, share in plan.settle():
            grid.buckets[server].discard(share)
        before = plan.assignment()
        self.assertEqual([], plan.superfluous())
        dead = data.draw(st.sampled_from(sorted(servers)))
        plan.failed(dead)
        grid.servers = {**servers, dead: (frozenset(), 0, True)}
        grid.buckets[dead] = set()
        grid.run(plan)
        after = plan.assignment()
        for share, server in before.items():
            if server != dead:
                self.assertEqual(server, after[share])
        self.assertNotIn(dead, placed(plan))
        for share, server in after.items():
            self.assertIn(share, grid.buckets[server])


class PlanExampleTests(SynchronousTestCase):
    """Situations worth naming."""

    def test_one_server_holds_all_and_the_others_nothing(self):
        """The shares clump; copies go to the others until happiness is at its greatest."""
        everything = frozenset(range(10))
        servers = {n: (everything if n == 0 else frozenset(), 100, False) for n in range(10)}
        plan = PlacementPlan(servers, 10, 7)
        Grid(servers).run(plan)
        self.assertEqual(10, plan.happiness())
        self.assertEqual(9, len(plan.assignment()))
        self.assertNotIn(0, plan.assignment().values())

    def test_everything_is_there_already(self):
        """A second upload of the same file places nothing and asks once."""
        servers = {n: (frozenset({n}), 100, False) for n in range(10)}
        plan = PlacementPlan(servers, 10, 7)
        self.assertEqual(1, len(Grid(servers).run(plan)))
        self.assertEqual({}, plan.assignment())
        self.assertEqual(10, plan.happiness())
        self.assertTrue(plan.is_happy())

    def test_two_servers_share_and_the_second_holds_all(self):
        """Copies that raise nothing are aborted: the second server's ten and one at the first."""
        servers = {"a": (frozenset(), 100, False), "b": (frozenset(range(10)), 100, False)}
        plan = PlacementPlan(servers, 10, 2)
        Grid(servers).run(plan)
        self.assertEqual(1, len(plan.assignment()))
        self.assertEqual({"a"}, set(plan.assignment().values()))
        self.assertEqual(4, len(plan.settle()))
        self.assertEqual([], plan.superfluous())
        self.assertEqual(2, plan.happiness())

    def test_a_false_claim_is_worked_round_and_is_no_refusal(self):
        """Server a claims share 0 but it is of another file; a still gets another share."""
        plan = PlacementPlan("ab", 2, 2)
        self.assertEqual({"a": {0}, "b": {1}}, plan.requests())
        plan.answered("a", {0}, set(), set(), unusable={0})
        plan.answered("b", {1}, set(), {1})
        self.assertEqual({"a": {1}, "b": {0}}, plan.requests())
        plan.answered("a", {1}, set(), {1})
        plan.answered("b", {0}, set(), {0})
        self.assertEqual({}, plan.requests())
        self.assertEqual({0: "b", 1: "a"}, plan.assignment())
        self.assertEqual([("b", 1)], plan.superfluous())

    def test_buckets_that_were_never_asked_for_are_ignored(self):
        plan = PlacementPlan("ab", 2, 2)
        plan.requests()
        plan.answered("a", {0}, {7, 300}, {0, 1})
        self.assertEqual({0: "a"}, plan.assignment())
        self.assertEqual({}, plan.held())

    def test_answers_of_a_failed_server_are_ignored(self):
        plan = PlacementPlan("ab", 2, 2)
        plan.requests()
        plan.failed("a")
        plan.answered("a", {0}, {1}, {0})
        self.assertEqual({}, plan.assignment())
        self.assertEqual(0, plan.happiness())

    def test_open_questions_count_as_answered_with_yes(self):
        """Asked again while a server is slow, the plan does not ask others for its share."""
        plan = PlacementPlan("abcd", 2, 2)
        plan.requests()
        plan.answered("a", {0}, set(), {0})
        self.assertEqual({}, plan.requests())
        plan.failed("b")
        self.assertEqual({"c": {1}}, plan.requests())

    def test_no_request_names_more_shares_than_a_command_can(self):
        plan = PlacementPlan(["only"], 256, 1)
        first = plan.requests()["only"]
        self.assertEqual(MOST_SHARES_PER_REQUEST, len(first))
        plan.answered("only", first, set(), first)
        second = plan.requests()["only"]
        plan.answered("only", second, set(), second)
        self.assertEqual(set(range(256)), first | second)
        self.assertEqual({}, plan.requests())
        self.assertEqual(256, len(plan.assignment()))

    def test_no_servers(self):
        plan = PlacementPlan([], 10, 7)
        self.assertEqual({}, plan.requests())
        self.assertEqual(
            "placed 0 of 10 shares on 0 servers, 7 servers needed; no server could be asked",
            plan.summary(),
        )

    def test_many_servers_and_shares_are_quick_enough(self):
        """256 shares, 300 servers of which every other is full; here a few ms."""
        servers = {n: (frozenset(), 100 * (n % 2), False) for n in range(300)}
        plan = PlacementPlan(servers, 256, 100)
        Grid(servers).run(plan)
        self.assertEqual(150, plan.happiness())
        self.assertEqual(256, len(plan.assignment()))


class SummaryTests(SynchronousTestCase):
    """What the user reads when an upload is not happy."""

    def test_refusals_and_failures_are_named(self):
        servers = {n: (frozenset(), 1, False) for n in range(4)}
        servers.update({4: (frozenset(), 0, False), 5: (frozenset(), 0, False)})
        servers[6] = (frozenset(), 0, True)
        plan = PlacementPlan(servers, 10, 7)
        Grid(servers).run(plan)
        self.assertEqual(
            "placed 4 of 10 shares on 4 servers, 7 servers needed;"
            " 6 servers refused for want of room, 1 failed",
            plan.summary(),
        )

    def test_clumped_shares_are_explained(self):
        """Three servers that hold one and the same share are as good as one."""
        servers = {n: (frozenset({0}), 0, False) for n in range(3)}
        plan = PlacementPlan(servers, 3, 3)
        Grid(servers).run(plan)
        self.assertEqual(
            "placed 1 of 3 shares on 3 servers, of which only 1 hold shares of their own,"
            " 3 servers needed; 3 servers refused for want of room",
            plan.summary(),
        )

    def test_one_failed_server_alone(self):
        plan = PlacementPlan("a", 1, 1)
        plan.requests()
        plan.failed("a")
        self.assertEqual(
            "placed 0 of 1 share on 0 servers, 1 server needed; 1 server failed", plan.summary()
        )
