"""What is done to a store while its disk fails or the power goes: one scenario an operation.

A scenario is what is there before (`Scenario.prepare`) and what is done (`Scenario.act`), both
to a `tests.campaigns.bench.Bench`. Add one with `@scenario`, and every campaign on one store has
it. ``act`` goes on after an error of ampgrid's, as a node would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from types import ModuleType

import attrs

from ampgrid.store import LEASE_SECONDS, ballast, readers, uploads
from tests.campaigns.bench import LARGE, NOW, SMALL, Bench, contents, index_of, terms
from tests.material import make_shares

HELD = index_of(1)
NEW = index_of(2)

Step = Callable[[Bench], object]


@attrs.frozen
class Scenario:
    """One operation.

    Attributes:
        name: of the operation.
        prepare: makes what is there before, with the store open.
        act: does it.
        is_start: ``act`` opens the store itself; it is closed, or was killed, before.
        ends_in_order: what `prepare` leaves is closed before ``act``, not killed.
    """

    name: str
    prepare: Step
    act: Step
    is_start: bool = False
    ends_in_order: bool = False


SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str, prepare: Step | None = None, **facts: bool) -> Callable[[Step], Step]:
    """Make a function the ``act`` of a scenario."""

    def add(act: Step) -> Step:
        SCENARIOS[name] = Scenario(name, prepare or some_shares, act, **facts)
        return act

    return add


@contextmanager
def patched(module: ModuleType, **values: int) -> Iterator[None]:
    """Give a module other limits for a while."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def small_ballast() -> AbstractContextManager[None]:
    """Let stores hold so little room back that copying them costs nothing."""
    return patched(ballast, BALLAST_BYTES=8192, LARGE_BALLAST_BYTES=8192)


# What is there before.


def nothing(_bench: Bench) -> None:
    """Leave the store empty."""


def some_shares(bench: Bench) -> None:
    """Keep a large share, a small one in a row, and one that came through a file."""
    bench.keep(HELD, 0, contents(LARGE, 0))
    bench.put(HELD, 1, contents(SMALL, 1))
    bench.keep(HELD, 2, contents(SMALL, 2), in_memory=False)


def some_files(bench: Bench) -> None:
    """Keep two files of which the leases will run out, and one that is renewed."""
    some_shares(bench)
    bench.put(index_of(4), 0, contents(SMALL, 4))
    for number in (0, 1):
        bench.keep(NEW, number, contents((LARGE, SMALL)[number], number))
    bench.renew_lease(NEW, terms(1, NOW + 3 * 24 * 3600))


def a_small_log(bench: Bench) -> None:
    """Let the log be copied into the database after few pages."""
    some_shares(bench)
    bench.store.database.read(lambda sql: sql.execute("PRAGMA wal_autocheckpoint=8").fetchone())


def a_mess(bench: Bench) -> None:
    """Leave what a start has to put in order: one of each kind."""
    some_shares(bench)
    for number in (4, 5, 6, 7):
        bench.keep(HELD, number, contents(LARGE, number))
    incoming = bench.directory / "incoming"
    (incoming / "1-77").write_bytes(b"half a share")
    (incoming / "1-78").write_bytes(b"")
    # A file whose row was never committed, in a directory that is there and in a new one.
    for index in (HELD, NEW):
        data = contents(LARGE, 9)
        bench.ledger.offer(index, 9, data)
        path = bench.store.path_of(index, 9)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(data)
    # A row whose file has gone, one whose file is of a wrong size, and a file in the place of
    # a small share.
    bench.store.path_of(HELD, 4).unlink()
    bench.store.path_of(HELD, 5).write_bytes(b"short")
    bench.store.path_of(HELD, 1).write_bytes(b"a stray")
    for number in (4, 5):
        bench.ledger.release(HELD, number)


# The operations.


@scenario("allocate, write, discard")
def _allocate(bench: Bench) -> None:
    bench.begin(NEW, 0, contents(LARGE, 0))
    bench.begin(HELD, 3, contents(SMALL, 3), in_memory=False)


@scenario("store a large share")
def _large(bench: Bench) -> None:
    bench.keep(NEW, 0, contents(LARGE, 0))


@scenario("store two large shares of a file")
def _two_large(bench: Bench) -> None:
    bench.keep(HELD, 3, contents(LARGE, 3))
    bench.keep(HELD, 4, contents(LARGE, 4), pieces=5)


@scenario("store a large share that is there")
def _large_again(bench: Bench) -> None:
    bench.keep(HELD, 0, contents(LARGE, 70))
    asked = bench.request((5,), LARGE, HELD)
    bench.race(asked, contents(LARGE, 5), contents(LARGE, 55))


