"""Keeping up the connection to one peer: a state machine with fully jittered back-off.

The machine is told of connections by whoever keeps the table of them, so one that the peer
opened counts as well as one that was dialled here. It knows neither sockets nor announcements.

Spec: ``docs/specs/wire.md``, "Dialling". Source of the back-off ("full jitter"): AWS
Architecture Blog, "Exponential Backoff And Jitter".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from automat import TypeMachineBuilder
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.logger import Logger
from twisted.python.failure import Failure

from ampgrid.errors import AmpgridError
from ampgrid.formats.address import Hint
from ampgrid.peers._ports import Dial, PeerConnection, Uniform
from ampgrid.ports import Clock, DelayedCall

#: Back-off: the first delay is at most so long, the bound doubles each time, up to the cap.
BASE_SECONDS = 1.0
CAP_SECONDS = 60.0

#: Of two nodes the one with the lower id dials; the other waits so long for it.
HEAD_START_SECONDS = 2.0

#: A connection that stood for so long was a success; one that went sooner counts as a failure.
STABLE_SECONDS = 10.0

_MOST_ERROR_CHARACTERS = 300


def back_off(failures: int, uniform: Uniform) -> float:
    """Return how long to wait after so many failures in a row.

    Args:
        failures: 1 after the first failure.
        uniform: draws between two bounds.

    Returns:
        Seconds, anything from 0 to the bound: all of it is chance, so that peers which lost the
        same node do not come back in step.
    """
    # Beyond 2**16 the cap has long been reached, and a float would overflow some day.
    bound = min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(failures - 1, 16))
    return uniform(0.0, bound)


class _Dialling(Protocol):
    """The inputs of the machine."""

    def addresses_known(self, hints: tuple[Hint, ...]) -> None:
        """The peer was announced, anew or again, with places to dial."""

    def addresses_gone(self) -> None:
        """There is no place to dial any more."""

    def connected(self) -> None:
        """There is a connection to the peer, whoever dialled it."""

    def disconnected(self) -> None:
        """There is no connection to the peer any more."""

    def stop(self) -> None:
        """Dial no more."""

    def wait_over(self) -> None:
        """It is time to dial."""

    def dial_succeeded(self) -> None:
        """The dial gave a connection."""

    def dial_failed(self, why: str) -> None:
        """The dial gave none."""


@dataclass
class _Core:
    """What all states share."""

    node_id: bytes
    dial: Dial
    clock: Clock
    uniform: Uniform
    head_start: float
    on_state: Callable[[str], None]

    hints: tuple[Hint, ...] = ()
    failures: int = 0
    connected_at: float = 0.0
    last_error: str = ""
    state: str = "idle"
    log: Logger = field(default_factory=Logger)

    def enter(self, state: str) -> None:
        self.state = state
        self.on_state(state)

    def enter_connected(self) -> None:
        self.last_error = ""
        self.connected_at = self.clock.seconds()
        self.enter("connected")


class _Wait:
    """Time that passes until the machine is told that it is over."""

    def __init__(self, client: _Dialling, core: _Core, seconds: float) -> None:
        self._call: DelayedCall = core.clock.callLater(seconds, client.wait_over)

    def cancel(self) -> None:
        """End it."""
        if self._call.active():
            self._call.cancel()


class _Attempt:
    """One dial under way, whose outcome goes to the machine unless it was let go."""

    def __init__(self, client: _Dialling, core: _Core) -> None:
        self._client = client
        self._core = core
        self._over = False
        self._dial = Deferred.fromCoroutine(self._run())
        self._dial.addErrback(self._failed)

    async def _run(self) -> None:
        connection: PeerConnection = await self._core.dial(self._core.node_id, self._core.hints)
        if self._over:
            return
        self._over = True
        if connection.connected:
            self._client.dial_succeeded()
        else:
            self._client.dial_failed("the connection was lost at once")

    def _failed(self, failure: Failure) -> None:
        if self._over:
            return
        self._over = True
        if failure.check(AmpgridError, ConnectError, OSError) is None:
            self._core.log.failure("dialling failed in an unforeseen way", failure)
        lines = failure.getErrorMessage().splitlines() or [type(failure.value).__name__]
        self._client.dial_failed(lines[0][:_MOST_ERROR_CHARACTERS])

    def let_go(self) -> None:
        """Ignore the outcome; the table of connections decides about it."""
        self._over = True

    def cancel(self) -> None:
        """End it."""
        self._over = True
        self._dial.cancel()


# The machine. Its states::
#
#     idle       no address, or not begun: nothing happens
#     holding    an address is fresh; the lower node id is given its head start
#     dialling   a dial is under way
#     connected  there is a connection
#     waiting    back-off after a failure or a loss
#     stopped    for good


def _hold(c: _Dialling, s: _Core, hints: tuple[Hint, ...]) -> _Wait:
    s.enter("holding")
    s.hints = hints
    s.failures = 0
    return _Wait(c, s, s.head_start)


def _attempt(c: _Dialling, s: _Core) -> _Attempt:
    s.enter("dialling")
    return _Attempt(c, s)


def _wait(c: _Dialling, s: _Core, why: str | None = None) -> _Wait:
    if why is not None:
        s.last_error = why
    s.enter("waiting")
    if why is None and s.clock.seconds() - s.connected_at >= STABLE_SECONDS:
        s.failures = 0
    s.failures += 1
    delay = back_off(s.failures, s.uniform)
    if why is None:
        # A connection was lost, and both ends know it: the lower id dials.
        delay += s.head_start
    return _Wait(c, s, delay)


# States:
_machine = TypeMachineBuilder(_Dialling, _Core)
_idle = _machine.state("idle")
_holding = _machine.state("holding", _hold)
_dialling = _machine.state("dialling", _attempt)
_connected = _machine.state("connected")
_waiting = _machine.state("waiting", _wait)
_stopped = _machine.state("stopped")

# Transitions without behaviour:
_idle.upon(_Dialling.addresses_known).to(_holding).returns(None)
_idle.upon(_Dialling.addresses_gone).loop().returns(None)
_idle.upon(_Dialling.disconnected).loop().returns(None)
_idle.upon(_Dialling.wait_over).loop().returns(None)
_idle.upon(_Dialling.dial_succeeded).loop().returns(None)
_idle.upon(_Dialling.dial_failed).loop().returns(None)
_holding.upon(_Dialling.disconnected).loop().returns(None)
_holding.upon(_Dialling.dial_succeeded).loop().returns(None)
_holding.upon(_Dialling.dial_failed).loop().returns(None)
_dialling.upon(_Dialling.disconnected).loop().returns(None)
_dialling.upon(_Dialling.wait_over).loop().returns(None)
_dialling.upon(_Dialling.dial_failed).to(_waiting).returns(None)
_connected.upon(_Dialling.connected).loop().returns(None)
_connected.upon(_Dialling.disconnected).to(_waiting).returns(None)
_connected.upon(_Dialling.wait_over).loop().returns(None)
_connected.upon(_Dialling.dial_succeeded).loop().returns(None)
_connected.upon(_Dialling.dial_failed).loop().returns(None)
_waiting.upon(_Dialling.disconnected).loop().returns(None)
_waiting.upon(_Dialling.dial_succeeded).loop().returns(None)
_waiting.upon(_Dialling.dial_failed).loop().returns(None)
_stopped.upon(_Dialling.addresses_known).loop().returns(None)
_stopped.upon(_Dialling.addresses_gone).loop().returns(None)
_stopped.upon(_Dialling.connected).loop().returns(None)
_stopped.upon(_Dialling.disconnected).loop().returns(None)
_stopped.upon(_Dialling.stop).loop().returns(None)
_stopped.upon(_Dialling.wait_over).loop().returns(None)
_stopped.upon(_Dialling.dial_succeeded).loop().returns(None)
_stopped.upon(_Dialling.dial_failed).loop().returns(None)

# Transitions with behaviour:


@_holding.upon(_Dialling.addresses_known).loop()
def _hold_again(
    c: _Dialling,  # noqa: ARG001
    s: _Core,
    timer: _Wait,  # noqa: ARG001
    hints: tuple[Hint, ...],
) -> None:
    s.hints = hints


@_holding.upon(_Dialling.wait_over).to(_dialling)
@_waiting.upon(_Dialling.wait_over).to(_dialling)
def _has_waited(c: _Dialling, s: _Core, timer: _Wait) -> None:  # noqa: ARG001
    timer.cancel()


@_waiting.upon(_Dialling.addresses_known).to(_holding)
def _retry_at_once(
    c: _Dialling,  # noqa: ARG001
    s: _Core,  # noqa: ARG001
    timer: _Wait,
    hints: tuple[Hint, ...],  # noqa: ARG001
) -> None:
    timer.cancel()


@_dialling.upon(_Dialling.addresses_known, nodata=True).loop()
@_connected.upon(_Dialling.addresses_known).loop()
def _remember_addresses(c: _Dialling, s: _Core, hints: tuple[Hint, ...]) -> None:  # noqa: ARG001
    s.hints = hints
    s.failures = 0


@_connected.upon(_Dialling.addresses_gone).loop()
def _forget_addresses(c: _Dialling, s: _Core) -> None:  # noqa: ARG001
    s.hints = ()


@_holding.upon(_Dialling.addresses_gone).to(_idle)
@_waiting.upon(_Dialling.addresses_gone).to(_idle)
def _rest(c: _Dialling, s: _Core, timer: _Wait) -> None:  # noqa: ARG001
    timer.cancel()
    s.hints = ()
    s.enter("idle")


@_dialling.upon(_Dialling.addresses_gone).to(_idle)
def _dial_no_more(c: _Dialling, s: _Core, dial: _Attempt) -> None:  # noqa: ARG001
    dial.cancel()
    s.hints = ()
    s.enter("idle")


@_idle.upon(_Dialling.connected).to(_connected)
def _was_dialled(c: _Dialling, s: _Core) -> None:  # noqa: ARG001
    s.enter_connected()


@_holding.upon(_Dialling.connected).to(_connected)
@_waiting.upon(_Dialling.connected).to(_connected)
def _wait_no_more(c: _Dialling, s: _Core, timer: _Wait) -> None:  # noqa: ARG001
    timer.cancel()
    s.enter_connected()


@_dialling.upon(_Dialling.connected).to(_connected)
@_dialling.upon(_Dialling.dial_succeeded).to(_connected)
def _dial_has_done(c: _Dialling, s: _Core, dial: _Attempt) -> None:  # noqa: ARG001
    # Most often it is this dial's own connection, told by the table before the dial returns.
    dial.let_go()
    s.enter_connected()


@_idle.upon(_Dialling.stop).to(_stopped)
@_connected.upon(_Dialling.stop).to(_stopped)
def _stop(c: _Dialling, s: _Core) -> None:  # noqa: ARG001
    s.enter("stopped")


@_holding.upon(_Dialling.stop).to(_stopped)
@_waiting.upon(_Dialling.stop).to(_stopped)
def _stop_waiting(c: _Dialling, s: _Core, timer: _Wait) -> None:  # noqa: ARG001
    timer.cancel()
    s.enter("stopped")


@_dialling.upon(_Dialling.stop).to(_stopped)
def _stop_dialling(c: _Dialling, s: _Core, dial: _Attempt) -> None:  # noqa: ARG001
    dial.cancel()
    s.enter("stopped")


_Machine = _machine.build()


class Dialler:
    """Keeps up the connection to one peer.

    Args:
        node_id: the peer, 20 bytes.
        own_id: this node, 20 bytes; the lower of the two dials first.
        dial: connects, Hello included.
        clock: time and timers.
        uniform: draws between two bounds.
        on_state: told of each state entered.
    """

    def __init__(
        self,
        node_id: bytes,
        *,
        own_id: bytes,
        dial: Dial,
        clock: Clock,
        uniform: Uniform,
        on_state: Callable[[str], None] = lambda _: None,
    ) -> None:
        head_start = HEAD_START_SECONDS if node_id < own_id else 0.0
        self._core = _Core(node_id, dial, clock, uniform, head_start, on_state)
        self._machine = _Machine(self._core)

    @property
    def state(self) -> str:
        """One of idle, holding, dialling, connected, waiting, stopped."""
        return self._core.state

    @property
    def last_error(self) -> str:
        """Why the last dial failed, in one line; empty after a success."""
        return self._core.last_error

    def announced(self, hints: Sequence[Hint]) -> None:
        """Note where the peer can be dialled now; it is tried at once, whatever failed before."""
        if hints:
            self._machine.addresses_known(tuple(hints))
        else:
            self._machine.addresses_gone()

    def connected(self) -> None:
        """Note that there is a connection to the peer, whoever dialled it."""
        self._machine.connected()

    def disconnected(self) -> None:
        """Note that there is no connection to the peer any more."""
        self._machine.disconnected()
        if not self._core.hints:
            self._machine.addresses_gone()

    def stop(self) -> None:
        """Dial no more, for good; a connection that stands is left alone."""
        self._machine.stop()
