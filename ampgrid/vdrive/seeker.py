"""Finding the replicas of a directory: along the permuted order of its index.

A signed record names its replicas, and whoever was one once shows where the directory went. That
a directory does not exist is never concluded: too few answers are too few answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


async def identify(peers: Sequence[Replica]) -> list[ReplicaId]:
    """Return the ids of those of some peers that answer, in their order."""
    work = {
        number: lambda peer=peer: Deferred.fromCoroutine(peer.id())
        for number, peer in enumerate(peers)
    }
    outcomes = await each(work)
    ids: list[ReplicaId] = []
    for outcome in outcomes.values():
        if isinstance(outcome, ReplicaId):
            ids.append(outcome)
        elif not isinstance(outcome, AmpgridError):
            raise outcome
    return ids


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
