"""What the comparison does with each system, and what is noted of it.

A `Work` is prepared once for each system and then done once a run. It measures with a `Meter`,
which notes the speed, the processor time of client, servers and driver, and the peak of the
client's memory. Every system gets new random bytes of the same sizes, so that none finds its
shares there already.
"""

from __future__ import annotations

import random
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field, frozen

from tests.benchmarks.figures import Figures, Row
from tests.benchmarks.grids import Grid
from tests.benchmarks.measuring import (
    cpu_seconds,
    forget_peak,
    peak_memory,
    resident_memory,
    write_random,
)
from tests.benchmarks.ways import Way, WrongAnswerError, make_filled

#: Length of a range, bytes.
RANGE_BYTES = 65_536
SMALL_BYTES = 10_000
CHILD_BYTES = 1_000
AT_ONCE = 16
_MB = 1_000_000


@frozen
class Amounts:
    """How much of each work is done in a run.

    Attributes:
        sizes: of files that go up and down, bytes.
        ranges: random ranges of a file of ``range_file`` bytes.
        small: files of 10 kB.
        into: files of 1 kB put into one directory.
        children: of the directory that is listed.
    """

    sizes: tuple[int, ...] = (_MB, 10 * _MB, 100 * _MB)
    ranges: int = 100
    range_file: int = 100 * _MB
    small: int = 500
    into: int = 200
    children: int = 1000


@define
class System:
    """One of what is compared: a grid, and a way to use it.

    Attributes:
        name: for readers.
        grid: its grid, which other systems may share.
        way: how it is used.
        folder: its own, for files.
        state: what a work has prepared for itself.
    """

    name: str
    grid: Grid
    way: Way
    folder: Path
    state: dict[str, object] = field(factory=dict)

    def files(self, count: int, size: int) -> list[Path]:
        """Make new files of random bytes in the place of the former ones."""
        folder = self.folder / "files"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        paths = [folder / f"file-{number:04}" for number in range(count)]
        for path in paths:
            write_random(path, size)
        return paths


@frozen
class Meter:
    """Notes what things cost.

    Attributes:
        speed: speeds, and times where there is no amount.
        cpu: processor seconds of the client, of all servers, and of this program.
        memory: bytes, as MB.
        counting: false while a run is for warming up.
    """

    speed: Figures = field(factory=Figures)
    cpu: Figures = field(factory=Figures)
    memory: Figures = field(factory=Figures)

    @contextmanager
    def of(self, system: System, row: Row, amount: float, counting: bool) -> Iterator[None]:
        """Measure what is done inside; ``amount`` of the row's unit is done in it."""
        grid = system.grid
        forget_peak(grid.client_pid)
        before = self._cpu(grid)
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        spent = {who: used - before[who] for who, used in self._cpu(grid).items()}
        if not counting:
            return
        self.speed.add(row, system.name, amount / took)
        for who, seconds in spent.items():
            self.cpu.add(Row(f"{row.name}: {who}", "CPU s", "less"), system.name, seconds)
        peak = peak_memory(grid.client_pid) / 1e6
        self.memory.add(Row(f"{row.name}: client's peak", "MB", "less"), system.name, peak)

    @staticmethod
    def _cpu(grid: Grid) -> dict[str, float]:
        return {
            "client": cpu_seconds([grid.client_pid]),
            "servers": cpu_seconds(grid.server_pids),
            "driver": time.process_time(),
        }


class Work:
    """Something to measure.

    Attributes:
        name: by which it is chosen.
        once: whether it is done once and not in every run.
    """

    name = ""
    once = False

    def prepare(self, system: System) -> None:
        """Make what all runs need."""

    def do(self, system: System, meter: Meter, counting: bool) -> None:
        """Do it once; note it if that counts."""
        raise NotImplementedError


class Idle(Work):
    """What a storage node that has nothing to do has in memory."""

    name = "idle"
    once = True

    def do(self, system: System, meter: Meter, counting: bool) -> None:
        """Look at every storage node of the system."""
        for pid in system.grid.node_pids:
            resident, private = resident_memory(pid)
            name = "idle storage node"
            meter.memory.add(Row(f"{name}: RSS", "MB", "less"), system.name, resident / 1e6)
            meter.memory.add(Row(f"{name}: private", "MB", "less"), system.name, private / 1e6)


class Start(Work):
    """The start of a node: the client, until its gateway answers."""

    name = "start"

    def do(self, system: System, meter: Meter, counting: bool) -> None:
        """Start the client anew."""
        took = system.grid.time_start()
        if counting:
            meter.speed.add(Row("start of a node", "s", "less"), system.name, took)


def size_text(size: int) -> str:
    """Return a size for the name of a row.

    >>> size_text(100_000_000), size_text(1_000_000_000), size_text(10_000)
    ('100 MB', '1 GB', '10 kB')
    """
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} bytes"


