"""The control socket, over real sockets: who is served, with what, and what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands import control, errors, introduction, session, storage
from ampgrid.commands.arguments import Count
from ampgrid.commands.base import GridCommand
from ampgrid.commands.session import PROTOCOL_VERSION, Hello, Ping
from ampgrid.errors import ConfigError, NotConnectedError, NotRunningError
from ampgrid.testing.clock import HeapClock
from ampgrid.testing.pipes import MemoryNet
from ampgrid.wire import Connection, Facts, boxes, connect_control, listen_control, unixsocket
from ampgrid.wire.hello import MAX_CALLS, say
from ampgrid.wire.unixsocket import MOST_PATH_BYTES, ControlPort
from tests.patience import PATIENCE
from tests.wire.kit import (
    Break,
    Echo,
    Hold,
    Host,
    Loop,
    Recorder,
    Serving,
    ask_box,
    commands_in,
    on_loop,
)

FACTS = Facts(frozenset({"test"}), "nick", "kit/1")
PEER_COMMANDS = commands_in(introduction, storage)
CONTROL_COMMANDS = commands_in(control)


class ReadFrom(GridCommand):
    """Read all of a descriptor."""

    arguments = [(b"descriptor", amp.Descriptor()), (b"number", Count(9, optional=True))]
    response = [(b"size", Count())]


class Reader(Recorder):
    @ReadFrom.responder
    async def read_from(self, descriptor: int, number: int | None) -> dict[str, Any]:
        with os.fdopen(descriptor, "rb") as file:
            return {"size": len(file.read())}


class Collecting(Protocol):
    """Collects bytes until so many boxes are here, or the end."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._data = b""
        self.done: Deferred[list[dict[bytes, bytes]]] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        with contextlib.suppress(ValueError):
            found = [dict(box) for box in amp.parseString(self._data)]
            if len(found) >= self._count:
                self._count = 10**9
                self.done.callback(found)

    def connectionLost(self, reason: Any = None) -> None:
        if not self.done.called:
            self.done.callback([])


def open_descriptors() -> dict[str, str]:
    """What is open, but for the directory that is read to tell."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[name] = str(Path("/proc/self/fd", name).readlink())
    return found


class SocketTest(SynchronousTestCase):
    """A directory of its own, and everything closed at the end."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="ampgrid-test-")
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "ampgrid.sock"
        self.accepted: list[Connection] = []
        self.loop = Loop()
        self.reactor = self.loop.reactor
        self.addCleanup(self.loop.close)

    async def listen(self, *locators: amp.CommandLocator, path: Path | None = None) -> ControlPort:
        def roles(connection: Connection) -> Sequence[amp.CommandLocator]:
            self.accepted.append(connection)
            return locators

        port = await listen_control(self.reactor, path or self.path, FACTS, roles)
        self.addCleanup(lambda: self.loop.run(port.stopListening()))
        return port

    async def connect(self, path: Path | None = None) -> Connection:
        connection = await connect_control(self.reactor, path or self.path)
        self.addCleanup(lambda: self.loop.run(self.gone(connection)))
        return connection

    async def gone(self, connection: Connection) -> None:
        """End a connection, and wait until both ends have noticed."""
        ends = [end for end in (connection, *self.accepted) if not end.transport.disconnected]
        for end in ends:
            end.abort("the test is over")
        while not all(end.transport.disconnected for end in ends):
            await deferLater(self.reactor, 0)


