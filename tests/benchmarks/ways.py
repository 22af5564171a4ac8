"""Ways to use a grid: `Gateway` over HTTP, the same for every system, and `Socket`, ampgrid's own.

Both do the same things with files of this machine, one after the other or several at once, and
check what they get: every byte is compared. What a way leaves to be compared later, so that the
disk is not timed, `Way.settle` compares.

`Gateway` is the plain client of the standard library, a connection a thread that is kept, the
body of a large file sent by the system (``sendfile``), and one buffer to receive into: it costs
0.1 s of processor time for 100 MB, and 0.2 ms for a small file.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from twisted.internet.defer import Deferred, gatherResults

from ampgrid.caps import LitCap
from ampgrid.commands import drive
from ampgrid.commands.control import Download, Upload
from tests.benchmarks.grids import HOST, AmpgridGrid, Grid

#: Seconds that an answer may take.
_PATIENCE = 900.0
_PIECE = 1 << 20
#: Files up to this size are read and sent in one piece.
_SMALL = 1 << 20


class WrongAnswerError(Exception):
    """A grid answered with an error, or with other bytes than were put."""


class Way(Protocol):
    """A way to use a grid."""

    def put(self, paths: Sequence[Path], at_once: int = 1) -> list[str]:
        """Upload files, so many at once; return their caps."""
        ...

    def get(self, caps: Sequence[str], paths: Sequence[Path], at_once: int = 1) -> None:
        """Download files and compare them with those that they were put from."""
        ...

    def get_ranges(self, cap: str, path: Path, ranges: Sequence[tuple[int, int]]) -> None:
        """Read ranges (offset, length) one after the other, and compare."""
        ...

    def make_directory(self) -> str:
        """Make a directory linked nowhere; return its write cap."""
        ...

    def put_into(self, directory: str, paths: Sequence[Path]) -> None:
        """Upload files into a directory, one after the other, under their names."""
        ...

    def count_children(self, directory: str) -> int:
        """List a directory whole; return how many children it has."""
        ...

    def settle(self) -> None:
        """Compare what was not compared yet."""
        ...


class Gateway:
    """A gateway, over HTTP.

    Args:
        grid: whose client's gateway it is.
    """

    def __init__(self, grid: Grid) -> None:
        self._port = grid.web_port

    def _each(self, work: Callable[..., Any], at_once: int, items: Iterable[Any]) -> list[Any]:
        """Call ``work`` with a connection and each item, so many at a time."""
        items = list(items)

        def share(first: int) -> list[Any]:
            connection = http.client.HTTPConnection(HOST, self._port, timeout=_PATIENCE)
            try:
                return [work(connection, item) for item in items[first::at_once]]
            finally:
                connection.close()

        if at_once == 1:
            return share(0)
        results: list[Any] = [None] * len(items)
        with ThreadPoolExecutor(at_once) as pool:
            for first, done in enumerate(pool.map(share, range(at_once))):
                results[first::at_once] = done
        return results

    def put(self, paths: Sequence[Path], at_once: int = 1) -> list[str]:
        """Upload files."""
        return self._each(lambda http, path: _send(http, "/uri", path), at_once, paths)

    def get(self, caps: Sequence[str], paths: Sequence[Path], at_once: int = 1) -> None:
        """Download files and compare them."""

        def one(http: Any, item: tuple[str, Path]) -> None:
            cap, path = item
            http.request("GET", f"/uri/{quote(cap)}")
            with path.open("rb") as original:
                _compare(_answer(http), original, path.stat().st_size)

        self._each(one, at_once, zip(caps, paths, strict=True))

    def get_ranges(self, cap: str, path: Path, ranges: Sequence[tuple[int, int]]) -> None:
        """Read ranges and compare them."""
        with path.open("rb") as original:

            def one(http: Any, item: tuple[int, int]) -> None:
                offset, length = item
                said = {"Range": f"bytes={offset}-{offset + length - 1}"}
                http.request("GET", f"/uri/{quote(cap)}", headers=said)
                original.seek(offset)
                _compare(_answer(http), original, length)

            self._each(one, 1, ranges)

    def make_directory(self) -> str:
        """Make a directory."""
        return self._ask("PUT", "/uri?t=mkdir").decode("ascii").strip()

    def put_into(self, directory: str, paths: Sequence[Path]) -> None:
        """Upload files into a directory."""
        place = f"/uri/{quote(directory)}"
        self._each(lambda http, path: _send(http, f"{place}/{quote(path.name)}", path), 1, paths)

    def count_children(self, directory: str) -> int:
        """List a directory."""
        listed = json.loads(self._ask("GET", f"/uri/{quote(directory)}?t=json"))
        return len(listed[1]["children"])

    def settle(self) -> None:
        """Do nothing: all was compared as it came."""

    def _ask(self, method: str, url: str, body: bytes = b"") -> bytes:
        def one(http: Any, _item: None) -> bytes:
            http.request(method, url, body)
            answer: bytes = _answer(http).read()
            return answer

        answer: bytes = self._each(one, 1, [None])[0]
        return answer

    def post(self, url: str, document: Any) -> str:
        """Post JSON; return the answer."""
        return self._ask("POST", url, json.dumps(document).encode()).decode().strip()


def _send(http: http.client.HTTPConnection, url: str, path: Path) -> str:
    """Put a file; return what is answered."""
    size = path.stat().st_size
    if size <= _SMALL:
        http.request("PUT", url, path.read_bytes())
    else:
        http.putrequest("PUT", url)
        http.putheader("Content-Length", str(size))
        http.endheaders()
        with path.open("rb") as file:
            http.sock.sendfile(file)
    return _answer(http).read().decode("ascii").strip()


def _answer(http: http.client.HTTPConnection) -> http.client.HTTPResponse:
    response = http.getresponse()
    if response.status not in {200, 201, 206}:
        said = response.read()[:300].decode("utf-8", "replace")
        raise WrongAnswerError(f"HTTP {response.status}: {said}")
    return response


def _compare(response: http.client.HTTPResponse, original: Any, length: int) -> None:
    """Read an answer, and compare it with so many bytes of a file."""
    buffer = bytearray(min(_PIECE, length))
    view = memoryview(buffer)
    while length:
        wanted = min(len(buffer), length)
        have = 0
        while have < wanted:
            got = response.readinto(view[have:wanted])
            if not got:
                raise WrongAnswerError(f"{length - have} bytes are missing")
            have += got
        if original.read(wanted) != (buffer if wanted == len(buffer) else buffer[:wanted]):
            raise WrongAnswerError("what came back differs")
        length -= wanted
    if response.read():
        raise WrongAnswerError("more came back than was put")


class Socket:
    """The control socket of ampgrid's client: paths go to the node, which reads and writes them.

    Args:
        grid: of ampgrid.
        folder: where downloads go.
    """

    def __init__(self, grid: AmpgridGrid, folder: Path) -> None:
        self._grid = grid
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._got: list[tuple[Path, Path, int, int]] = []

    def _each(
        self, work: Callable[[Any, Any], Any], at_once: int, items: Iterable[Any]
    ) -> list[Any]:
        items = list(items)

        async def all_of_them(connection: Any) -> list[Any]:
            async def call(command: Any, **arguments: Any) -> dict[str, Any]:
                answer: dict[str, Any] = await connection.call(
                    command, deadline=_PATIENCE, **arguments
                )
                return answer

            async def share(first: int) -> list[Any]:
                return [await work(call, item) for item in items[first::at_once]]

            shares = [Deferred.fromCoroutine(share(first)) for first in range(at_once)]
            results: list[Any] = [None] * len(items)
            for first, done in enumerate(await gatherResults(shares, consumeErrors=True)):
                results[first::at_once] = done
            return results

        results: list[Any] = self._grid.run(all_of_them)
        return results

    def put(self, paths: Sequence[Path], at_once: int = 1) -> list[str]:
        """Upload files."""

        async def one(call: Any, path: Path) -> str:
            return str((await call(Upload, path=str(path)))["cap"])

        return self._each(one, at_once, paths)

    def get(self, caps: Sequence[str], paths: Sequence[Path], at_once: int = 1) -> None:
        """Download files; `settle` compares them."""
        wholes = [
            (cap, path, 0, path.stat().st_size) for cap, path in zip(caps, paths, strict=True)
        ]
        self._download(wholes, at_once)

    def get_ranges(self, cap: str, path: Path, ranges: Sequence[tuple[int, int]]) -> None:
        """Read ranges; `settle` compares them."""
        self._download([(cap, path, offset, length) for offset, length in ranges], 1)

    def _download(self, wanted: Sequence[tuple[str, Path, int, int]], at_once: int) -> None:
        numbered = []
        for number, (cap, path, offset, length) in enumerate(wanted, len(self._got)):
            copy = self._folder / str(number)
            numbered.append((cap, copy, offset, length))
            self._got.append((copy, path, offset, length))

        async def one(call: Any, item: tuple[str, Path, int, int]) -> None:
            cap, copy, offset, length = item
            await call(Download, cap=cap, path=str(copy), offset=offset, length=length)

        self._each(one, at_once, numbered)

    def make_directory(self) -> str:
        """Make a directory."""
        return str(self._grid.call(drive.MakeDirectory)["cap"])

    def put_into(self, directory: str, paths: Sequence[Path]) -> None:
        """Upload files into a directory."""

        async def one(call: Any, path: Path) -> None:
            await call(Upload, path=str(path), grid_path=f"{directory}/{path.name}")

        self._each(one, 1, paths)

    def count_children(self, directory: str) -> int:
        """List a directory, page by page."""

        async def one(call: Any, _item: None) -> int:
            listed, more = 0, {}
            while True:
                page = await call(drive.ListDirectory, path=directory, **more)
                listed += len(json.loads(page["children"]))
                if not page["next"]:
                    return listed
                more = {"start": page["next"]}

        count: int = self._each(one, 1, [None])[0]
        return count

    def settle(self) -> None:
        """Compare what was downloaded, and remove it."""
        got, self._got = self._got, []
        for copy, path, offset, length in got:
            with copy.open("rb") as found, path.open("rb") as original:
                original.seek(offset)
                left = length
                while left:
                    piece = original.read(min(_PIECE, left))
                    if not piece or found.read(len(piece)) != piece:
                        raise WrongAnswerError("what came back differs")
                    left -= len(piece)
                if found.read(1):
                    raise WrongAnswerError("more came back than was put")
            copy.unlink()


#: Children of one call that links several.
_BATCH = 250


def make_filled(grid: Grid, count: int) -> str:
    """Make a directory with so many children that are there already; return its write cap.

    A listing alone is measured of it, so each system makes it in the way that is quickest there.
    """
    if not isinstance(grid, AmpgridGrid):
        children = {
            name: ["filenode", {"ro_uri": cap, "metadata": {}}] for name, cap in _children(count)
        }
        return Gateway(grid).post("/uri?t=mkdir-with-children", children)
    directory = str(grid.call(drive.MakeDirectory)["cap"])
    children_of = [{"name": name, "cap": cap} for name, cap in _children(count)]
    for start in range(0, count, _BATCH):
        batch = json.dumps(children_of[start : start + _BATCH])
        grid.call(drive.LinkChildren, path=directory, children=batch)
    return directory


def _children(count: int) -> list[tuple[str, str]]:
    return [(f"child {n:06}", LitCap(b"%d" % n).to_string()) for n in range(count)]
