"""A storage service over a real store, called through boxes as a connection would."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands import storage as commands
from ampgrid.storage.responder import StorageResponder
from ampgrid.storage.service import StorageService
from ampgrid.store import ShareStore

NOW = 1_800_000_000.0
INDEX = b"i" * 16
RENEW, CANCEL = b"r" * 32, b"c" * 32
LARGE = 70_000


class SteppedThreads:
    """Threads that run when the test says so.

    Attributes:
        held: whether calls wait for `step`.
        hops: how many calls were made.
    """

    def __init__(self):
        self.held = False
        self.hops = 0
        self._waiting = []

    def run(self, function, /, *arguments, **keywords):
        self.hops += 1
        done = Deferred()
        self._waiting.append((done, function, arguments, keywords))
        if not self.held:
            self.step()
        return done

    def step(self, which=0):
        """Run one waiting call."""
        done, function, arguments, keywords = self._waiting.pop(which)
        maybeDeferred(function, *arguments, **keywords).chainDeferred(done)

    def fail(self, error):
        """Let one waiting call fail before it does anything."""
        self._waiting.pop(0)[0].errback(error)

    def release(self):
        """Run all that wait, and hold nothing any more."""
        self.held = False
        while self._waiting:
            self.step()

    def __len__(self):
        return len(self._waiting)


class LoopConnection:
    """An end of a connection, as far as a responder sees it."""

    def __init__(self, peer_id):
        self.peer_id = peer_id
        self.connected = True
        self._callbacks = []

    def when_lost(self, function):
        if self.connected:
            self._callbacks.append(function)
        else:
            function()

    def lose(self):
        self.connected = False
        callbacks, self._callbacks = self._callbacks, []
        for function in callbacks:
            function()


class Client:
    """Calls the Commands of one connection.

    Attributes:
        connection: what to `lose`.
    """

    def __init__(self, case, peer=b"p" * 20):
        self.case = case
        self.connection = LoopConnection(peer)
        self.responder = StorageResponder(case.service, self.connection)

    def send(self, command, **arguments):
        """Send a Command through its boxes; return the Deferred of its answer."""
        box = command.makeArguments(arguments, None)
        answer = self.responder.locateResponder(command.commandName)(box)
        # What need not wait is answered without a Deferred.
        answered = answer if isinstance(answer, Deferred) else succeed(answer)
        return answered.addCallback(lambda found: command.parseResponse(found, None))

    def ask(self, command, **arguments):
        return self.case.successResultOf(self.send(command, **arguments))

    def fails(self, error, command, **arguments):
        self.failed(error, self.send(command, **arguments))

    def failed(self, error, answer):
        """Check that an answer is this error of the wire."""
        failure = self.case.failureResultOf(answer, amp.RemoteAmpError)
        self.case.assertEqual(failure.value.errorCode, error.code)
        return failure.value

    def allocate(self, numbers=(0,), size=1000, bucket=1, index=INDEX, **more):
        return self.send(
            commands.AllocateBuckets,
            storage_index=index,
            renew_secret=more.pop("renew", RENEW),
            cancel_secret=more.pop("cancel", CANCEL),
            shares=frozenset(numbers),
            allocated_size=size,
            bucket=bucket,
            **more,
        )

    def write(self, offset, data, share=0, bucket=1):
        return self.send(commands.WriteShare, bucket=bucket, share=share, offset=offset, data=data)

    def close(self, share=0, bucket=1):
        return self.send(commands.CloseBucket, bucket=bucket, share=share)

    def abort(self, share=0, bucket=1):
        return self.send(commands.AbortBucket, bucket=bucket, share=share)

    def put(self, data, number=0, index=INDEX, **more):
        return self.allocate((number,), len(data), 9, index, data=data, close=True, **more)

    def sizes(self, index=INDEX):
        return self.ask(commands.GetBuckets, storage_index=index)["sizes"]

    def read(self, share=0, offset=0, length=65_000, index=INDEX):
        return self.ask(
            commands.ReadShare, storage_index=index, share=share, offset=offset, length=length
        )["data"]

    def space(self):
        return self.ask(commands.GetSpace)


class ServiceCase(SynchronousTestCase):
    """Has a service, its clock, its threads and a client.

    Attributes:
        settings: what the service does by itself.
        wall_off: by how much the wall clock is wrong, seconds.
    """

    settings = None

    def setUp(self):
        self.directory = Path(self.mktemp())
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self.threads = SteppedThreads()
        self.clock = Clock()
        self.wall_off = 0.0
        self.service = None
        self.start()

    def tearDown(self):
        self.stop()

    def start(self, **how):
        """Begin, after an orderly end if there is a service."""
        if self.service is not None:
            self.stop()
        self.store = ShareStore.open(self.directory, wall=self.wall, **how)
        self.service = StorageService(
            self.store,
            clock=self.clock,
            wall=self.wall,
            threads=self.threads,
            entropy=bytes,
            settings=self.settings,
        )
        self.successResultOf(Deferred.fromCoroutine(self.service.start()))
        self.client = Client(self)

    def wall(self):
        return NOW + self.clock.seconds() + self.wall_off

    def stop(self):
        self.threads.release()
        self.successResultOf(Deferred.fromCoroutine(self.service.stop()))
        self.assertEqual(self.service.ahead.held, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def leftovers(self):
        """Names of unfinished files."""
        return [path.name for path in (self.directory / "incoming").iterdir()]