class MeetingTest(SocketTest):
    @on_loop
    async def test_hello_ping_and_the_roles(self) -> None:
        await self.listen(Recorder())
        connection = await self.connect()
        answer = await connection.call(Hello, **say(Facts(), bytes(32)))
        self.assertEqual(answer["version"], PROTOCOL_VERSION)
        self.assertEqual((answer["nickname"], answer["services"]), ("nick", "test"))
        self.assertEqual(await connection.call(Ping), {})
        data = bytes(65_000)
        self.assertEqual(await connection.call(Echo, data=data), {"data": data})
        self.assertEqual(connection.peer_id, b"")

    @on_loop
    async def test_the_node_may_ping_its_client(self) -> None:
        await self.listen()
        connection = await self.connect()
        await connection.call(Ping)
        self.assertEqual(await self.accepted[0].call(Ping), {})

    @on_loop
    async def test_stock_amp_as_client(self) -> None:
        await self.listen(Recorder())
        endpoint = UNIXClientEndpoint(self.reactor, str(self.path))
        stock = await connectProtocol(endpoint, amp.AMP())
        self.assertEqual(await stock.callRemote(Echo, data=b"x"), {"data": b"x"})
        self.assertEqual(await stock.callRemote(Ping), {})
        asked = [stock.callRemote(Hold, number=number) for number in range(200)]
        await stock.callRemote(Ping)
        self.assertTrue(self.accepted[0].connected, "it knows no credits")
        with self.assertRaises(errors.NoSpaceError):
            await stock.callRemote(Break, how="declared")
        lost: Deferred[None] = Deferred()
        self.accepted[0].when_lost(lambda: lost.callback(None))
        for each in asked:
            each.addErrback(lambda _: None)
        stock.transport.loseConnection()
        await lost

    @on_loop
    async def test_nobody_listens(self) -> None:
        with self.assertRaises(NotRunningError):
            await connect_control(self.reactor, self.path)
        with self.assertRaises(NotRunningError):
            await connect_control(self.reactor, self.path.parent / ("no" * 100) / "ampgrid.sock")

    async def ask_all(self, commands: Sequence[type[Any]]) -> list[dict[bytes, bytes]]:
        endpoint = UNIXClientEndpoint(self.reactor, str(self.path))
        collecting = await connectProtocol(endpoint, Collecting(len(commands)))
        for number, command in enumerate(commands):
            collecting.transport.write(ask_box(command.commandName, tag=b"%d" % number))
        answers: list[dict[bytes, bytes]] = await collecting.done
        lost: Deferred[None] = Deferred()
        self.accepted[-1].when_lost(lambda: lost.callback(None))
        collecting.transport.loseConnection()
        await lost
        return answers

    @on_loop
    async def test_peer_commands_are_unhandled(self) -> None:
        serving = Serving(CONTROL_COMMANDS)
        await self.listen(serving)
        answers = await self.ask_all([*PEER_COMMANDS, session.StartTLS])
        self.assertEqual(
            [box[boxes.ERROR_CODE] for box in answers],
            [amp.UNHANDLED_ERROR_CODE] * (len(PEER_COMMANDS) + 1),
        )
        self.assertEqual(serving.served, [])

    @on_loop
    async def test_control_commands_are_served(self) -> None:
        serving = Serving(CONTROL_COMMANDS)
        await self.listen(serving)
        await self.ask_all(CONTROL_COMMANDS)
        self.assertEqual(serving.served, [each.commandName for each in CONTROL_COMMANDS])


class BusyTest(SocketTest):
    """Many connect before the node gets to accept any."""

    def crowd(self, backlog: int) -> socket.socket:
        """A socket whose queue is full."""
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(str(self.path))
        listening.listen(backlog)
        with self.assertRaises(BlockingIOError):
            while True:
                self.knock()
        return listening

    def knock(self) -> None:
        knocking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.addCleanup(knocking.close)
        knocking.connect(str(self.path))

    @on_loop
    async def test_hundreds_wait_to_be_accepted(self) -> None:
        """As many as this test may have descriptors for, at both ends."""
        await self.listen(Recorder())
        for _ in range(300):
            self.knock()
        connection = await self.connect()
        self.assertEqual(await connection.call(Ping), {})
        while not all(end.transport.disconnected for end in self.accepted[:-1]):
            for end in self.accepted[:-1]:
                end.abort("the test is over")
            await deferLater(self.reactor, 0)

    @on_loop
    async def test_a_full_queue_is_tried_again(self) -> None:
        listening = self.crowd(3)
        self.patch(unixsocket, "_BUSY_SECONDS", PATIENCE)
        waiting = Deferred.fromCoroutine(connect_control(self.reactor, self.path))
        await deferLater(self.reactor, 0.2)
        self.assertFalse(waiting.called)
        for _ in range(3):
            listening.accept()[0].close()
        connection = await waiting
        self.assertTrue(connection.connected)
        connection.abort("the test is over")
        while not connection.transport.disconnected:
            await deferLater(self.reactor, 0)

    @on_loop
    async def test_the_pauses_grow_and_are_drawn(self) -> None:
        listening = self.crowd(0)
        self.patch(unixsocket, "_BUSY_SECONDS", PATIENCE)
        bounds: list[tuple[float, float]] = []

        def uniform(least: float, most: float) -> float:
            bounds.append((least, most))
            if len(bounds) == 10:
                listening.accept()[0].close()
            return 0.0

        connection = await connect_control(self.reactor, self.path, uniform)
        connection.abort("the test is over")
        self.assertEqual(bounds[:3], [(0.005, 0.01), (0.01, 0.02), (0.02, 0.04)])
        self.assertEqual(bounds[-1], (0.25, 0.5))
        while not connection.transport.disconnected:
            await deferLater(self.reactor, 0)

    @on_loop
    async def test_busy_for_long_is_not_taken_for_absent(self) -> None:
        self.crowd(0)
        self.patch(unixsocket, "_BUSY_SECONDS", 0.1)
        before = open_descriptors()
        with self.assertRaises(NotConnectedError) as caught:
            await connect_control(self.reactor, self.path)
        self.assertNotIsInstance(caught.exception, NotRunningError)
        self.assertIn("busy", str(caught.exception))
        self.assertEqual(open_descriptors(), before)

    @on_loop
    async def test_given_up_while_it_waits(self) -> None:
        self.crowd(0)
        before = open_descriptors()
        waiting = Deferred.fromCoroutine(connect_control(self.reactor, self.path))
        waiting.cancel()
        with self.assertRaises(CancelledError):
            await waiting
        self.assertEqual(open_descriptors(), before)


