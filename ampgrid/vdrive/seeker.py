"""Finding the replicas of a directory: along the permuted order of its index.

A signed record names its replicas, and whoever was one once shows where the directory went. That
a directory does not exist is never concluded: too few answers are too few answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from ampgrid.errors import AmpgridError
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.immutable.several import each
from ampgrid.placement import permute
from ampgrid.register import words
from ampgrid.vdrive.ground import Ground, in_turn
from ampgrid.vdrive.lanes import Lane
from ampgrid.vdrive.reading import Reading
from ampgrid.vdrive.replica import Replica

#: So many peers are asked at first where nothing is known; four times as many in each round.
_FIRST_PEERS = 8
_GROWTH = 4


def in_order(ground: Ground) -> list[Replica]:
    """Return the connected vdrive peers in the permuted order of the directory."""
    peers = ground.means.replicas()
    return [peers[node_id] for node_id in permute(ground.index, peers)]


async def ask_all(
    peers: Sequence[Replica], ask: Callable[[Replica], Awaitable[object]]
) -> list[object]:
    """Ask some peers at once; return their answers or errors, in their order.

    They are kept here: one that leaves meanwhile fails when it is asked, and is not looked up.
    """

    async def asking(peer: Replica) -> object:
        return await ask(peer)

    def start(peer: Replica) -> Callable[[], Deferred[object]]:
        return lambda: Deferred.fromCoroutine(asking(peer))

    outcomes = await each({number: start(peer) for number, peer in enumerate(peers)})
    for outcome in outcomes.values():
        if isinstance(outcome, Exception) and not isinstance(outcome, AmpgridError):
            raise outcome
    return list(outcomes.values())


async def identify(peers: Sequence[Replica]) -> dict[ReplicaId, Replica]:
    """Return those of some peers that answer, by their ids, in their order."""
    answers = await ask_all(peers, lambda peer: peer.id())
    return {
        answer: peer
        for peer, answer in zip(peers, answers, strict=True)
        if isinstance(answer, ReplicaId)
    }


class Seeker:
    """Reads the record of a directory from wherever it is.

    Args:
        ground: of the table.
        lane: returns the lane of a replica.
    """

    def __init__(self, ground: Ground, lane: Callable[[ReplicaId], Lane]) -> None:
        self._ground = ground
        self._lane = lane

    async def seek(
        self,
        known: Record | None,
        slots: Sequence[bytes] = (),
        *,
        listing: bool = False,
        thorough: bool = False,
    ) -> tuple[Reading, Any]:
        """Read; first from the replicas of a known record, then from more and more peers.

        Args:
            known: the last record that is known of, None if there is none.
            slots: whose nodes come along.
            listing: whether the nodes of the first entries come along.
            thorough: whether replicas that lag are brought up to date.

        Returns:
            The read, and its end: Committed, Undecided, Forked, or TooFew if every connected
            peer was asked.
        """
        members = [] if known is None else in_turn(words.members(known))
        reading: Reading | None = None
        outcome: Any = None
        for peers in self._rounds(asked_members=bool(members)):
            contacts = [*members, *(await identify(peers))]
            reading = Reading(
                self._ground,
                self._lane,
                dict.fromkeys(contacts),
                slots=slots,
                listing=listing,
                thorough=thorough,
            )
            outcome = await reading.run()
            if not isinstance(outcome, words.TooFew):
                break
        assert reading is not None
        return reading, outcome

    def _rounds(self, *, asked_members: bool) -> Iterator[Sequence[Replica]]:
        if asked_members:
            yield ()
        order = in_order(self._ground)
        count = _FIRST_PEERS
        while True:
            yield order[:count]
            if count >= len(order):
                return
            count *= _GROWTH
