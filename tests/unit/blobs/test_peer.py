"""What the remote that is a peer makes of one that lies, breaks off or answers nonsense."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.blobs.peer import PIECE, WINDOW, Credentials, PeerRemote
from ampgrid.blobs.port import Query
from ampgrid.commands import blobs as commands
from ampgrid.commands import errors as e
from ampgrid.errors import (
    BadArgumentValueError,
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobNotFoundError,
    BlobQuotaError,
    BlobRefusedError,
    CallTimeoutError,
    InvalidBlobError,
    NotConnectedError,
    RemoteProtocolError,
    RemoteUnavailableError,
)
from ampgrid.formats.blobname import BlobName, Flag
from ampgrid.testing.clock import HeapClock
from tests.contract.blob_remote_contract import BytesSource
from tests.unit.blobs.serving import sealed

NAME = BlobName.of("blob")


class ScriptedConnection:
    """A connection whose answers a test writes.

    Attributes:
        calls: (Command, arguments) of all calls.
        answers: {Command: a dict, an exception, a Deferred, or a function of the arguments}.
    """

    def __init__(self, answers):
        self.peer_id = b"p" * 20
        self.connected = True
        self.calls = []
        self.answers = answers

    async def call(self, command, /, *, operation=None, deadline=60.0, **arguments):
        command.makeArguments(arguments, None)
        self.calls.append((command, arguments))
        answer = self.answers[command]
        if callable(answer):
            answer = answer(**arguments)
        if isinstance(answer, Deferred):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer


class PeerCase(SynchronousTestCase):
    def remote(self, answers):
        self.connection = ScriptedConnection(answers)
        return PeerRemote(lambda: self.connection)

    def outcome(self, work):
        return self.failureResultOf(Deferred.fromCoroutine(work)).type

    def done(self, work):
        return self.successResultOf(Deferred.fromCoroutine(work))


class LyingPeerTests(PeerCase):
    def test_another_number_of_bytes_than_said_is_no_blob(self):
        for size, given in ((1000, 999), (1000, 1001), (1000, 0), (15, 15), (200_000, 100)):
            told = {"size": size, "tag": b"t" * 16, "data": bytes(given)}
            remote = self.remote({commands.ReadBlob: told})
            self.assertIs(self.outcome(remote.get(NAME)), InvalidBlobError)

    def test_a_blob_that_changes_under_the_reader_is_no_blob(self):
        for change in (
            {"size": 300_001},
            {"tag": b"u" * 16},
            {"data": b""},
            {"data": bytes(PIECE)},
        ):

            def read(offset, length, change=change, **_name):
                told = {"size": 300_000, "tag": b"t" * 16, "data": bytes(length)}
                return {**told, **(change if offset + length == 300_000 else {})}

            remote = self.remote({commands.ReadBlob: read})
            stream = self.done(remote.get(NAME))
            for _ in range(4):
                self.assertEqual(len(self.done(stream.read())), PIECE)
            self.assertIs(self.outcome(stream.read()), InvalidBlobError)
            self.done(stream.close())

    def test_listings_of_nonsense_are_not_believed(self):
        for told in (
            {"blob_ids": [b"../x"], "next": None},
            {"blob_ids": [b""], "next": None},
            {"blob_ids": [b"\xff"], "next": None},
            {"blob_ids": [b"a" * 256], "next": None},
            {"blob_ids": [b"a"], "next": "\u00e4"},
            {"blob_ids": [b"a"], "next": "same"},
        ):
            remote = self.remote({commands.ListBlobs: told})
            page = remote.page(Query(), None, "same")
            self.assertIs(self.outcome(page), RemoteUnavailableError, told)

    def test_no_more_ids_than_asked_for_and_none_means_the_end(self):
        remote = self.remote({commands.ListBlobs: {"blob_ids": [b"a", b"b"], "next": "b"}})
        self.assertEqual(self.done(remote.page(Query(), None, None, 1)).blob_ids, ("a",))
        remote = self.remote({commands.ListBlobs: {"blob_ids": [], "next": "b"}})
        self.assertIsNone(self.done(remote.page(Query())).after)

    def test_namespaces_without_end_or_order_are_not_believed(self):
        pages = {"same": lambda after: [b"n"], "back": lambda after: [b"b", b"a"]}
        counter = iter(range(100_000))
        pages["endless"] = lambda after: [b"%06d" % next(counter) for _ in range(400)]
        pages["bad"] = lambda after: [b"a/b"]
        for what, page in pages.items():
            answer = {
                commands.ListNamespaces: lambda after, page=page: {"namespaces": page(after)}
            }
            self.assertIs(
                self.outcome(self.remote(answer).namespaces()), RemoteUnavailableError, what
            )

    def test_more_than_announced_is_not_there(self):
        source = BytesSource(sealed("a", 100_000))
        remote = self.remote(
            {commands.PutBlob: {"have": 100_001, "done": False}, commands.LeaveBlob: {}}
        )
        self.assertIs(self.outcome(remote.put(NAME, source)), RemoteUnavailableError)
        remote = self.remote({commands.PutBlob: {"have": 5, "done": False}})
        self.assertIs(
            self.outcome(remote.put(NAME, BytesSource(b"s" * 20))), RemoteUnavailableError
        )


class ErrorTests(PeerCase):
    def test_what_a_peer_answers_is_an_error_of_a_remote(self):
        for raised, expected in (
            (e.NoSuchBlobError(), BlobNotFoundError),
            (e.BlobExistsWireError(), BlobAlreadyExistsError),
            (e.BlobDeletedWireError(), BlobDeletedError),
            (e.NoSpaceError(), BlobQuotaError),
            (e.BadBlobError(), InvalidBlobError),
            (e.BlobRefusedWireError(), BlobRefusedError),
            (e.NotAllowedError(), BlobRefusedError),
            (e.BadArgumentError(), BadArgumentValueError),
            (e.BusyError(), RemoteUnavailableError),
            (e.InternalWireError(), RemoteUnavailableError),
            (e.StoreFailedError(), RemoteUnavailableError),
            (e.NoSuchPutError(), RemoteUnavailableError),
            (NotConnectedError(), RemoteUnavailableError),
            (CallTimeoutError(), RemoteUnavailableError),
            (RemoteProtocolError(), RemoteUnavailableError),
        ):
            remote = self.remote({commands.StatBlob: raised})
            self.assertIs(self.outcome(remote.stat(NAME)), expected, raised)

    def test_without_a_connection_it_is_unavailable(self):
        remote = PeerRemote(lambda: None)
        lost = self.remote({})
        self.connection.connected = False
        for one in (remote, lost):
            for work in (
                one.put(NAME, BytesSource(b"s" * 20)),
                one.put(NAME, BytesSource(bytes(100_000))),
                one.get(NAME),
                one.stat(NAME),
                one.get_flags(NAME),
                one.set_flags(NAME, [Flag.PENDING]),
                one.delete(NAME),
                one.page(Query()),
                one.count(Query()),
                one.namespaces(),
                one.space(),
            ):
                self.assertIs(self.outcome(work), RemoteUnavailableError)

    def test_a_closed_one_asks_nothing(self):
        remote = self.remote({})
        self.done(remote.close())
        self.assertIs(self.outcome(remote.count(Query())), RemoteUnavailableError)
        self.assertEqual(self.connection.calls, [])

    def test_a_write_that_fails_ends_the_put(self):
        source = BytesSource(sealed("a", 5_000_000))
        remote = self.remote(
            {
                commands.PutBlob: {"have": 0, "done": False},
                commands.WriteBlob: lambda offset, **_: e.StoreFailedError() if offset else {},
                commands.LeaveBlob: {},
            }
        )
        self.assertIs(self.outcome(remote.put(NAME, source)), RemoteUnavailableError)
        self.assertLessEqual(source.given, (WINDOW + 2) * PIECE)
        self.assertEqual(self.connection.calls[-1], (commands.LeaveBlob, {"put": 1, "keep": True}))

    def test_the_user_and_the_token_come_with_every_call(self):
        connection = ScriptedConnection({commands.CountBlobs: {"count": 3}})
        remote = PeerRemote(lambda: connection, Credentials("alice", "secret"))
        self.assertEqual(self.done(remote.count(Query())), 3)
        arguments = connection.calls[0][1]
        self.assertEqual((arguments["user"], arguments["token"]), ("alice", b"secret"))
        self.assertNotIn("secret", repr(Credentials("alice", "secret")))


class WindowTests(PeerCase):
    def test_a_put_sends_a_window_and_no_more_without_an_answer(self):
        clock, answers = HeapClock(), []

        def write(**_):
            answers.append(Deferred())
            return answers[-1]

        remote = self.remote(
            {
                commands.PutBlob: {"have": 0, "done": False},
                commands.WriteBlob: write,
                commands.FinishBlob: {},
            }
        )
        source = BytesSource(sealed("a", 50 * PIECE))
        putting = Deferred.fromCoroutine(remote.put(NAME, source))
        self.assertEqual(len(answers), WINDOW)
        self.assertLessEqual(source.given, (WINDOW + 1) * PIECE)
        for number in range(50):
            answers[number].callback({})
        self.assertIsNone(self.successResultOf(putting))
        offsets = [
            given["offset"]
            for command, given in self.connection.calls
            if command is commands.WriteBlob
        ]
        self.assertEqual(offsets, [number * PIECE for number in range(50)])
        self.assertIsNone(clock.next_time())

    def test_a_stream_asks_a_window_ahead_and_no_more(self):
        size = 50 * PIECE

        def read(offset, length, **_name):
            return {"size": size, "tag": b"t" * 16, "data": bytes(length)}

        remote = self.remote({commands.ReadBlob: read})
        stream = self.done(remote.get(NAME))
        self.assertEqual(len(self.connection.calls), 1)
        for number in range(1, 51):
            self.assertEqual(len(self.done(stream.read())), PIECE)
            self.assertLessEqual(len(self.connection.calls), number + WINDOW)
        self.assertEqual(self.done(stream.read()), b"")
        self.assertEqual(len(self.connection.calls), 50)
