"""What a node is made of and works with, beside its settings: secrets, time, chance, threads."""

from __future__ import annotations

import attrs

from ampgrid.crypto.identity import Identity
from ampgrid.peers import Uniform
from ampgrid.ports import Clock, Entropy, Threads, WallClock
from ampgrid.wire.network import Connector


@attrs.frozen
class Surroundings:
    """What a node needs of the world.

    Attributes:
        clock: monotonic time and timers.
        wall: wall-clock time.
        entropy: unpredictable bytes.
        uniform: draws between two bounds, for jitter.
        work: threads for hashing, ciphering and coding.
        order: one thread, for the database of peers.
        streams: threads that may wait long for a pipe.
        connector: opens transports.
    """

    clock: Clock
    wall: WallClock
    entropy: Entropy
    uniform: Uniform
    work: Threads
    order: Threads
    streams: Threads
    connector: Connector


@attrs.frozen
class Secrets:
    """What a node keeps to itself.

    Attributes:
        identity: its key.
        grid: the grid's secret, None for an open grid.
        convergence: convergence secret of its uploads, 32 bytes (empty for an introducer).
        lease: root of its lease secrets, 32 bytes (empty for an introducer).
    """

    identity: Identity
    grid: bytes | None
    convergence: bytes = b""
    lease: bytes = b""
