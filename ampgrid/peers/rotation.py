"""Taking turns: peers that never proved to be anywhere share a few slots for dialling.

Anybody in the grid can announce node ids by the thousand, with addresses of others. A node dials
them all, since one of them may be a true newcomer, but no more than a few at a time, each once
and then not again for a growing while; and all of them together no faster than an allowance.
Who has failed least often comes first, and of those that were not tried yet who came last: so
a newcomer does not wait behind thousands. (An introducer lets new ones in at half the rate at
which they are tried here.)

Spec: ``docs/specs/wire.md``, "Dialling".
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from attrs import define

from ampgrid.peers._ports import Uniform
from ampgrid.peers.allowance import Allowance
from ampgrid.ports import Clock, DelayedCall

#: Peers that have a turn at one moment.
SLOTS = 64

#: Turns that come to nothing: so many in a row, and then one in so many seconds.
TURN_BURST = 500
TURN_SECONDS = 5.0

#: Back-off: about so long after the first failure, four times that after the next, up to the cap.
FIRST_SECONDS = 15.0
CAP_SECONDS = 3600.0

#: A new announcement ends the wait, but not sooner after the last turn than this for each failure.
ANEW_SECONDS = 15.0

#: Who was connected and is no more will most often come back by itself.
GONE_SECONDS = 2.0


def growing_back_off(failures: int, uniform: Uniform) -> float:
    """Return how long a peer waits for its next turn after so many that came to nothing.

    Args:
        failures: 1 after the first failure.
        uniform: draws between two bounds.

    Returns:
        Seconds, between half of the bound and the bound.
    """
    bound = min(CAP_SECONDS, FIRST_SECONDS * 4.0 ** min(failures - 1, 8))
    return uniform(0.5 * bound, bound)


@define(eq=False)
class _Turn:
    """One peer that takes turns.

    Attributes:
        due: when it may have its next turn, by the clock.
        failures: turns that came to nothing.
        tried_at: when its last turn ended, by the clock.
        last_error: why that came to nothing, one line.
        trying: whether it has a turn now.
        connected: whether it is connected, so that it needs none.
    """

    due: float
    failures: int = 0
    tried_at: float = 0.0
    last_error: str = ""
    trying: bool = False
    connected: bool = False


class Rotation:
    """Gives turns.

    Args:
        begin: called with the node id of a peer whose turn it is; `failed`, `connected` or
            `remove` ends the turn.
        clock: time and timers.
        uniform: draws between two bounds.
        slots: peers that have a turn at one moment.
    """

    def __init__(
        self,
        begin: Callable[[bytes], None],
        *,
        clock: Clock,
        uniform: Uniform,
        slots: int = SLOTS,
    ) -> None:
        self._begin = begin
        self._clock = clock
        self._uniform = uniform
        self._free = slots
        self._allowance = Allowance(TURN_BURST, TURN_SECONDS, clock)
        self._turns: dict[bytes, _Turn] = {}
        self._timer: DelayedCall | None = None
        self._wakes_at = 0.0

    def stop(self) -> None:
        """Give no more turns, and forget everybody."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._free += sum(turn.trying for turn in self._turns.values())
        self._turns.clear()

    def __contains__(self, node_id: bytes) -> bool:
        """Tell whether a peer takes turns."""
        return node_id in self._turns

    def failures(self, node_id: bytes) -> int:
        """Return how many turns of a peer came to nothing."""
        return self._turns[node_id].failures

    def last_error(self, node_id: bytes) -> str:
        """Return why the last turn of a peer came to nothing, one line; empty before."""
        return self._turns[node_id].last_error

    def add(self, node_id: bytes) -> None:
        """Give a peer turns, the first as soon as can be; one that has them was announced anew."""
        now = self._clock.seconds()
        turn = self._turns.get(node_id)
        if turn is None:
            self._turns[node_id] = _Turn(now)
        else:
            turn.due = min(turn.due, max(now, turn.tried_at + ANEW_SECONDS * turn.failures))
        self._wake()

    def remove(self, node_id: bytes) -> None:
        """Give a peer no more turns."""
        turn = self._turns.pop(node_id, None)
        if turn is not None:
            self._end(turn)

    def connected(self, node_id: bytes) -> None:
        """Note that a peer is connected, whoever dialled; it has no turns meanwhile."""
        turn = self._turns[node_id]
        if turn.trying:
            self._allowance.give_back()
        self._end(turn)
        turn.connected = True

    def disconnected(self, node_id: bytes) -> None:
        """Note that a peer is connected no more."""
        turn = self._turns[node_id]
        turn.connected = False
        wait = self._uniform(0.0, 1.0)
        if turn.failures:
            wait = growing_back_off(turn.failures, self._uniform)
        turn.due = self._clock.seconds() + GONE_SECONDS + wait
        self._wake()

    def failed(self, node_id: bytes, why: str) -> None:
        """Note that the turn of a peer came to nothing."""
        turn = self._turns[node_id]
        now = self._clock.seconds()
        turn.failures += 1
        turn.tried_at = now
        turn.last_error = why
        turn.due = now + growing_back_off(turn.failures, self._uniform)
        self._end(turn)

    def _end(self, turn: _Turn) -> None:
        if turn.trying:
            turn.trying = False
            self._free += 1
        self._wake()

    def _wake(self, seconds: float = 0.0) -> None:
        """Look for whose turn it is after so long: in a later step, once for many changes."""
        at = self._clock.seconds() + seconds
        if self._timer is not None and self._timer.active():
            if self._wakes_at <= at:
                return
            self._timer.cancel()
        self._wakes_at = at
        self._timer = self._clock.callLater(seconds, self._give_turns)

    def _give_turns(self) -> None:
        self._timer = None
        if not self._free:
            return  # the end of a turn wakes this again
        now = self._clock.seconds()
        waiting = [n for n, t in self._turns.items() if not t.trying and not t.connected]
        ready = [node_id for node_id in waiting if self._turns[node_id].due <= now]
        most = min(self._free, self._allowance.left())
        for node_id in heapq.nsmallest(most, ready, key=self._rank):
            self._allowance.spend()
            self._free -= 1
            self._turns[node_id].trying = True
            self._begin(node_id)
        if not self._free:
            return
        if len(ready) > most:
            self._wake(self._allowance.seconds_to_next())
            return
        later = [self._turns[n].due for n in waiting if n in self._turns]
        later = [due for due in later if due > now]
        if later:
            self._wake(min(later) - now)

    def _rank(self, node_id: bytes) -> tuple[int, float]:
        turn = self._turns[node_id]
        return turn.failures, turn.due if turn.failures else -turn.due
