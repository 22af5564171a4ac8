"""The gateway of a node, and what stands in its way: a full disk, a port that is taken."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock

from ampgrid.errors import ConfigError
from ampgrid.node.creation import create_node
from ampgrid.web.face import WebFace
from tests.unit.web.kit import GatewayCase


class Port:
    """A port of a loopback that is nowhere."""

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8011)

    def stopListening(self) -> Deferred[None]:
        return succeed(None)


class Loopback(MemoryReactorClock):
    def listenTCP(self, *_args: Any, **_how: Any) -> Any:
        return Port()


class Taken(Loopback):
    """A loopback whose first port another process takes in the last moment."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def listenTCP(self, port: int, *_args: Any, **_how: Any) -> Any:
        self.asked.append(port)
        if len(self.asked) == 1:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        return Port()


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file of this process grow, as if there were no room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class FullDiskTests(GatewayCase):
    def setUp(self) -> None:
        super().setUp()
        self.node = create_node(self.mktemp(), listen="127.0.0.1:0")
        self.face = WebFace(self.node, self.node.load_config(), Loopback())
        self.addCleanup(lambda: self.grid.run(self.face.stop()))

    def test_it_starts_without_a_token_and_without_its_address_noted(self) -> None:
        with full_disk():
            self.grid.run(self.face.start(self.grid.client.core))
        assert self.face.gateway is not None
        self.assertFalse(self.node.web_token_path.exists())
        self.assertFalse(self.node.node_url_path.exists())

    def test_a_token_that_is_there_and_no_good_is_refused_still(self) -> None:
        self.node.web_token_path.write_bytes(b"no token\n")
        self.node.web_token_path.chmod(0o600)
        with self.assertRaises(ConfigError):
            self.grid.run(self.face.start(self.grid.client.core))


class TakenPortTests(GatewayCase):
    """As when two nodes of one machine start in the same moment."""

    def start(self) -> WebFace:
        self.reactor = Taken()
        face = WebFace(self.node, self.node.load_config(), self.reactor)
        self.addCleanup(lambda: self.grid.run(face.stop()))
        self.grid.run(face.start(self.grid.client.core))
        return face

    def test_where_nobody_asked_for_it_another_is_picked(self) -> None:
        self.node = create_node(self.mktemp(), listen="127.0.0.1:0")
        self.start()
        self.assertEqual(self.reactor.asked, [8011, 0])

    def test_where_somebody_did_it_is_told(self) -> None:
        self.node = create_node(self.mktemp(), listen="127.0.0.1:0", web="8011")
        with self.assertRaises(ConfigError) as caught:
            self.start()
        self.assertIn("in use. Choose another port", str(caught.exception))
        self.assertEqual(self.reactor.asked, [8011])
