"""A proxy that makes a slow link of the loopback: so many bits a second, so long on the way.

    python tests/benchmarks/slow_proxy.py --mbit 20 --delay 25 7001:8001 7002:8002

It listens on the ports before the colons and passes everything on to those behind them, all on
127.0.0.1. All connections share one link, as they share the access of somebody at home: each
direction carries so many bits a second, and every byte is so many milliseconds on its way. A
connection carries its first byte after one round trip, which TCP takes to open it.

A real link keeps a sender waiting when its queue is full. So here: of each connection at most
`ROOM` bytes wait for the link, and the buffers of the system before it are kept as small as on a
path of that kind (segments of 1,460 bytes, a receive window of `WINDOW`). It stops when its
standard input is closed.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet import protocol

#: Of each connection, bytes that wait for the link at most, but for the last piece read.
ROOM = 32 * 1024
#: Bytes read at once.
PIECE = 16 * 1024
#: What the system takes in beside that, bytes: about what is on the way on a link of that kind.
WINDOW = 16 * 1024
_SEGMENT = 1460
#: What the end of a connection takes on the link, bytes: a segment without data.
_END_BYTES = 40
_HOST = "127.0.0.1"


class Queue:
    """Makes calls at their moments, and always in the order in which they were asked for.

    The reactor alone does not: it counts from when it is told, which can be late by more than
    what lies between two pieces, and bytes of a connection would change places.

    Args:
        clock: tells seconds, and makes calls later.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._waiting: deque[tuple[float, Callable[[], Any]]] = deque()
        self._is_set = False

    def add(self, moment: float, call: Callable[[], Any]) -> None:
        """Call at a moment, seconds of the clock, which is not before that of any other."""
        self._waiting.append((moment, call))
        self._set()

    def _set(self) -> None:
        if self._waiting and not self._is_set:
            self._is_set = True
            pause = self._waiting[0][0] - self._clock.seconds()
            self._clock.callLater(max(0.0, pause), self._run)

    def _run(self) -> None:
        self._is_set = False
        now = self._clock.seconds()
        try:
            while self._waiting and self._waiting[0][0] <= now:
                _moment, call = self._waiting.popleft()
                call()
        finally:
            self._set()


class SlowLink:
    """One direction of a link, which is a model and touches no socket.

    What is sent leaves in turn, each piece when the one before it has left, and arrives a fixed
    delay after its last byte has left.

    Args:
        clock: tells seconds, and makes calls later.
        rate: bytes a second.
        delay: from one end to the other, seconds.
    """

    def __init__(self, clock: Any, rate: float, delay: float) -> None:
        self._clock = clock
        self._rate = rate
        self._free_at = 0.0
        self._leaving = Queue(clock)
        self._arriving = Queue(clock)
        self._delay = delay

    def send(self, size: int, left: Callable[[], Any], arrived: Callable[[], Any]) -> None:
        """Send so many bytes.

        Args:
            size: how many, at least one: what is sent later arrives later.
            left: called when the last of them has left.
            arrived: called when the last of them is at the other end.
        """
        now = self._clock.seconds()
        self._free_at = max(now, self._free_at) + size / self._rate
        self._leaving.add(self._free_at, left)
        self._arriving.add(self._free_at + self._delay, arrived)


class End(protocol.Protocol):
    """One end of a connection through the proxy: what comes in here goes to the other end.

    Args:
        link: what carries it there.
    """

    def __init__(self, link: SlowLink) -> None:
        self._link = link
        self._waiting = 0
        self._open = False
        self._lost = False
        self.other: End | None = None

    def connectionMade(self) -> None:
        """Read nothing yet; see `begin`."""
        assert self.transport is not None
        self.transport.bufferSize = PIECE
        self.transport.setTcpNoDelay(True)
        self.transport.pauseProducing()

    def begin(self) -> None:
        """Begin to pass on what comes."""
        self._open = True
        self._read_on()

    def _read_on(self) -> None:
        if self._open and not self._lost and self._waiting < ROOM:
            self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        """Send it over the link, and read no more while too much waits for it."""
        self._waiting += len(data)
        if self._waiting >= ROOM:
            self.transport.pauseProducing()

        def left() -> None:
            self._waiting -= len(data)
            self._read_on()

        self._link.send(len(data), left, lambda: self._arrived(data))

    def _arrived(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        """Let the other end hear of it, after all that was sent."""
        self._lost = True
        self._link.send(_END_BYTES, lambda: None, self._end_other)

    def _end_other(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.leave()

    def leave(self) -> None:
        """Read no more, and close when all is written."""
        self._lost = True
        self.transport.loseConnection()


class Entrance(protocol.ServerFactory):
    """What listens in the place of one server.

    Args:
        clock: the reactor.
        up: the link to the servers.
        down: the link from them.
        delay: of each, seconds.
        dial: connects a protocol to the server.
    """

    noisy = False

    def __init__(
        self,
        clock: Any,
        up: SlowLink,
        down: SlowLink,
        delay: float,
        dial: Callable[[End], Any],
    ) -> None:
        self._clock = clock
        self._up = up
        self._down = down
        self._delay = delay
        self._dial = dial

    def buildProtocol(self, addr: Any) -> End:
        """Make the two ends of a new connection."""
        near, far = End(self._up), End(self._down)
        near.other, far.other = far, near
        self._dial(far)
        self._clock.callLater(2 * self._delay, near.begin)
        self._clock.callLater(2 * self._delay, far.begin)
        return near


def _make_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
    return made


def _adopt(made: socket.socket, adopt: Callable[..., Any], factory: Any) -> None:
    made.setblocking(False)
    adopt(made.fileno(), socket.AF_INET, factory)
    made.close()  # the reactor has a copy


def _dialler(reactor: Any, port: int) -> Callable[[End], None]:
    def dial(far: End) -> None:
        made = _make_socket()
        try:
            made.connect((_HOST, port))  # of this machine: it is there at once or refuses
        except OSError:
            # As if the server had answered so: the near end hears of it in a moment.
            far.connectionLost()
            made.close()
            return
        factory = protocol.Factory.forProtocol(lambda: far)
        factory.noisy = False
        _adopt(made, reactor.adoptStreamConnection, factory)

    return dial


def _listen(reactor: Any, port: int, factory: Entrance) -> None:
    made = _make_socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((_HOST, port))
    made.listen(128)
    _adopt(made, reactor.adoptStreamPort, factory)


def _watch_input(reactor: Any) -> None:
    from twisted.internet.stdio import StandardIO

    class Watch(protocol.Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            if reactor.running:
                reactor.stop()

    StandardIO(Watch(), reactor=reactor)


def _pair(text: str) -> tuple[int, int]:
    outer, colon, inner = text.partition(":")
    if not colon or not outer.isdigit() or not inner.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not PORT:PORT")
    return int(outer), int(inner)


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mbit", type=float, default=20.0, help="a second, each direction")
    parser.add_argument("--delay", type=float, default=25.0, help="each way, milliseconds")
    parser.add_argument("pairs", type=_pair, nargs="+", metavar="PORT:SERVERS_PORT")
    options = parser.parse_args()
    if options.mbit <= 0 or options.delay < 0:
        parser.error("--mbit must be more than 0, and --delay not less")
    from twisted.internet import reactor

    rate, delay = options.mbit * 1e6 / 8, options.delay / 1000
    up, down = SlowLink(reactor, rate, delay), SlowLink(reactor, rate, delay)
    for outer, inner in options.pairs:
        _listen(reactor, outer, Entrance(reactor, up, down, delay, _dialler(reactor, inner)))
    _watch_input(reactor)
    # Told once it listens.
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main()
