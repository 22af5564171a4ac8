"""A gateway over a grid in memory, and a client that speaks HTTP to it, without any port."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from functools import cache
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.node.public_root import SETTLE_SECONDS
from ampgrid.testing.grid import MemoryGrid
from ampgrid.testing.pipes import MemoryTransport, join
from ampgrid.web.gateway import Gateway
from ampgrid.web.tokens import Tokens
from tests.hygiene_plugin import at_end

#: What pipes in memory say that they are connected to.
HOST = "127.0.0.1:2"
ORIGIN = f"http://{HOST}"
#: Headers of a browser that shows a page of this gateway.
OWN_PAGE = {
    "User-Agent": "Mozilla/5.0",
    "Origin": ORIGIN,
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
}


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


@frozen
class Reply:
    """An answer, as the standard library reads it.

    Attributes:
        status: of HTTP.
        body: all of it.
        headers: by name; the last of each.
        raw: as it came.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def read_reply(data: bytes, method: str = "GET") -> Reply:
    """Read an answer; raises if it is cut short."""
    # The standard library passes over an interim answer.
    response = HTTPResponse(_Socket(data), method=method)  # type: ignore[arg-type]
    response.begin()
    body = response.read()
    return Reply(response.status, body, response.headers, data)


class Client(Protocol):
    """One connection of a client.

    Attributes:
        received: all bytes that came.
        lost: whether the connection is over.
    """

    transport: MemoryTransport

    def __init__(self) -> None:
        self.received = b""
        self.lost = False
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True
        self.ended.callback(None)


def request_bytes(
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    host: str = HOST,
) -> bytes:
    """Return a request that ends its connection."""
    told = {"Host": host, "Connection": "close", **(headers or {})}
    if (body or method in {"PUT", "POST"}) and "Transfer-Encoding" not in told:
        told.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items())]
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body


def form_bytes(
    fields: Mapping[str, str], files: Mapping[str, bytes] | None = None, boundary: str = "xXx"
) -> tuple[bytes, dict[str, str]]:
    """Return the body of a form, and its headers; with files if any are given.

    Args:
        fields: that are no files.
        files: by file name, each in a field named file.
        boundary: between the parts.
    """
    if files is None:
        return urlencode(fields).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    head = f"--{boundary}\r\nContent-Disposition: form-data"
    parts = [
        f'{head}; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()
    ]
    for name, data in files.items():
        head = f'Content-Disposition: form-data; name="file"; filename="{name}"'
        parts.append(
            f"--{boundary}\r\n{head}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
            + data
            + b"\r\n"
        )
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


@cache
def shared_grid() -> MemoryGrid:
    """Return the grid of all tests of this process, with a public root; made at its first use."""
    folder = tempfile.TemporaryDirectory()
    grid = MemoryGrid(Path(folder.name), 4, (2, 3, 3), max_segment_size=50_000)
    grid.introducer.config = evolve(grid.introducer.config, public_root=True)
    grid.start()
    grid.clock.advance(2 * SETTLE_SECONDS)
    assert grid.client.core.drive.public.cap is not None

    def end() -> None:
        grid.stop()
        folder.cleanup()

    at_end(end)
    return grid


class GatewayCase(SynchronousTestCase):
    """Tests with a gateway, one for each class, over one grid for all.

    A test works in a directory of its own (`new_directory`); what it does to the nodes of the
    grid it undoes.

    Attributes:
        grid: with a public root, four storage nodes, and 2 of 3.
        gateway: over the client of the grid.
    """

    grid: ClassVar[MemoryGrid]
    gateway: ClassVar[Gateway]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.grid = shared_grid()
        cls.gateway = cls.make_gateway()

    @classmethod
    def make_gateway(cls, **settings: Any) -> Gateway:
        return Gateway(cls.grid.client.core, Tokens(b"t" * 32), **settings)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.gateway.stop()
        cls.grid.clock.advance(1)
        super().tearDownClass()

    # Speaking HTTP.

    def connect(self, gateway: Gateway | None = None) -> Client:
        """Return a client that is connected."""
        channel = (gateway or self.gateway).factory.buildProtocol(None)
        assert channel is not None
        client = Client()
        join(self.grid.clock, client, channel)
        return client

    def exchange(self, data: bytes, method: str = "GET", **settings: Any) -> Reply:
        """Send bytes, and return the answer when the connection has ended."""
        client = self.connect(**settings)
        client.transport.write(data)
        self.wait(client)
        return read_reply(client.received, method)

    def wait(self, client: Client) -> None:
        """Wait until the connection of a client has ended."""

        async def ended() -> None:
            await client.ended

        self.grid.run(ended())

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        host: str = HOST,
        **settings: Any,
    ) -> Reply:
        """Send one request and return the answer."""
        data = request_bytes(method, path, body, headers, host=host)
        return self.exchange(data, method, **settings)

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def put(self, path: str, body: bytes = b"", **headers: str) -> Reply:
        told = {k.replace("_", "-"): v for k, v in headers.items()}
        return self.ask("PUT", path, body, told)

    def post(
        self,
        path: str,
        files: Mapping[str, bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: str,
    ) -> Reply:
        """Send a form, with ``t`` and the like as its fields."""
        body, told = form_bytes(fields, files)
        return self.ask("POST", path, body, {**told, **(headers or {})})

    def delete(self, path: str) -> Reply:
        return self.ask("DELETE", path)

    # Material.

    def new_directory(self) -> str:
        """Make a directory of this test's own; returns its cap."""
        reply = self.put("/uri?t=mkdir")
        self.assertEqual(reply.status, 201)
        return reply.text

    def assert_status(self, reply: Reply, status: int) -> Reply:
        self.assertEqual(reply.status, status, reply.body[:300])
        return reply