class OverTcpTest(SynchronousTestCase):
    def test_control_commands_are_unhandled(self) -> None:
        """Over TCP, where the roles of a peer are served and nothing else."""
        net = MemoryNet(HeapClock())
        serving = Serving(PEER_COMMANDS)
        one, two = Host(net, 1), Host(net, 2, roles=lambda _: [serving])
        connection = net.clock.run(one.dial(two))

        for command in CONTROL_COMMANDS:
            asking = connection._calls.ask(command.commandName, {}, None, 5)
            connection._pump()
            with self.assertRaises(amp.RemoteAmpError) as caught:
                net.clock.run(asking)
            self.assertEqual(caught.exception.errorCode, amp.UNHANDLED_ERROR_CODE)
        self.assertEqual(serving.served, [])
        for command in PEER_COMMANDS:
            asking = connection._calls.ask(command.commandName, {}, None, 5)
            connection._pump()
            net.clock.run(asking)
        self.assertEqual(serving.served, [each.commandName for each in PEER_COMMANDS])


class PathTest(SocketTest):
    @on_loop
    async def test_only_the_user_may_connect(self) -> None:
        await self.listen()
        mode = self.path.stat().st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(stat.S_IMODE(mode), 0o600)

    @on_loop
    async def test_another_user_is_not_served(self) -> None:
        recorder = Recorder()
        await self.listen(recorder)
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(PATIENCE)
        self.addCleanup(raw.close)
        if os.getuid() == 0:
            self.path.parent.chmod(0o755)
            self.path.chmod(0o666)
            os.seteuid(65_534)
            try:
                raw.connect(str(self.path))
            finally:
                os.seteuid(0)
        else:
            self.patch(os, "getuid", lambda: 65_534)
            raw.connect(str(self.path))
        with contextlib.suppress(OSError):
            raw.send(ask_box(b"Echo", data=b"x"))

        while not self.accepted or not self.accepted[0].transport.disconnected:
            await deferLater(self.reactor, 0)
        with contextlib.suppress(ConnectionError):
            self.assertEqual(raw.recv(1_000), b"")
        self.assertEqual(recorder.calls, [])
        self.assertFalse(self.accepted[0].connected)

    @on_loop
    async def test_the_socket_goes_with_the_node(self) -> None:
        port = await self.listen()
        self.assertTrue(self.path.exists())
        await port.stopListening()
        self.assertFalse(self.path.exists())

    @on_loop
    async def test_a_stale_socket_is_replaced(self) -> None:
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(self.path))
        stale.close()
        self.assertTrue(self.path.exists())
        with self.assertRaises(NotRunningError):
            await connect_control(self.reactor, self.path)
        await self.listen()
        connection = await self.connect()
        self.assertEqual(await connection.call(Ping), {})

    @on_loop
    async def test_something_else_is_not_removed(self) -> None:
        self.path.write_text("precious")
        with self.assertRaises(ConfigError):
            await self.listen()
        self.assertEqual(self.path.read_text(), "precious")
        self.path.unlink()
        self.path.symlink_to(self.path.parent / "elsewhere")
        with self.assertRaises(ConfigError):
            await self.listen()
        self.assertTrue(self.path.is_symlink())

    @on_loop
    async def test_a_path_longer_than_a_socket_can_have(self) -> None:
        deep = self.path.parent / ("d" * 100) / ("e" * 100)
        deep.mkdir(parents=True)
        path = deep / "ampgrid.sock"
        # A folder of its own: whatever runs beside this test makes temporary files as well.
        temporary = self.path.parent / "t"
        temporary.mkdir()
        self.patch(tempfile, "tempdir", str(temporary))
        self.assertGreater(len(os.fsencode(path)), MOST_PATH_BYTES)
        # The reactor runs then, and the first port of a process has opened what all need.
        await (await self.listen()).stopListening()
        before = open_descriptors()
        port = await self.listen(Recorder(), path=path)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        connection = await self.connect(path)
        self.assertEqual(await connection.call(Echo, data=b"x"), {"data": b"x"})
        await self.gone(connection)
        await port.stopListening()
        self.assertFalse(path.exists())
        # Others may have been closed meanwhile, by the collector.
        self.assertLessEqual(open_descriptors().items(), before.items())
        self.assertEqual(os.listdir(temporary), [])

    @on_loop
    async def test_the_longest_path_that_fits(self) -> None:
        room = MOST_PATH_BYTES - len(os.fsencode(self.path.parent)) - 1
        for length in (room, room + 1):
            path = self.path.parent / ("s" * length)
            port = await self.listen(path=path)
            connection = await self.connect(path)
            self.assertEqual(await connection.call(Ping), {})
            await port.stopListening()


