"""Connections, a database, a clock's friends: what the tests of the peers stand on."""

from __future__ import annotations

import hashlib

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.protocols import amp

from ampgrid.commands.session import Ping
from ampgrid.crypto.identity import Identity
from ampgrid.errors import BadArgumentValueError, CallTimeoutError, NotConnectedError
from ampgrid.formats.announcement import sign


class InlineThreads:
    """Runs everything at once."""

    def run(self, function, /, *args, **kwargs):
        return maybeDeferred(function, *args, **kwargs)


class Pong(amp.CommandLocator):
    """Answers Ping."""

    @Ping.responder
    async def ping(self):
        return {}


class FakeConnection:
    """One end of a connection without a wire; every value passes through the Command's types.

    Calls go to the ``locators`` of the other end if there is one (see `connect`), or are recorded
    and answered by ``answer(command, arguments)``: a dict, an exception, or a Deferred.
    """

    def __init__(self, peer_id, *, services=(), dialled=False, clock=None, nickname=""):
        self.peer_id = peer_id
        self.peer_services = frozenset(services)
        self.peer_nickname = nickname
        self.peer_software = "fake 1"
        self.dialled = dialled
        self.connected = True
        self.calls = []
        self.aborted = None
        self.answer = lambda command, arguments: {}
        self.other = None
        self.locators = [Pong()]
        self._clock = clock or Clock()
        self._lost = []
        self._open = set()

    async def call(self, command, /, *, operation=None, deadline=60.0, **arguments):
        box = command.makeArguments(arguments, None)
        if not self.connected:
            raise NotConnectedError("not connected")
        parsed = command.parseArguments(box, None)
        self.calls.append((command, parsed))
        if self.other is not None:
            result = self._call_other(command, box)
        else:
            result = maybeDeferred(self._recorded, command, parsed)
            result.addCallback(lambda answer: command.makeResponse(answer, None))
        self._open.add(result)
        timer = self._clock.callLater(deadline, self._time_out, result)
        try:
            answer = await result
        except amp.RemoteAmpError as error:
            raise command.reverseErrors[error.errorCode](error.description) from None
        finally:
            self._open.discard(result)
            if timer.active():
                timer.cancel()
        return command.parseResponse(answer, None)

    def _call_other(self, command, box):
        for locator in self.other.locators:
            responder = locator.locateResponder(command.commandName)
            if responder is not None:
                return maybeDeferred(responder, box)
        raise AssertionError(f"{command} is not answered")

    def _recorded(self, command, parsed):
        answer = self.answer(command, parsed)
        if isinstance(answer, Exception):
            # Only what the Command declares can cross.
            assert isinstance(answer, tuple(command.allErrors)), answer
            raise answer
        return answer

    def _time_out(self, result):
        if not result.called:
            result.errback(CallTimeoutError("no answer"))

    def when_lost(self, function):
        if self.connected:
            self._lost.append(function)
        else:
            function()

    def abort(self, reason):
        self.aborted = reason
        self.lose()

    def lose(self):
        """The connection goes, at both ends."""
        if not self.connected:
            return
        self.connected = False
        for result in list(self._open):
            if not result.called:
                result.errback(NotConnectedError("lost"))
        callbacks, self._lost = self._lost, []
        for function in callbacks:
            function()
        if self.other is not None:
            self.other.lose()

    def named(self, command):
        """Return the arguments of the recorded calls of one Command."""
        return [arguments for called, arguments in self.calls if called is command]


def connect(dialler_id, listener_id, *, dialler_services=(), listener_services=(), clock=None):
    """Return the two ends of one connection: the dialler's, the listener's."""
    here = FakeConnection(listener_id, services=listener_services, dialled=True, clock=clock)
    there = FakeConnection(dialler_id, services=dialler_services, clock=clock)
    here.other, there.other = there, here
    return here, there


class MemoryPeerStore:
    """The twin of `ampgrid.store.peerdb.PeerDatabase`; one contract is run over both."""

    def __init__(self):
        self.rows = {}
        self.times = {}
        self.meta = {}
        self.sequence = 0
        self.broken = False

    def _work(self):
        if self.broken:
            raise OSError("the disk failed")

    def load(self):
        self._work()
        return [(node_id, *row) for node_id, row in self.rows.items()]

    def put(self, node_id, sequence, packed, now):
        self._work()
        first_seen = now
        if node_id in self.rows:
            if self.rows[node_id][0] > sequence:
                return False
            first_seen = self.rows[node_id][2]
        self.rows[node_id] = (sequence, packed, first_seen, now)
        return True

    def meetings(self):
        self._work()
        return dict(self.times)

    def met(self, node_id, now, *, reached):
        self._work()
        if node_id in self.rows:
            row = self.rows[node_id]
            self.rows[node_id] = (*row[:3], max(row[3], now))
            connected_at, reached_at = self.times.get(node_id, (0.0, 0.0))
            self.times[node_id] = (
                max(connected_at, now),
                max(reached_at, now if reached else 0.0),
            )

    def forget(self, node_id):
        self._work()
        self.times.pop(node_id, None)
        return self.rows.pop(node_id, None) is not None

    def next_sequence(self, at_least=1):
        self._work()
        self.sequence = max(self.sequence + 1, at_least)
        return self.sequence

    def get_meta(self, key):
        self._work()
        return self.meta.get(key)

    def set_meta(self, key, value):
        self._work()
        if len(value) > 65_536 or (key not in self.meta and len(self.meta) >= 1_000):
            raise BadArgumentValueError("too large or too many")
        self.meta[key] = value


_identities = {}


def identity(number):
    """Return one of a fixed set of identities, in rising order of their node ids."""
    if not _identities:
        made = [
            Identity.create(lambda size, n=n: hashlib.sha256(b"peer %d" % n).digest()[:size])
            for n in range(40)
        ]
        _identities.update(enumerate(sorted(made, key=lambda one: one.node_id)))
    return _identities[number]


def announcement(number, sequence=1, **changes):
    """Return a packed announcement of one of the identities."""
    settings = {
        "nickname": f"peer {number}",
        "services": ("storage",),
        "software": "ampgrid test",
        "addresses": (f"192.0.2.{number}:4000",),
    }
    return sign(identity(number), sequence=sequence, **{**settings, **changes})


def run(coroutine):
    """Start a coroutine; returns its Deferred."""
    return Deferred.fromCoroutine(coroutine)


class Wall:
    """Wall-clock time that a test moves."""

    def __init__(self, now=1_700_000_000.0):
        self.now = now

    def __call__(self):
        return self.now
