"""What the comparison does through a slow link, and what is noted of it.

The client reaches every storage node through `slow_proxy`, one link for all. A round trip takes
twice the delay; so many bytes a second go each way.
"""

from __future__ import annotations

import statistics
import threading
import time

from attrs import frozen

from tests.benchmarks.figures import Row
from tests.benchmarks.grids import SHARES
from tests.benchmarks.works import SMALL_BYTES, Meter, System, Work, size_text

#: Children of the directory that is listed beside an upload.
_CHILDREN = 20
_PAUSE = 0.5


@frozen
class Link:
    """The slow link.

    Attributes:
        mbit: a second, each direction.
        delay_ms: each way, milliseconds.
    """

    mbit: float = 20.0
    delay_ms: float = 25.0

    @property
    def round_trip(self) -> float:
        """There and back, seconds."""
        return 2 * self.delay_ms / 1000

    def seconds(self, size: float) -> float:
        """Return how long so many bytes take when nothing else is under way."""
        return size * 8 / (self.mbit * 1e6)

    def options(self) -> list[str]:
        """Return what to say to the proxy."""
        return ["--mbit", str(self.mbit), "--delay", str(self.delay_ms)]


class SlowSmall(Work):
    """Files of 10 kB through the link, one after the other.

    What is noted is the median of a run's files, in round trips: whatever a file takes beside,
    its way over the link and all work, is in it.

    Args:
        link: the link.
        count: files a run.
    """

    name = "slow-small"

    def __init__(self, link: Link, count: int) -> None:
        self._link, self._count = link, count

    def do(self, system: System, meter: Meter, counting: bool) -> None:
        """Put and get new files, each timed by itself."""
        puts, gets = [], []
        for path in system.files(self._count, SMALL_BYTES):
            began = time.perf_counter()
            caps = system.way.put([path])
            middle = time.perf_counter()
            system.way.get(caps, [path])
            gets.append(time.perf_counter() - middle)
            puts.append(middle - began)
        system.way.settle()
        if counting:
            for what, seconds in (("put", puts), ("get", gets)):
                trips = statistics.median(seconds) / self._link.round_trip
                row = Row(f"{what} 10 kB, slow link", "round trips", "less")
                meter.speed.add(row, system.name, trips)


class SlowTransfer(Work):
    """A large file up and down through the link, and listings beside the upload.

    Speed is told as a part of what the link carries: up, all shares go over it; down, as many as
    are needed.

    Args:
        link: the link.
        size: of the file, bytes.
    """

    name = "slow-transfer"

    def __init__(self, link: Link, size: int) -> None:
        self._link, self._size = link, size

    def prepare(self, system: System) -> None:
        """Make the directory that is listed."""
        directory = system.way.make_directory()
        system.way.put_into(directory, system.files(_CHILDREN, 1000))
        system.state["slow"] = directory

    def do(self, system: System, meter: Meter, counting: bool) -> None:
        """Put a new file, list a directory meanwhile, and get the file."""
        (path,) = system.files(1, self._size)
        name = size_text(self._size)
        # Before it, so that the first listing beside the upload finds what the client keeps.
        system.way.count_children(str(system.state["slow"]))
        least = self._link.seconds(self._size * SHARES.total / SHARES.needed)
        row = Row(f"upload {name}, slow link", "of the link")
        with meter.of(system, row, least, counting):
            listed, caps = self._put_and_list(system, path)
        if counting and listed:
            row = Row(f"list beside the upload of {name}, median", "s", "less")
            meter.speed.add(row, system.name, statistics.median(listed))
            row = Row(f"list beside the upload of {name}, longest", "s", "less")
            meter.speed.add(row, system.name, max(listed))
        row = Row(f"download {name}, slow link", "of the link")
        with meter.of(system, row, self._link.seconds(self._size), counting):
            system.way.get(caps, [path])
        system.way.settle()

    def _put_and_list(self, system: System, path: object) -> tuple[list[float], list[str]]:
        """Put a file; return how long listings beside it took, and its cap."""
        caps: list[str] = []
        failures: list[BaseException] = []

        def put() -> None:
            try:
                caps.extend(system.way.put([path]))  # type: ignore[list-item]
            except BaseException as failure:
                failures.append(failure)

        putting = threading.Thread(target=put)
        putting.start()
        listed = []
        putting.join(_PAUSE)
        while putting.is_alive():
            began = time.perf_counter()
            system.way.count_children(str(system.state["slow"]))
            took = time.perf_counter() - began
            # One that outlasted the upload was not beside it.
            if putting.is_alive():
                listed.append(took)
            putting.join(_PAUSE)
        if failures:
            raise failures[0]
        return listed, caps


def slow_works(link: Link, size: int, small: int) -> list[Work]:
    """Return what is measured through the link."""
    return [SlowSmall(link, small), SlowTransfer(link, size)]
