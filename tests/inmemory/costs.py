"""What a few things cost a grid in memory, counted and not timed.

    python -m tests.inmemory.costs > tests/inmemory/costs.json

writes down what they cost now; `tests.inmemory.test_costs` fails when something of it grows by a
tenth. All members of the grid count together. What is counted:

* ``boxes``: AMP boxes made, calls and answers;
* ``round_trips``: how long it takes on a network where nothing else takes time;
* ``signatures`` and ``verifications``: of records, prepares and the like, with Ed25519;
* ``transactions``: groups of jobs brought to a database, each one commit;
* ``file_syncs``: what is made durable beside the databases;
* ``hops``: pieces of work brought into threads;
* ``bytes_sent``: in boxes, calls and answers;
* ``bytes_copied``: from one place in memory to another on the way between a segment and a share:
  chunks gathered of blocks, boxes made of chunks, records of TLS joined, values cut out of boxes
  (what the interpreter, OpenSSL and the kernel copy for themselves is not seen);
* ``bytes_hashed``: with SHA-256, of blocks, segments, whole files and hashes;
* ``functions``: functions of ampgrid's own that are called, which stands for processor time.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest.mock import patch

import ampgrid
from ampgrid.crypto import hashing, identity
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.formats.record import MAX_OPERATIONS
from ampgrid.immutable import Data, Operation, ToData
from ampgrid.storage.client import BucketWriter
from ampgrid.store.filesystem import PosixFileSystem
from ampgrid.store.sql import Database
from ampgrid.testing import grid as grid_module
from ampgrid.testing.grid import MemoryGrid
from ampgrid.testing.pipes import join
from ampgrid.web.gateway import Gateway
from ampgrid.web.tokens import Tokens
from ampgrid.wire import InlineThreads, boxes
from ampgrid.wire.prompt import PromptTls
from tests.material import some_bytes
from tests.unit.web.kit import Client, read_reply, request_bytes

RECORDED = Path(__file__).with_name("costs.json")
#: Each thing is done so often, and what costs least counts: timers may have been due meanwhile.
TIMES = 3
SMALL = 1_000
LARGE = 1_000_000
#: Of many segments: what a further megabyte costs decides.
HUGE = 8_000_000

_LATENCY = 0.001
_HOME = str(Path(ampgrid.__file__).parent)


class Hops(InlineThreads):
    """The threads of the grid's members; an upload runs small work at once by itself."""

    def run(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run it now."""
        return super().run(function, *args, **kwargs)


def _local(name: str) -> Callable[[FrameType, Any], int]:
    """Return what tells the length of a local variable."""
    return lambda frame, _: len(frame.f_locals[name])


def _joined(frame: FrameType, _result: Any) -> int:
    """Return the bytes of several pieces; one alone is not copied."""
    pieces = frame.f_locals["pieces"]
    return sum(map(len, pieces)) if len(pieces) > 1 else 0


def _gathered(frame: FrameType, _result: Any) -> int:
    """Return the bytes of a chunk that was joined; a view of one block is not copied."""
    data = frame.f_locals["data"]
    return len(data) if isinstance(data, bytes) else 0


_COUNTED: dict[CodeType, str] = {
    boxes.serialize.__code__: "boxes",
    WriteKeys.sign.__code__: "signatures",
    identity.check_signature.__code__: "verifications",
    Database.run_all.__code__: "transactions",
    PosixFileSystem.fsync.__code__: "file_syncs",
    PosixFileSystem.fsync_directory.__code__: "file_syncs",
    Hops.run.__code__: "hops",
}
#: What is counted in bytes: the kind, the event, and how many they are.
_MEASURED: dict[CodeType, tuple[str, str, Callable[[FrameType, Any], int]]] = {
    # A box that cannot be made is None here.
    boxes.serialize.__code__: ("bytes_sent", "return", lambda _, data: len(data or b"")),
    BucketWriter._send.__code__: ("bytes_copied", "return", _gathered),
    boxes.BoxParser._note_value.__code__: ("bytes_copied", "call", _local("value")),
    PromptTls._deliver.__code__: ("bytes_copied", "call", _joined),
    hashing.block_hash.__code__: ("bytes_hashed", "call", _local("data")),
    hashing.TaggedHasher.update.__code__: ("bytes_hashed", "call", _local("data")),
    hashing.tagged_hash.__code__: ("bytes_hashed", "call", _local("value")),
}
KINDS = (
    *dict.fromkeys(_COUNTED.values()),
    *dict.fromkeys(kind for kind, _, _ in _MEASURED.values()),
    "round_trips",
    "functions",
)


def _measure_bytes(counts: Counter[str], frame: FrameType, event: str, result: object) -> None:
    kind, when, size = _MEASURED[frame.f_code]
    if event == when:
        count = size(frame, result)
        counts[kind] += count
        if kind == "bytes_sent":
            # A box is a copy of what is in it.
            counts["bytes_copied"] += count


class Counting:
    """A grid, and what it costs to do something in it."""

    def __init__(self, folder: Path) -> None:
        with patch.object(grid_module, "InlineThreads", Hops):
            self.grid = MemoryGrid(folder, 5, (3, 5, 5), latency=_LATENCY)
            self.grid.start()
        core = self.grid.client.core
        self._core = core
        self._directory = self.grid.run(core.drive.virtual.create_directory())
        self._gateway = Gateway(core, Tokens(b"t" * 32))
        self._made = 0

    def stop(self) -> None:
        """End it."""
        self._gateway.stop()
        self.grid.stop()

    def cost(self, do: Callable[[], Coroutine[Any, Any, Any]]) -> dict[str, int]:
        """Do something, and count."""
        counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        ours: dict[CodeType, bool] = {}

        def note(frame: FrameType, event: str, result: object) -> None:
            code = frame.f_code
            if code in _MEASURED:
                _measure_bytes(counts, frame, event, result)
            if event != "call":
                return
            if code not in ours:
                ours[code] = code.co_filename.startswith(_HOME)
            if ours[code]:
                counts["functions"] += 1
            if code in _COUNTED:
                counts[_COUNTED[code]] += 1

        began = self.grid.clock.seconds()
        sys.setprofile(note)
        try:
            self.grid.run(do())
        finally:
            sys.setprofile(None)
        counts["round_trips"] = round((self.grid.clock.seconds() - began) / (2 * _LATENCY))
        # What goes on behind it is not the next one's.
        self.grid.clock.advance(1)
        return dict(counts)

    def least(self, do: Callable[[], Coroutine[Any, Any, Any]]) -> dict[str, int]:
        """Do something a few times, and return the least of each count."""
        found = [self.cost(do) for _ in range(TIMES)]
        return {kind: min(one[kind] for one in found) for kind in KINDS}

    def _new(self, size: int) -> bytes:
        self._made += 1
        return some_bytes(size, b"file %d" % self._made)

    async def put_over_http(self) -> None:
        """Put a file into a directory that does not have it, over a connection of HTTP."""
        self._made += 1
        path = f"/uri/{self._directory.get_uri()}/file {self._made}".replace(" ", "%20")
        client = Client()
        channel = self._gateway.factory.buildProtocol(None)
        assert channel is not None
        join(self.grid.clock, client, channel)
        client.transport.write(request_bytes("PUT", path, self._new(SMALL)))
        await client.ended
        assert read_reply(client.received).status == 201

    async def put(self, size: int) -> Any:
        """Put a file that is not there yet; returns its cap."""
        source = Data(self._new(size))
        uploaded = await self._core.uploader.upload(source, self.grid.encoding, Operation())
        return uploaded.cap

    def measure(self) -> dict[str, dict[str, int]]:
        """Return what everything costs."""
        small = self.grid.run(self.put(SMALL))
        large, huge = (self.grid.run(self.put(size)) for size in (LARGE, HUGE))

        async def link() -> None:
            self._made += 1
            await self._directory.set_uri(f"name {self._made}", small)

        async def get(cap: Any) -> None:
            await self._core.downloader.download(cap, ToData(), None)

        for _ in range(MAX_OPERATIONS):
            # A record names its last changes, and there are so many of them as a rule.
            self.grid.run(link())
        return {
            "put 1 kB": self.least(lambda: self.put(SMALL)),
            "get 1 kB": self.least(lambda: get(small)),
            "link": self.least(link),
            "put 1 kB into a directory over HTTP": self.least(self.put_over_http),
            "put 1 MB": self.least(lambda: self.put(LARGE)),
            "get 1 MB": self.least(lambda: get(large)),
            "put 8 MB": self.least(lambda: self.put(HUGE)),
            "get 8 MB": self.least(lambda: get(huge)),
        }


def _from_memory(_: object, descriptor: int, offset: int, length: int) -> bytes:
    """Read what was just written: it is in memory still, whether or not the system can tell."""
    return os.pread(descriptor, length, offset)


def measure() -> dict[str, dict[str, int]]:
    """Return what everything costs, in a grid of its own."""
    remembered = patch.object(PosixFileSystem, "read_at_once", _from_memory)
    with tempfile.TemporaryDirectory() as folder, remembered:
        counting = Counting(Path(folder))
        try:
            return counting.measure()
        finally:
            counting.stop()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(), indent=2) + "\n")
