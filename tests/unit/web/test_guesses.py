"""Who guesses at passwords and tokens: slowed for each address, and nobody locked out."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.testing.pipes import MemoryTransport
from ampgrid.web.guesses import (
    FORGET_SECONDS,
    FREE,
    LONGEST_SECONDS,
    MOST_WAITING,
    Guesses,
    TooManyGuessesError,
)
from ampgrid.web.password import Password
from ampgrid.web.request import GatewayRequest
from ampgrid.web.tokens import HEADER
from tests.unit.web.kit import Client, GatewayCase, read_reply, request_bytes
from tests.unit.web.test_password import NAME, WORD, answer

FAR = "192.0.2.7"


class GuessesTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.guesses = Guesses(self.clock, most=100)

    def wait(self, address: str = FAR) -> float:
        """Guess wrong, and return how long it takes to be told so, seconds."""
        told: Deferred[None] = self.guesses.wrong(address)
        start = self.clock.seconds()
        while not told.called:
            self.clock.advance(0.5)
        return self.clock.seconds() - start

    def test_each_takes_twice_as_long_as_the_one_before(self) -> None:
        self.assertEqual([self.wait() for _ in range(FREE)], [0] * FREE)
        waits = [self.wait() for _ in range(9)]
        self.assertEqual(waits[:3], [1, 2, 4])
        self.assertEqual(sorted(waits), waits)
        # In the end as much is forgotten while it waits as a guess adds.
        self.assertGreater(waits[-1], LONGEST_SECONDS - 2)

    def test_it_is_forgotten_with_time(self) -> None:
        for _ in range(FREE + 5):
            self.guesses.wrong(FAR)
        self.clock.advance(FORGET_SECONDS * 2)
        self.assertGreater(self.wait(), 1)
        self.clock.advance(FORGET_SECONDS * (FREE + 10))
        self.assertEqual([self.wait() for _ in range(FREE)], [0] * FREE)

    def test_never_so_much_that_it_cannot_be_forgotten(self) -> None:
        for _ in range(10_000):
            self.guesses.wrong(FAR)
        self.clock.advance(FORGET_SECONDS * 20)
        self.assertEqual(self.wait(), 0)

    def test_addresses_are_told_apart_and_networks_are_not(self) -> None:
        for number in range(FREE + 1):
            self.guesses.wrong(f"2001:db8:0:1::{number:x}")
            self.guesses.wrong("::ffff:192.0.2.7")
        self.assertGreater(self.wait("2001:db8:0:1:ffff::1"), 0)
        self.assertGreater(self.wait(FAR), 0)
        for other in ("2001:db8:0:2::1", "192.0.2.8", "", "no address"):
            self.assertEqual(self.wait(other), 0)

    def test_a_bounded_number_of_addresses(self) -> None:
        for number in range(1_000):
            self.guesses.wrong(f"10.0.{number // 250}.{number % 250}")
            self.assertLessEqual(len(self.guesses), 100)

    def test_only_some_wait_at_once(self) -> None:
        for address in (FAR, "127.0.0.1", "::1", "::ffff:127.0.0.1"):
            for _ in range(FREE + MOST_WAITING):
                self.guesses.look(address)
                self.guesses.wrong(address)
        self.assertRaises(TooManyGuessesError, self.guesses.look, FAR)
        for address in ("192.0.2.8", "127.0.0.1", "::1", "::ffff:127.0.0.1"):
            self.guesses.look(address)
        self.clock.advance(LONGEST_SECONDS)
        self.guesses.look(FAR)


class GuessingCase(GatewayCase):
    """A gateway of its own for each test."""

    def setUp(self) -> None:
        self.gateway = self.make_gateway(password=Password(NAME.encode(), WORD.encode()))
        self.addCleanup(self.gateway.stop)

    def from_afar(self) -> None:
        def far(_transport: Any) -> IPv4Address:
            return IPv4Address("TCP", FAR, 5)

        self.patch(MemoryTransport, "getPeer", far)

    def challenge(self) -> str:
        client = self.begin(
            b"GET /vdrive HTTP/1.1\r\nHost: 127.0.0.1:2\r\nConnection: close\r\n\r\n"
        )
        self.wait(client)
        return read_reply(client.received).headers["WWW-Authenticate"]

    def begin(self, data: bytes) -> Client:
        client = self.connect(self.gateway)
        client.transport.write(data)
        self.grid.clock.advance(0.01)
        return client

    def guess(self, challenge: str, word: str, **headers: str) -> Client:
        said = answer(challenge, "GET", "/vdrive", word=word)
        return self.begin(request_bytes("GET", "/vdrive", b"", {"Authorization": said, **headers}))

    def spend(self, count: int = FREE) -> str:
        """Use up the guesses that cost nothing; returns a challenge."""
        challenge = self.challenge()
        for _ in range(count):
            self.assertIn(b"401", self.guess(challenge, "wrong").received[:15])
        return challenge


class PasswordGuessTest(GuessingCase):
    def test_a_wrong_one_waits_and_a_right_one_does_not(self) -> None:
        for far in (False, True):
            if far:
                self.from_afar()
            challenge = self.spend()
            client = self.guess(challenge, "wrong")
            self.assertEqual(client.received, b"")
            self.assertIn(b"200", self.guess(challenge, WORD).received[:15])
            self.grid.clock.advance(1)
            self.assertEqual(read_reply(client.received).status, 401)
            self.setUp()

    def test_what_waits_for_leave_to_send_its_body_waits_too(self) -> None:
        challenge = self.spend()
        for headers in (
            {"Expect": "100-continue", "Content-Length": "9"},
            {"Content-Length": "1000000"},
            {"Transfer-Encoding": "chunked"},
        ):
            client = self.guess(challenge, "wrong", **headers)
            self.assertEqual(client.received, b"")
            self.grid.clock.advance(LONGEST_SECONDS)
            self.assertEqual(read_reply(client.received).status, 401)

    def test_a_client_that_does_not_wait(self) -> None:
        challenge = self.spend()
        for headers in ({}, {"Content-Length": "1000000"}):
            client = self.guess(challenge, "wrong", **headers)
            client.transport.abortConnection()
            self.grid.clock.advance(LONGEST_SECONDS)
            self.assertEqual(client.received, b"")

    def test_nothing_is_kept_of_a_client_that_does_not_wait(self) -> None:
        challenge = self.spend()
        # Those of other tests are held here, or they might go meanwhile.
        before = self.requests_kept()
        for _ in range(FREE):
            client = self.guess(challenge, "wrong")
            self.assertEqual(len(self.requests_kept()), len(before) + 1)
            client.transport.abortConnection()
            self.grid.clock.advance(0.01)
            del client
        self.assertEqual(len(self.requests_kept()), len(before))

    def requests_kept(self) -> list[GatewayRequest]:
        gc.collect()
        return [each for each in gc.get_objects() if type(each) is GatewayRequest]

    def test_who_does_not_wait_may_not_ask_the_more(self) -> None:
        self.from_afar()
        challenge = self.spend()
        for _ in range(MOST_WAITING):
            self.guess(challenge, "wrong").transport.abortConnection()
            self.grid.clock.advance(0.01)
        self.assertEqual(read_reply(self.guess(challenge, WORD).received).status, 429)

    def test_many_at_once(self) -> None:
        challenge = self.spend()
        for _ in range(3 * MOST_WAITING):
            self.guess(challenge, "wrong")
        # From here the right one is taken always; from elsewhere it waits its turn.
        self.assertIn(b"200", self.guess(challenge, WORD).received[:15])
        self.grid.clock.advance(LONGEST_SECONDS)
        self.from_afar()
        challenge = self.spend()
        waiting = [self.guess(challenge, "wrong") for _ in range(MOST_WAITING)]
        refused = read_reply(self.guess(challenge, WORD).received)
        self.assertEqual((refused.status, refused.headers["Retry-After"]), (429, "30"))
        self.grid.clock.advance(LONGEST_SECONDS)
        self.assertEqual({read_reply(each.received).status for each in waiting}, {401})
        self.assertIn(b"200", self.guess(challenge, WORD).received[:15])

    def test_what_is_no_guess_costs_nothing(self) -> None:
        challenge = self.challenge()
        old = answer(challenge, "GET", "/vdrive", nonce="0" * 24)
        self.assertIn(b"200", self.guess(challenge, WORD).received[:15])
        for _ in range(FREE + 3):
            # Nothing said, an answer to a challenge of long ago, one that was sent before.
            self.challenge()
            self.begin(request_bytes("GET", "/vdrive", b"", {"Authorization": old}))
            self.guess(challenge, WORD)
        self.assertIn(b"401", self.guess(challenge, "wrong").received[:15])


class TokenGuessTest(GatewayCase):
    def test_tokens_of_every_kind(self) -> None:
        for path, headers in (
            ("/vdrive", {HEADER: "wrong"}),
            ("/enter?token=wrong", {}),
        ):
            gateway = self.make_gateway()
            self.addCleanup(gateway.stop)
            for number in range(FREE + 1):
                client = self.connect(gateway)
                client.transport.write(request_bytes("GET", path, b"", headers))
                self.grid.clock.advance(0.01)
                self.assertIs(bool(client.received), number < FREE, path)
            self.grid.clock.advance(1)
            self.assert_status(read_reply(client.received), 403)
