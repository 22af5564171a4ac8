"""Placement: which server shall hold which share of a file; pure policy, no I/O.

It knows servers only as hashable names and shares as numbers from 0. The measure is happiness:
the size of a maximum matching between servers and the shares that they hold, so that any k of
that many servers give the file back. The aims, in this order: the greatest happiness, every
share placed, servers evenly loaded.

Spec: ``docs/specs/placement.md``. Source of the order of servers and of the measure: Tahoe-LAFS,
"servers of happiness".
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Server = TypeVar("Server", bound=Hashable)

#: At most so many shares are asked of one server at a time (as many as one Command names).
MOST_SHARES_PER_REQUEST = 200

#: At most so many times does a plan ask, plus once for each server lost with shares on it.
MOST_ROUNDS = 10


def permute(storage_index: bytes, node_ids: Iterable[bytes]) -> list[bytes]:
    """Order servers for one file, so that each file has its own order.

    Args:
        storage_index: of the file, 16 bytes.
        node_ids: node ids, 20 bytes each; one that comes twice counts once.

    Returns:
        The node ids by rising SHA-1(storage index + node id).

    Source: Tahoe-LAFS, permuted peer selection.
    """

    def rank(node_id: bytes) -> bytes:
        return hashlib.sha1(storage_index + node_id, usedforsecurity=False).digest()

    return sorted(set(node_ids), key=rank)


def _augment(
    matching: dict[int, Server],
    server: Server,
    shares_of: Callable[[Server], Iterable[int]],
    dead: set[int],
) -> bool:
    """Give ``server`` a share, moving others to other shares where need be.

    Args:
        matching: {share: server}, changed when it can be done.
        server: one that has no share in ``matching``.
        shares_of: the shares that a server may have, in order of preference.
        dead: shares from which no free share can be reached; changed when it cannot be done
            (what a failed search has seen need never be searched again).

    Returns:
        Whether ``server`` has a share now. The path is the shortest, so the fewest others move.
    """
    for share in shares_of(server):
        # As a rule there is one that nobody has.
        if share not in matching:
            matching[share] = server
            return True
    came_from: dict[int, Server] = {}
    previous: dict[Server, int] = {}
    waiting = deque([server])
    while waiting:
        taker = waiting.popleft()
        for share in shares_of(taker):
            if share in came_from or share in dead:
                continue
            came_from[share] = taker
            if share in matching:
                previous[matching[share]] = share
                waiting.append(matching[share])
                continue
            step: int | None = share
            while step is not None:
                matching[step] = came_from[step]
                step = previous.get(came_from[step])
            return True
    dead.update(came_from)
    return False


def _extend(
    matching: dict[int, Server],
    servers: Iterable[Server],
    shares_of: Callable[[Server], Iterable[int]],
) -> dict[int, Server]:
    """Make ``matching`` a maximum one by giving shares to servers that have none, in order."""
    matched = set(matching.values())
    dead: set[int] = set()
    for server in servers:
        if server not in matched:
            _augment(matching, server, shares_of, dead)
    return matching


def maximum_matching(holdings: Mapping[Server, Collection[int]]) -> dict[int, Server]:
    """Return a largest set of pairs (share, server holding it), none named twice.

    Args:
        holdings: {server: numbers of the shares that it holds}.

    Returns:
        {share: server}.
    """
    return _extend({}, holdings, lambda server: sorted(holdings[server]))


def happiness(holdings: Mapping[Server, Collection[int]]) -> int:
    """Return how many distinct servers can each stand for a distinct share.

    Args:
        holdings: {server: numbers of the shares that it holds}.
    """
    return len(maximum_matching(holdings))


@dataclass
class _Candidate:
    """What the plan knows of one server (sets of share numbers)."""

    asked: set[int] = field(default_factory=set)
    pending: set[int] = field(default_factory=set)
    held: set[int] = field(default_factory=set)
    accepted: set[int] = field(default_factory=set)
    unusable: set[int] = field(default_factory=set)
    refused: bool = False
    failed: bool = False

    def placed(self) -> set[int]:
        """Return what is there or promised."""
        return self.held | self.accepted

    def expected(self) -> set[int]:
        """Return what will be there if every open question is answered with yes."""
        return self.held | self.accepted | self.pending


class PlacementPlan(Generic[Server]):
    """Where the shares of one upload go, worked out as the servers answer.

    Ask what `requests` returns, tell each answer with `answered` or `failed`, and again, until
    it returns nothing. Then abort what `settle` returns and upload by `assignment`. A server
    that fails later is told with `failed`; `requests` may then name others for its shares.

    Args:
        servers_in_order: the candidates, the preferred first (see `permute`).
        total: number of shares of the file (n); they are numbered from 0.
        happy: the happiness that the upload needs, a number of servers.
        most_per_request: at most so many shares are asked of a server at a time.
        rounds: at most so often does `requests` ask, plus once for each server lost with shares.
        surveyed: whether what the servers hold has been told with `answered` already, so that
            the first questions need not go to all.
    """

    def __init__(
        self,
        servers_in_order: Iterable[Server],
        total: int,
        happy: int,
        *,
        most_per_request: int = MOST_SHARES_PER_REQUEST,
        rounds: int = MOST_ROUNDS,
        surveyed: bool = False,
    ) -> None:
        self.total = total
        self.happy = happy
        self._most_per_request = most_per_request
        self._rounds_left = rounds
        self._candidates = {server: _Candidate() for server in servers_in_order}
        self._settled: dict[int, Server] = {}
        self._asked_before = surveyed

    # Asking.

    def requests(self) -> dict[Server, frozenset[int]]:
        """Return what to ask now; empty when nothing more can be improved.

        The first time nothing is known: share i is asked of the i-th server, round robin. Later,
        first what raises happiness, then what is placed nowhere, each of the servers that hold
        least. No share is asked of a server twice, and nothing of one that lacks room or failed.
        Questions that are still open count as answered with yes.

        Returns:
            {server: shares to ask it for}, no set empty or larger than ``most_per_request``.
        """
        if self._rounds_left == 0:
            return {}
        wanted = self._improvements() if self._asked_before else self._first_requests()
        self._asked_before = True
        if wanted:
            self._rounds_left -= 1
        for server, shares in wanted.items():
            candidate = self._candidates[server]
            candidate.asked |= shares
            candidate.pending |= shares
        return {server: frozenset(shares) for server, shares in wanted.items()}

    def would_ask(self) -> bool:
        """Tell whether `requests` would return anything, without asking."""
        if self._rounds_left == 0:
            return False
        return bool(self._improvements() if self._asked_before else self._first_requests())

    def _first_requests(self) -> dict[Server, set[int]]:
        first = list(self._candidates)[: self.total]
        wanted: dict[Server, set[int]] = {}
        for share in range(self.total if first else 0):
            shares = wanted.setdefault(first[share % len(first)], set())
            if len(shares) < self._most_per_request:
                shares.add(share)
        return wanted

    def _improvements(self) -> dict[Server, set[int]]:
        """Return questions that raise happiness, then questions that place the unplaced."""
        expected = {s: c.expected() for s, c in self._candidates.items() if not c.failed}
        placed = set().union(*expected.values())
        holders = [shares for shares in expected.values() if shares]
        if len(placed) == self.total == len(holders) == sum(map(len, holders)):
            return {}  # each of them on a server of its own: nothing is better
        wanted: dict[Server, set[int]] = {}
        for share, server in self._happier(expected, placed).items():
            if share not in expected[server]:
                wanted.setdefault(server, set()).add(share)
                placed.add(share)
        loads = {s: len(shares) + len(wanted.get(s, ())) for s, shares in expected.items()}
        for share in range(self.total):
            if share in placed:
                continue
            takers = [s for s in loads if self._may_ask(s, share, wanted)]
            if takers:
                server = min(takers, key=loads.__getitem__)
                wanted.setdefault(server, set()).add(share)
                loads[server] += 1
        return wanted

    def _happier(
        self, expected: Mapping[Server, set[int]], placed: Collection[int]
    ) -> dict[int, Server]:
        """Return a maximum matching over what is expected and what could still be asked."""
        matching = maximum_matching(expected)
        # What is placed nowhere first; a copy of what is placed elsewhere is second best.
        order = sorted(range(self.total), key=lambda share: share in placed)

        def shares_of(server: Server) -> Iterable[int]:
            yield from sorted(expected[server])
            for share in order:
                if share not in self._settled and self._may_ask(server, share, {}):
                    yield share

        by_load = sorted(expected, key=lambda server: len(expected[server]))
        return _extend(matching, by_load, shares_of)

    def _may_ask(
        self, server: Server, share: int, wanted: Mapping[Server, Collection[int]]
    ) -> bool:
        candidate = self._candidates[server]
        return (
            not candidate.refused
            and not candidate.failed
            and share not in candidate.asked
            and share not in candidate.held
            and share not in candidate.unusable
            and len(wanted.get(server, ())) < self._most_per_request
        )

    # Answers.

    def answered(
        self,
        server: Server,
        asked: Collection[int],
        held: Collection[int],
        accepted: Collection[int],
        unusable: Collection[int] = (),
    ) -> None:
        """Note the answer of a server.

        Args:
            server: who answered; ignored if it failed before.
            asked: the shares that it was asked for.
            held: shares of this file that it holds and that were checked, asked for or not.
            accepted: the asked shares for which it opened a bucket.
            unusable: shares that it claims to hold but that are not of this file; they cannot be
                placed there and are no sign that it lacks room.
        """
        candidate = self._candidates[server]
        if candidate.failed:
            return
        numbers = range(self.total)
        candidate.pending -= set(asked)
        candidate.held |= {share for share in held if share in numbers}
        # A bucket opened for what was never asked is none of ours.
        candidate.accepted |= (set(accepted) & candidate.asked) - candidate.held
        candidate.unusable |= set(unusable) - candidate.held - candidate.accepted
        if set(asked) - candidate.placed() - candidate.unusable:
            candidate.refused = True

    def failed(self, server: Server) -> None:
        """Note that a server failed; it is not asked again and what it had is lost."""
        candidate = self._candidates[server]
        if not candidate.failed and candidate.placed():
            self._rounds_left += 1
        self._candidates[server] = _Candidate(refused=candidate.refused, failed=True)
        self._settled = {share: s for share, s in self._settled.items() if s != server}

    # What has come of it.

    def _placements(self) -> dict[Server, set[int]]:
        return {s: c.placed() for s, c in self._candidates.items() if c.placed()}

    def held(self) -> dict[Server, frozenset[int]]:
        """Return the shares that servers held before, {server: shares}."""
        return {s: frozenset(c.held) for s, c in self._candidates.items() if c.held}

    def assignment(self) -> dict[int, Server]:
        """Return where to upload each share.

        A share that a server held before is uploaded only where that raises happiness, and no
        share to two servers.

        Returns:
            {share: server that accepted it}.
        """
        held_anywhere = set().union(*(c.held for c in self._candidates.values()))
        chosen = self._choose_for_happiness(held_anywhere)
        loads = {s: len(c.held) for s, c in self._candidates.items()}
        for server in chosen.values():
            loads[server] += 1
        for share in range(self.total):
            if share in chosen or share in held_anywhere:
                continue
            takers = [s for s, c in self._candidates.items() if share in c.accepted]
            if takers:
                chosen[share] = min(takers, key=loads.__getitem__)
                loads[chosen[share]] += 1
        self._drop_needless_copies(chosen, held_anywhere)
        return chosen

    def _choose_for_happiness(self, held_anywhere: Collection[int]) -> dict[int, Server]:
        """Return the settled choices, and accepted shares that raise happiness beyond them."""
        fixed: dict[Server, set[int]] = {s: set(c.held) for s, c in self._candidates.items()}
        for share, server in self._settled.items():
            fixed[server].add(share)

        def shares_of(server: Server) -> Iterable[int]:
            yield from sorted(fixed[server])
            accepted = self._candidates[server].accepted - fixed[server] - self._settled.keys()
            yield from sorted(accepted, key=lambda share: (share in held_anywhere, share))

        # What is held already is matched first, so that little has to be uploaded.
        matching = _extend(maximum_matching(fixed), self._candidates, shares_of)
        needed = {s: server for s, server in matching.items() if s not in fixed[server]}
        return {**needed, **self._settled}

    def _drop_needless_copies(
        self, chosen: dict[int, Server], held_anywhere: Collection[int]
    ) -> None:
        """Drop what is held elsewhere and raises nothing beside all the other choices."""
        copies = sorted(chosen.keys() & held_anywhere - self._settled.keys())
        if not copies:
            return
        holdings: dict[Server, set[int]] = {s: set(c.held) for s, c in self._candidates.items()}
        for share, server in chosen.items():
            holdings[server].add(share)
        greatest = happiness(holdings)
        for share in copies:
            holdings[chosen[share]].discard(share)
            if happiness(holdings) < greatest:
                holdings[chosen[share]].add(share)
            else:
                del chosen[share]

    def superfluous(self) -> list[tuple[Server, int]]:
        """Return the accepted buckets that `assignment` does not use: (server, share)."""
        assignment = self.assignment()
        return [
            (server, share)
            for server, candidate in self._candidates.items()
            for share in sorted(candidate.accepted)
            if assignment.get(share) != server
        ]

    def settle(self) -> list[tuple[Server, int]]:
        """Drop the superfluous buckets and keep to the assignment from now on.

        Returns:
            The buckets to abort, (server, share); the plan no longer counts them.
        """
        dropped = self.superfluous()
        self._settled = self.assignment()
        for server, share in dropped:
            self._candidates[server].accepted.discard(share)
        return dropped

    def happiness(self) -> int:
        """Return the happiness when everything accepted has been uploaded, a number of servers."""
        return happiness(self._placements())

    def is_happy(self) -> bool:
        """Tell whether that is as much as the upload needs."""
        return self.happiness() >= self.happy

    def summary(self) -> str:
        """Say for people how far it got and what was in the way, without a full stop."""
        placements = self._placements()
        shares = len(set().union(*placements.values()))
        on_servers = _count(len(placements), "server")
        parts = [f"placed {shares} of {_count(self.total, 'share')} on {on_servers}"]
        reached = self.happiness()
        if reached < len(placements):
            # Otherwise "on 8 servers, 7 needed" would read like a success.
            parts.append(f"of which only {reached} hold shares of their own")
        parts.append(f"{_count(self.happy, 'server')} needed")
        return ", ".join(parts) + self._obstacles()

    def _obstacles(self) -> str:
        known = list(self._candidates.values())
        refused = sum(candidate.refused and not candidate.failed for candidate in known)
        failed = sum(candidate.failed for candidate in known)
        reasons = []
        if len(known) < self.happy:
            asked = f"only {_count(len(known), 'server')}" if known else "no server"
            reasons.append(f"{asked} could be asked")
        if refused:
            reasons.append(f"{_count(refused, 'server')} refused for want of room")
        if failed:
            reasons.append(f"{failed} failed" if refused else f"{_count(failed, 'server')} failed")
        return "; " + ", ".join(reasons) if reasons else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
