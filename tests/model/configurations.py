"""The bounds within which everything is tried, and what must have been seen within them.

``SMALL`` is run by the suite; ``LARGE`` by ``tests/campaigns/register_model.py``.
"""

from __future__ import annotations

from tests.model.bounds import Bounds, Op

A, B, C, D = Op("a"), Op("b"), Op("c"), Op("d")
X, Y = Op("x", "once", "name"), Op("y", "once", "name")
DROPS = Op("drops", "drop", "name")
MOVES, LETS_GO = Op("moves", "move", (2, 3)), Op("lets go", "release")
MOVES_TOO = Op("moves too", "move", (2, 4))
CREATES, CREATES_TOO = Op("creates", "create"), Op("creates too", "create")

#: Two writers, one change each.
RACE = Bounds(writers=((A,), (B,)), attempts=1, fast=False)
#: The same; each may try twice.
RETRY = RACE._replace(attempts=2)
#: Two writers who want one name.
DECLINES = Bounds(writers=((X,), (Y,)), attempts=1, fast=False)
#: The name is there; one writer takes it away, and one wants it. Each may try twice.
TRIED = Bounds(writers=((X,), (DROPS,)), first=(Y,), attempts=2, fast=False)
#: A writer with two changes, the second without a prepare, beside another.
FAST_RACE = Bounds(writers=((A, B), (C,)), attempts=1)
#: A writer with two changes, who may try each twice.
FAST_RETRY = Bounds(writers=((A, B),), attempts=2)
#: A writer judges a condition on its own last record, while another changes it.
FAST = Bounds(writers=((Y, X), (DROPS,)), attempts=1)
#: A reader beside two writers.
READ = Bounds(writers=((A,), (B,)), attempts=1, fast=False, reads=1)
#: Two reads of one client, which remembers, beside a writer; one replica lags.
READ_TWICE = Bounds(writers=((A,),), attempts=2, fast=False, reads=2, lagging=1)
#: A repairer beside two writers; one replica lags.
REPAIR = Bounds(writers=((A,),), attempts=2, fast=False, reads=1, thorough=True, lagging=1)
#: Writers also crash, and come back with nothing but the id of their change.
CRASH = Bounds(writers=((A,), (X,)), attempts=2, fast=False, crashes=True)
#: Writers hear refusals and begin again above what they were shown.
REFUSED = DECLINES._replace(refusals=True)
#: Four replicas, one of which lies.
LIAR = Bounds(replicas=4, liar=True, writers=((A,), (B,)), attempts=1, fast=False)
#: The same, with one writer that names its following ballots, and nothing left out.
LIAR_FAST = LIAR._replace(writers=((A, B),), fast=True, full=True)
LIAR_READ = LIAR._replace(reads=1, writers=((A,),))
LIAR_DECLINES = DECLINES._replace(replicas=4, liar=True)
#: A replica loses its disk.
AMNESIA = RACE._replace(disk_losses=1)
#: A replica drops its record.
EXPIRY = RACE._replace(expiries=1)
#: A replica is replaced while another writer writes, and then while somebody reads.
MOVE = Bounds(spare=1, writers=((MOVES,), (A,)), attempts=1, fast=False, alike=((0, 1),))
MOVE_READ = MOVE._replace(writers=((MOVES,),), reads=1)
#: Two replace the same replica, each by another one.
MOVE_MOVE = MOVE._replace(spare=2, writers=((MOVES,), (MOVES_TOO,)))
#: Who replaces a replica goes on writing.
MOVE_ON = MOVE._replace(writers=((MOVES, B), (A,)), helps=False)
#: Two create the same directory, and one changes it.
CREATION = Bounds(absent=True, writers=((CREATES, A), (CREATES_TOO,)), attempts=1)
#: The same, and both go on.
CREATION_TOO = CREATION._replace(writers=((CREATES, A), (CREATES_TOO, B)), full=True)