class DescriptorTest(SocketTest):
    """Files travel as descriptors, and none is left open."""

    def setUp(self) -> None:
        super().setUp()
        self.file = self.path.parent / "file"
        self.file.write_bytes(bytes(1_234))

    def opened(self) -> int:
        descriptor = os.open(self.file, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        return descriptor

    @on_loop
    async def test_a_descriptor_is_passed(self) -> None:
        await self.listen(Recorder(), Reader())
        connection = await self.connect()
        mine = self.opened()
        await connection.call(Ping)
        before = open_descriptors()
        for _ in range(3):
            os.lseek(mine, 0, os.SEEK_SET)
            answer = await connection.call(ReadFrom, descriptor=mine)
            self.assertEqual(answer, {"size": 1_234})
        self.assertEqual(open_descriptors(), before)

    @on_loop
    async def test_stock_amp_passes_one(self) -> None:
        await self.listen(Reader())
        endpoint = UNIXClientEndpoint(self.reactor, str(self.path))
        stock = await connectProtocol(endpoint, amp.AMP())
        answer = await stock.callRemote(ReadFrom, descriptor=self.opened())
        self.assertEqual(answer, {"size": 1_234})
        lost: Deferred[None] = Deferred()
        self.accepted[0].when_lost(lambda: lost.callback(None))
        stock.transport.loseConnection()
        await lost

    @on_loop
    async def test_descriptors_that_are_never_claimed(self) -> None:
        await self.listen(Recorder())
        connection = await self.connect()
        await connection.call(Ping)
        before = open_descriptors()
        mine = [self.opened() for _ in range(5)]
        for each in mine:
            with self.assertRaises(errors.NotAllowedError):
                await connection.call(ReadFrom, descriptor=each)
        self.assertEqual(len(open_descriptors()), len(before) + 10)
        await self.gone(connection)
        self.assertEqual(len(open_descriptors()), len(before) + 5 - 2)

    @on_loop
    async def test_a_descriptor_of_a_malformed_call(self) -> None:
        class Wrong(ReadFrom):
            commandName = b"ReadFrom"
            arguments = [(b"descriptor", amp.Descriptor()), (b"number", Count())]

        await self.listen(Reader())
        connection = await self.connect()
        mine = self.opened()
        await connection.call(Ping)
        before = open_descriptors()
        with self.assertRaises(errors.BadArgumentError):
            await connection.call(Wrong, descriptor=mine, number=10)
        self.assertEqual(open_descriptors(), before)

    @on_loop
    async def test_a_descriptor_that_was_not_sent(self) -> None:
        class Wrong(ReadFrom):
            commandName = b"ReadFrom"
            arguments = [(b"descriptor", Count())]

        await self.listen(Reader())
        connection = await self.connect()
        for number in (0, 7):
            with self.assertRaises(errors.BadArgumentError):
                await connection.call(Wrong, descriptor=number)
        self.assertEqual(await connection.call(Ping), {})

    @on_loop
    async def test_more_descriptors_than_calls(self) -> None:
        await self.listen(Recorder())
        connection = await self.connect()
        mine = self.opened()
        await connection.call(Ping)
        before = open_descriptors()
        lost: Deferred[None] = Deferred()
        self.accepted[0].when_lost(lambda: lost.callback(None))
        for _ in range(MAX_CALLS + 1):
            calling = Deferred.fromCoroutine(connection.call(ReadFrom, descriptor=mine))
            calling.addErrback(lambda _: None)
        await lost
        await self.gone(connection)
        self.assertLessEqual(len(open_descriptors()), len(before))