@scenario("store a small share in memory")
def _small(bench: Bench) -> None:
    bench.keep(NEW, 0, contents(SMALL, 0))


@scenario("store a small share through a file")
def _small_file(bench: Bench) -> None:
    bench.keep(NEW, 0, contents(SMALL, 0), in_memory=False)


@scenario("put a small share")
def _put(bench: Bench) -> None:
    bench.put(NEW, 0, contents(SMALL, 0))


@scenario("put a group of small shares")
def _group(bench: Bench) -> None:
    bench.put_all([(index_of(3 + n % 4), n, contents(SMALL + 700 * n, n)) for n in range(12)])


@scenario("put small shares over a copy of the log", a_small_log)
def _checkpoint(bench: Bench) -> None:
    for number in range(4):
        bench.put(NEW, number, contents(SMALL * 3, number))


@scenario("read")
def _read(bench: Bench) -> None:
    for number in (0, 1, 2):
        bench.read(HELD, number)
        bench.read(HELD, number, 300, 500)
    bench.look(HELD)
    bench.look(NEW)
    bench.ask_room()


@scenario("read more shares than are kept open")
def _read_many(bench: Bench) -> None:
    with patched(readers, MOST_READERS=1):
        for number in (3, 4):
            bench.keep(HELD, number, contents(LARGE, number))
        for number in (0, 3, 4, 0, 3):
            bench.read(HELD, number)
    bench.close()


@scenario("write more shares than are kept open")
def _write_many(bench: Bench) -> None:
    with patched(uploads, MOST_OPEN_FILES=1):
        bench.keep_together([(HELD, number, contents(LARGE, number)) for number in (3, 4, 5)])


@scenario("add, renew and cancel a lease")
def _leases(bench: Bench) -> None:
    bench.add_lease(HELD, terms(2))
    bench.renew_lease(HELD, terms(1, NOW + 77))
    bench.cancel_lease(HELD, terms(2))
    bench.add_lease(HELD, terms(2, NOW + 5))


@scenario("advise")
def _advise(bench: Bench) -> None:
    bench.advise(HELD, 0)
    bench.advise(HELD, 1)


# Time and decay.


@scenario("expire files", some_files)
def _expire(bench: Bench) -> None:
    bench.expire(NOW + LEASE_SECONDS + 1, 24 * 3600)


@cache
def _real_shares(size: int) -> list[bytes]:
    """Return shares that hold together, 3-of-5, of ``size`` bytes of plaintext."""
    return make_shares(contents(size, 5), 3, 5)[1]


def _spoilt(share: bytes) -> bytes:
    """Return a share with one bit of its first block changed."""
    return share[:50] + bytes([share[50] ^ 4]) + share[51:]


BAD = ((HELD, 1), (NEW, 1))


def good_and_bad(bench: Bench) -> None:
    """Keep small and large shares, one of each kind bad from the beginning."""
    for index, size in ((HELD, 3000), (NEW, 3 * LARGE)):
        for number, share in enumerate(_real_shares(size)[:3]):
            data = _spoilt(share) if (index, number) in BAD else share
            bench.keep(index, number, data)


@scenario("scrub", good_and_bad)
def _scrub(bench: Bench) -> None:
    bench.scrub(BAD)


@scenario("scrub, and store anew what was bad", good_and_bad)
def _scrub_and_store(bench: Bench) -> None:
    bench.scrub(BAD)
    bench.keep(HELD, 1, _real_shares(3000)[1])
    bench.keep(NEW, 1, _real_shares(3 * LARGE)[1])


@scenario("import shares of Tahoe-LAFS")
def _import(bench: Bench) -> None:
    shares = [(HELD, 0), (NEW, 0), (NEW, 1), (index_of(3), 4)]
    sizes = (3000, 3 * LARGE, 3 * LARGE, 3000)
    bench.import_from_tahoe(
        [(*key, _real_shares(size)[key[1]]) for key, size in zip(shares, sizes, strict=True)]
    )


# Beginning and end.


@scenario("close the store")
def _close(bench: Bench) -> None:
    bench.put(NEW, 0, contents(SMALL, 0))
    bench.close()


@scenario("start for the first time", nothing, is_start=True)
def _first_start(bench: Bench) -> None:
    bench.start()


@scenario("start after an orderly end", is_start=True, ends_in_order=True)
def _start(bench: Bench) -> None:
    bench.start()


@scenario("start after a crash", a_mess, is_start=True)
def _recover(bench: Bench) -> None:
    bench.start()
