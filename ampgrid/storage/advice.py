"""Advice that a share is bad: the server looks for itself, within what a peer may ask of it.

A look costs the disk, so every peer has an allowance, which fills up with time. Advice beyond it
is noted and not followed. Whoever advised gets his answer when the look is over, so that he can
send a good share at once, or after a while if it takes longer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger

from ampgrid.errors import StoreError
from ampgrid.ports import Clock
from ampgrid.storage.expiry import InThread
from ampgrid.storage.scrub import HOP_BYTES, warn_of
from ampgrid.store.port import StoreUpkeep, Walk
from ampgrid.store.scrubbing import Step
from ampgrid.store.timekeeping import StoreClock

_log = Logger()

#: What a peer may have looked at, at once, MiB; a share counts as one at least.
MOST_MIB = 1000
#: How fast that fills up again, MiB a second.
MIB_A_SECOND = 1.0
#: For how long an adviser waits for the end of a look, seconds.
ANSWER_SECONDS = 10.0
#: Looks at once; after so many bytes each lets another one have its turn.
_AT_ONCE = 2
_TURN_BYTES = 64 * 2**20
#: Peers whose allowance is remembered; who asked last longest ago is forgotten.
_MOST_PEERS = 1000

_MIB = 2**20

ShareKey = tuple[bytes, int]


@attrs.define
class _Allowance:
    left: float
    at: float


class AdviceDesk:
    """Follows advice.

    Args:
        upkeep: of the store.
        time: the store's time.
        clock: for allowances and patience.
        in_thread: where the store is called.
        spawn: runs a coroutine on its own.

    Attributes:
        followed: looks that were begun.
        refused: advice that was noted only, for lack of an allowance.
        found_bad: shares that were bad indeed.
    """

    def __init__(
        self,
        upkeep: StoreUpkeep,
        time: StoreClock,
        clock: Clock,
        in_thread: InThread,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.followed = 0
        self.refused = 0
        self.found_bad = 0
        self._upkeep = upkeep
        self._time = time
        self._clock = clock
        self._in_thread = in_thread
        self._spawn = spawn
        self._allowances: OrderedDict[bytes, _Allowance] = OrderedDict()
        self._turns = DeferredSemaphore(_AT_ONCE)
        self._waiting: dict[ShareKey, list[Deferred[None]]] = {}
        self._stopped = False

    def stop(self) -> None:
        """Begin no look more, and let nobody wait."""
        self._stopped = True
        for key in list(self._waiting):
            self._answer(key)

    async def consider(self, key: ShareKey, size: int, peer: bytes) -> None:
        """Look at a share of ``size`` bytes, unless the peer has asked too much.

        Returns when the look is over or has taken `ANSWER_SECONDS`.
        """
        if self._stopped:
            return
        done: Deferred[None] = Deferred()
        if key in self._waiting:
            self._waiting[key].append(done)
        elif self._pay(peer, size):
            self.followed += 1
            self._waiting[key] = [done]
            self._spawn(self._look(key, peer))
        else:
            self.refused += 1
            return
        if done.called:
            return
        patience = self._clock.callLater(ANSWER_SECONDS, self._give_up, key, done)
        await done
        if patience.active():
            patience.cancel()

    def _pay(self, peer: bytes, size: int) -> bool:
        now = self._clock.seconds()
        allowance = self._allowances.setdefault(peer, _Allowance(MOST_MIB, now))
        self._allowances.move_to_end(peer)
        if len(self._allowances) > _MOST_PEERS:
            self._allowances.popitem(last=False)
        filled = allowance.left + max(0.0, now - allowance.at) * MIB_A_SECOND
        allowance.left, allowance.at = min(MOST_MIB, filled), now
        # A share larger than the whole allowance takes all of it.
        cost = min(MOST_MIB, max(1.0, size / _MIB))
        if cost > allowance.left:
            return False
        allowance.left -= cost
        return True

    def _give_up(self, key: ShareKey, done: Deferred[None]) -> None:
        self._waiting.get(key, []).remove(done)
        done.callback(None)

    def _answer(self, key: ShareKey) -> None:
        for done in self._waiting.pop(key, []):
            done.callback(None)

    async def _look(self, key: ShareKey, peer: bytes) -> None:
        walk = self._upkeep.walk_to(*key, peer)
        try:
            while not self._stopped and not await self._turns.run(self._go_on, walk):
                pass
        except StoreError as error:
            _log.warn("advice could not be followed: {error}", error=error)
        finally:
            # First of all: nobody must wait for what may fail.
            self._answer(key)
            try:
                await self._in_thread(walk.close)
            except (StoreError, OSError) as error:
                _log.warn("a look at a share ended badly: {error}", error=error)

    async def _go_on(self, walk: Walk) -> bool:
        """Look for one turn; True when the look is over."""
        left = _TURN_BYTES
        while left > 0 and not self._stopped:
            step: Step = await self._in_thread(walk.advance, HOP_BYTES, self._time.now())
            left -= step.cost
            for finding in step.bad:
                self.found_bad += 1
                warn_of(finding)
            if step.ended:
                return True
        return False
