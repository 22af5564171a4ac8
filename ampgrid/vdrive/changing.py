"""The changes that one client makes to one table: one after the other, several in one record.

What waits while a change is on its way goes together into the next record, as long as it fits;
each change sees the effects of those before it. A record names one operation, drawn for the
changes in it: who finds it there knows that they took effect.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.errors import (
    AmpgridError,
    NotReachableError,
    UncertainChangeError,
    UndecidedError,
)
from ampgrid.formats.ballot import Ballot
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.register import words, writer
from ampgrid.vdrive.attempt import Attempt, Ballots, Base
from ampgrid.vdrive.batch import Batch, Plan, Waiting
from ampgrid.vdrive.ground import Ground
from ampgrid.vdrive.lanes import Delivery, Lane
from ampgrid.vdrive.membership import SetChanger, repair

#: The most changes that go into one record.
MOST_TOGETHER = 64
#: Back-off after a higher ballot was met: seconds at first, growth, and the most.
FIRST_WAIT = 0.02
LEAST_WAIT = 0.002
WAIT_GROWTH = 1.7
MOST_WAIT = 2.0
#: By so much is the next ballot above one that stood in the way, and twice as much each time: who
#: makes one change after the other goes up by one a change and must not be ahead again when this
#: one arrives, and who was refused often must not be stopped by who was refused once.
LEAP = 64
#: With a record out there of which is not known whether it has effect, so many round trips are
#: waited at most.
STAKE_WAITS = 12
#: Seconds after which a change is given up that others always get ahead of.
CHANGE_SECONDS = 60.0
#: Seconds for which a change that was sent is tried again when too few replicas answer.
REACH_SECONDS = 10.0


class Changer:
    """Makes the changes of one client to one table.

    Args:
        ground: of the table.
        keys: that sign.
        lane: returns the lane of a replica.
        last_known: returns the last record that is known of, sought if none is, or if that is
            asked for with ``seek``.
        remember: told of committed records.
        forked: told of two records that contradict each other; returns the error.
    """

    def __init__(
        self,
        ground: Ground,
        keys: WriteKeys,
        lane: Callable[[ReplicaId], Lane],
        last_known: Callable[..., Awaitable[Record]],
        remember: Callable[[Record], object],
        forked: Callable[[Record, Record], AmpgridError],
    ) -> None:
        self._ground = ground
        self._keys = keys
        self._lane = lane
        self._last_known = last_known
        self._remember = remember
        self._forked = forked
        self.ballots = Ballots(ground.means.entropy(8))
        #: The last attempt, if its record was committed: whoever accepted that promised the
        #: following ballot in it.
        self._last: Attempt | None = None
        self._queue: deque[Waiting] = deque()
        self._busy = False

    async def change(self, plan: Plan, slots: Sequence[bytes]) -> Record:
        """Queue a change; return the committed record that holds it."""
        waiting = Waiting(plan, tuple(slots))
        self._queue.append(waiting)
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._work()).addErrback(self._ground.unforeseen)
        return await waiting.done

    async def create(self, first: Ballot, replicas: Sequence[ReplicaId]) -> Any:
        """Create the table over the replicas chosen for it; return how the attempt ended.

        Args:
            first: the lowest ballot there is.
            replicas: its set.
        """

        async def make(base: Base) -> Delivery:
            record = Record.sign(
                self._keys,
                epoch=0,
                replicas=tuple(replicas),
                ballot=base.ballot,
                following=base.following,
            )
            return Delivery(record, base.desk)

        attempt = Attempt(self._ground, self._keys, self._lane, self.ballots, make)
        outcome = await attempt.run(writer.create(first, replicas))
        if isinstance(outcome, writer.Done):
            self._keep(attempt, outcome.record)
        return outcome

    def outdated(self, record: Record) -> None:
        """Note that this record is committed: promises for what is below are worth nothing."""
        last = self._last
        if last is not None and last.state is not None:
            proposal = last.state.proposal
            if proposal is None or proposal.ballot < record.ballot:
                self._last = None

    async def look_after(
        self, record: Record, gone: Collection[bytes] | None
    ) -> tuple[Record, list[str], list[str]]:
        """Replace replicas that are lost; see `ampgrid.vdrive.membership.repair`."""
        changer = SetChanger(
            self._ground, self._keys, self._lane, self.ballots, self._remember, self._sleep
        )
        return await repair(self._ground, changer, record, gone)

    async def _work(self) -> None:
        try:
            while self._queue:
                count = min(len(self._queue), MOST_TOGETHER)
                changes = [self._queue.popleft() for _ in range(count)]
                batch = Batch(self._keys, self._ground.means.entropy(8), changes)
                try:
                    left = await self._perform(batch)
                except Exception as error:  # noqa: BLE001 - it is for those who asked
                    self._last = None
                    batch.fail(error)
                else:
                    self._queue.extendleft(reversed(left))
        finally:
            self._busy = False

    async def _perform(self, batch: Batch) -> list[Waiting]:
        """Make the changes of a batch; return those that are left for the next."""
        clock = self._ground.clock
        end = clock.seconds() + CHANGE_SECONDS
        pause = FIRST_WAIT
        short_of: float | None = None
        refusals = 0
        attempt = self._new_attempt(batch)
        step = await self._first_step(batch)
        while True:
            began = clock.seconds()
            outcome = await attempt.run(step)
            state = attempt.state
            assert state is not None
            if isinstance(outcome, writer.Done):
                self._keep(attempt, outcome.record)
                return batch.made(outcome.record)
            if isinstance(outcome, writer.Settled):
                self._keep(attempt, outcome.record)
                done = batch.found if outcome.already else batch.settled
                return done(outcome.record)
            above, leap, stake = state.above, 1, True
            if isinstance(outcome, writer.Completed):
                self._remember(outcome.record)
            elif isinstance(outcome, writer.Again):
                if clock.seconds() > end:
                    raise _given_up(state)
                above, leap = outcome.above, LEAP << min(refusals, 20)
                refusals += 1
                # A round trip is the least that can be of use.
                took = max(LEAST_WAIT, clock.seconds() - began)
                pause = min(max(pause, took) * WAIT_GROWTH, MOST_WAIT)
                stake = state.tried and not attempt.is_void()
                # What was sent may have effect as long as nobody looks, and a record names the
                # last operations only.
                await self._sleep(min(pause, STAKE_WAITS * took) if stake else pause)
            elif isinstance(outcome, words.TooFew):
                short_of = short_of or clock.seconds() + REACH_SECONDS
                await self._find_again(state, outcome, last=clock.seconds() > min(short_of, end))
            else:
                raise self._ending(outcome)
            following = state.following if isinstance(outcome, writer.Completed) else None
            ballot = following or self.ballots.above(above, leap)
            if isinstance(outcome, words.TooFew):
                known = self._ground.means.remembered.get(self._ground.index)
                contacts = state.contacts | (words.members(known) if known else frozenset())
                step = writer.begin(
                    ballot, contacts, state.operations, tried=state.tried, marker=state.marker
                )
            elif stake:
                step = writer.again(state, ballot)
            else:
                step = writer.begin(ballot, state.contacts, state.operations)
            attempt = self._new_attempt(batch)

    async def _find_again(self, state: Any, outcome: words.TooFew, *, last: bool) -> None:
        """Look for replicas that the directory may have moved to, or wait for those it has.

        Raises:
            NotReachableError, UncertainChangeError: it is no use.
        """
        try:
            record = await self._last_known(seek=True)
        except NotReachableError as error:
            if not state.tried:
                raise
            if last:
                raise _too_few(error.found, error.wanted, tried=True) from error
        else:
            if not last and not words.members(record) <= state.contacts:
                return
            if last or not state.tried:
                raise _too_few(outcome.found, outcome.wanted, tried=state.tried)
        await self._sleep(MOST_WAIT)

    def _new_attempt(self, batch: Batch) -> Attempt:
        return Attempt(self._ground, self._keys, self._lane, self.ballots, batch.make, batch.slots)

    async def _first_step(self, batch: Batch) -> Any:
        last = None if self._last is None else self._last.state
        self._last = None
        operations = (batch.operation,)
        if last is not None and last.proposal is not None and last.following is not None:
            members = words.members(last.proposal)
            floor = self._ground.means.remembered.get(self._ground.index)
            # A read may have met a later record meanwhile: then those promises are void.
            is_last = floor is None or not last.proposal.ballot < floor.ballot
            if is_last and self._ground.may_reach(last.proposal):
                return writer.begin(last.following, members, operations, after=last)
        known = await self._last_known()
        if not self._ground.may_reach(known):
            known = await self._last_known(seek=True)
        ballot = self.ballots.above(words.promise_in(known))
        return writer.begin(ballot, words.members(known), operations)

    def _keep(self, attempt: Attempt, record: Record) -> None:
        self._remember(record)
        state = attempt.state
        if state is not None and state.committed and state.following is not None:
            self._last = attempt

    async def _sleep(self, seconds: float) -> None:
        waiting: Deferred[None] = Deferred()
        jittered = self._ground.means.uniform(0, seconds)
        self._ground.clock.callLater(jittered, waiting.callback, None)
        await waiting

    def _ending(self, outcome: Any) -> Exception:
        if isinstance(outcome, words.Forked):
            return self._forked(outcome.first, outcome.second)
        assert isinstance(outcome, writer.Uncertain)
        return UncertainChangeError(
            "The change may or may not have been made, and too many were made since to tell."
        )


def _too_few(found: int, wanted: int, *, tried: bool) -> AmpgridError:
    text = f"not reachable: {found} of {wanted} replicas found"
    if tried:
        return UncertainChangeError(f"the change may or may not have been made; {text}")
    return NotReachableError(text, found=found, wanted=wanted)


def _given_up(state: Any) -> AmpgridError:
    text = "others change the directory all the time: try again later"
    if state.tried:
        return UncertainChangeError(f"the change may or may not have been made; {text}")
    return UndecidedError(text)