class Transfer(Work):
    """Files of one size, up and down.

    Args:
        size: of a file, bytes.
    """

    def __init__(self, size: int) -> None:
        self.name = f"transfer-{size_text(size).replace(' ', '')}"
        self._size = size
        # Of small ones several, so that there is something to measure.
        self._count = max(1, min(5, 20 * _MB // size))

    def do(self, system: System, meter: Meter, counting: bool) -> None:
        """Put and get new files."""
        paths = system.files(self._count, self._size)
        amount, size = self._count * self._size / 1e6, size_text(self._size)
        with meter.of(system, Row(f"upload {size}", "MB/s"), amount, counting):
            caps = system.way.put(paths)
        with meter.of(system, Row(f"download {size}", "MB/s"), amount, counting):
            system.way.get(caps, paths)
        system.way.settle()


class Ranges(Work):
    """Ranges at random places of a file that is there already.

    Args:
        count: ranges a run.
        size: of the file, bytes.
    """

    name = "ranges"

    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size
        # The same places for every system.
        self._places: dict[str, random.Random] = {}

    def prepare(self, system: System) -> None:
        """Put the file."""
        (path,) = system.files(1, self._size)
        kept = system.folder / "ranges"
        path.rename(kept)
        system.state["ranges"] = system.way.put([kept])[0], kept
        self._places[system.name] = random.Random(1)

    def do(self, system: System, meter: Meter, counting: bool) -> None:
        """Read ranges one after the other."""
        cap, path = system.state["ranges"]  # type: ignore[misc]
        rng = self._places[system.name]
        last = self._size - RANGE_BYTES
        ranges = [(rng.randint(0, last), RANGE_BYTES) for _ in range(self._count)]
        row = Row(f"ranges of 64 kB in {size_text(self._size)}", "a second")
        with meter.of(system, row, self._count, counting):
            system.way.get_ranges(cap, path, ranges)
        system.way.settle()


class Small(Work):
    """Many small files, put and got.

    Args:
        count: files a run.
        at_once: how many are under way at a time.
    """

    def __init__(self, count: int, at_once: int) -> None:
        self.name = "small" if at_once == 1 else f"small-{at_once}"
        self._count, self._at_once = count, at_once

    def do(self, system: System, meter: Meter, counting: bool) -> None:
        """Put and get new files."""
        paths = system.files(self._count, SMALL_BYTES)
        how = "one by one" if self._at_once == 1 else f"{self._at_once} at once"
        with meter.of(system, Row(f"put 10 kB, {how}", "files/s"), self._count, counting):
            caps = system.way.put(paths, self._at_once)
        with meter.of(system, Row(f"get 10 kB, {how}", "files/s"), self._count, counting):
            system.way.get(caps, paths, self._at_once)
        system.way.settle()


class Into(Work):
    """Files of 1 kB put into a new directory, one after the other.

    Args:
        count: files a run.
    """

    name = "directory"

    def __init__(self, count: int) -> None:
        self._count = count

    def do(self, system: System, meter: Meter, counting: bool) -> None:
        """Put new files into a new directory."""
        paths = system.files(self._count, CHILD_BYTES)
        directory = system.way.make_directory()
        with meter.of(system, Row("put 1 kB into a directory", "files/s"), self._count, counting):
            system.way.put_into(directory, paths)
        _expect(system.way.count_children(directory), self._count)


class Listing(Work):
    """A listing of a large directory.

    Args:
        children: of the directory.
    """

    name = "listing"
    _times = 3

    def __init__(self, children: int) -> None:
        self._children = children

    def prepare(self, system: System) -> None:
        """Make the directory."""
        system.state["listing"] = make_filled(system.grid, self._children)

    def do(self, system: System, meter: Meter, counting: bool) -> None:
        """List it."""
        row = Row(f"list {self._children:,} children", "a second")
        with meter.of(system, row, self._times, counting):
            for _ in range(self._times):
                listed = system.way.count_children(str(system.state["listing"]))
        _expect(listed, self._children)


def _expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise WrongAnswerError(f"{found} children are listed, and {wanted} were put")


def all_works(amounts: Amounts) -> list[Work]:
    """Return what there is to measure, in the order in which it is measured."""
    return [
        Idle(),
        Start(),
        *[Transfer(size) for size in amounts.sizes],
        Ranges(amounts.ranges, amounts.range_file),
        Small(amounts.small, 1),
        Small(amounts.small, AT_ONCE),
        Into(amounts.into),
        Listing(amounts.children),
    ]


def note_peaks(systems: Sequence[System], meter: Meter) -> None:
    """Note the peak of each server's memory since its start, the storage nodes' as a median."""
    for system in systems:
        pids = system.grid.pids()
        peaks = [peak_memory(pids[name]) / 1e6 for name in system.grid.node_names]
        row = Row("storage node: peak of all", "MB", "less")
        meter.memory.add(row, system.name, statistics.median(peaks))
        row = Row("introducer: peak of all", "MB", "less")
        meter.memory.add(row, system.name, peak_memory(pids["introducer"]) / 1e6)