SMALL = {
    "race": (RACE, "Done"),
    "race, everything": (RACE._replace(full=True), "Done"),
    "race of four": (RACE._replace(replicas=4), "Done"),
    "declines": (DECLINES, "Done declined"),
    "declines after trying": (TRIED, "Done declined already"),
    "fast": (FAST, "Done declined"),
    "fast race": (FAST_RACE, "Done"),
    "fast retry": (FAST_RETRY, "Done already"),
    "read": (READ, "Done Committed"),
    "read twice": (READ_TWICE, "Done Committed Undecided"),
    "late answers": (
        RACE._replace(writers=((A,),), attempts=2, full=True, late_answers=True),
        "Done already",
    ),
    "repair": (REPAIR, "Done Committed"),
    "refused": (REFUSED, "Done declined Again"),
    "liar": (LIAR, "Done"),
    "liar, everything": (LIAR._replace(full=True), "Done"),
    "liar and reader": (LIAR_READ, "Done Committed"),
    "liar and followings": (LIAR_FAST, "Done"),
    "liar and declines": (LIAR_DECLINES, "Done declined"),
    "disk loss": (AMNESIA, "Done"),
    "expiry": (EXPIRY, "Done"),
    "move": (MOVE, "Done Completed"),
    "move and read": (MOVE_READ, "Done Committed"),
    "move and move": (MOVE_MOVE, "Done declined Completed"),
    "creation": (CREATION, "Done"),
    "creation, both go on": (CREATION_TOO._replace(full=False), "Done"),
}

LARGE = {
    "retry": (RETRY, "Done already"),
    "retry, any ballots": (RETRY._replace(low=True), "Done already"),
    "retry, refused": (RETRY._replace(refusals=True), "Done already Again"),
    "retry of four": (RETRY._replace(replicas=4), "Done already"),
    "crash": (CRASH, "Done already"),
    "declines, everything": (TRIED._replace(full=True, attempts=1), "Done declined"),
    "fast both": (FAST_RACE._replace(writers=((A, B), (C, D))), "Done"),
    "fast of four": (FAST._replace(replicas=4), "Done declined"),
    "fast, repair": (
        FAST_RACE._replace(writers=((A, B),), reads=1, thorough=True, lagging=1),
        "Done Committed",
    ),
    "fast, disk loss": (FAST_RACE._replace(disk_losses=1), "Done"),
    "fast, expiry": (FAST_RETRY._replace(attempts=1, replicas=4, expiries=1), "Done"),
    "fast, move": (MOVE._replace(fast=True, writers=((MOVES, B),)), "Done Completed"),
    "fast and read": (FAST_RACE._replace(writers=((A, B),), reads=1, lagging=1), "Done Committed"),
    "repair between two": (REPAIR._replace(writers=((A,), (B,)), attempts=1), "Done Committed"),
    "late answers": (RACE._replace(full=True, late_answers=True), "Done"),
    "late answers to a reader": (
        READ._replace(writers=((A,),), full=True, late_answers=True),
        "Done Committed",
    ),
    "liar and retry": (RETRY._replace(replicas=4, liar=True), "Done already"),
    "liar and trying": (TRIED._replace(replicas=4, liar=True), "Done declined already"),
    "liar and fast": (FAST._replace(replicas=4, liar=True), "Done declined"),
    "liar and followings": (LIAR_FAST._replace(writers=((A, B), (C,)), full=False), "Done"),
    "liar, followings, reader": (
        LIAR_READ._replace(writers=((A, B),), fast=True),
        "Done Committed",
    ),
    "liar and two readings": (LIAR_READ._replace(reads=2), "Done Committed"),
    "liar, reader, retry": (LIAR_READ._replace(attempts=2), "Done Committed"),
    "liar, reader, writers": (LIAR._replace(reads=1), "Done Committed"),
    "disk loss and retry": (AMNESIA._replace(attempts=2), "Done already"),
    "expiry and retry": (EXPIRY._replace(attempts=2), "Done already"),
    "expiry of four": (EXPIRY._replace(replicas=4), "Done"),
    "move and let go": (MOVE_ON._replace(writers=((MOVES, LETS_GO), (A,))), "Done Completed"),
    "move on": (MOVE_ON, "Done Completed"),
    "move, read, write": (MOVE_ON._replace(writers=((MOVES,), (A,)), reads=1), "Done Committed"),
    "move of four": (
        MOVE._replace(
            replicas=4, writers=((Op("moves", "move", (3, 4)),), (A,)), alike=((0, 1, 2),)
        ),
        "Done Completed",
    ),
    "move of four, one lies": (
        MOVE._replace(
            replicas=4,
            liar=True,
            writers=((Op("moves", "move", (2, 4)),), (A,)),
            alike=((0, 1),),
        ),
        "Done Completed",
    ),
    "creation, everything": (CREATION_TOO, "Done"),
    "creation of four": (CREATION._replace(replicas=4), "Done"),
}
