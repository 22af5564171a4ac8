"""The bounds within which everything is tried."""

from __future__ import annotations

from tests.model.register_model import Bounds, Op

A, B, C = Op("a"), Op("b"), Op("c")
X, Y = Op("x", "once", "name"), Op("y", "once", "name")
DROPS = Op("drops", "drop", "name")
MOVES, LETS_GO = Op("moves", "move", (2, 3)), Op("lets go", "release")
MOVES_TOO = Op("moves too", "move", (2, 4))

#: Two writers, one change each.
RACE = Bounds(writers=((A,), (B,)), attempts=1, fast=False)
#: The same, each may try twice.
RETRY = Bounds(writers=((A,), (B,)), attempts=2, fast=False)
#: Two writers who want one name, each may try twice.
DECLINES = Bounds(writers=((X,), (Y,)), attempts=1, fast=False)
#: The name is there, one writer takes it away, the other wants it.
TRIED = Bounds(writers=((X,), (DROPS,)), first=(Y,), attempts=2, fast=False)
#: A writer with two changes, the second on the fast path, against another.
FAST = Bounds(writers=((Y, X), (DROPS,)), attempts=1)
FAST_RACE = Bounds(writers=((A, B), (C,)), attempts=1)
#: A reader beside two writers.
READ = Bounds(writers=((A,), (B,)), attempts=1, fast=False, reads=1)
#: One of four lies.
LIAR = Bounds(replicas=4, liar=True, writers=((A,), (B,)), attempts=1, fast=False)
LIAR_READ = LIAR._replace(reads=1, writers=((A,),))
#: A replica loses its disk; one drops its record.
AMNESIA = Bounds(replicas=3, writers=((A,), (B,)), attempts=1, fast=False, disk_losses=1)
EXPIRY = AMNESIA._replace(disk_losses=0, expiries=1)
#: A replica is replaced while another writes.
MOVE = Bounds(spare=1, writers=((MOVES,), (A,)), attempts=1, fast=False, alike=((0, 1),))
MOVE_RETRY = MOVE._replace(attempts=2)
MOVE_READ = MOVE._replace(writers=((MOVES,),), reads=1)
#: Two create the same directory, and change it.
CREATION = Bounds(
    absent=True, writers=((Op("creates", "create"), A), (Op("creates too", "create"),)), attempts=1
)
