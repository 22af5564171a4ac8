"""Making and taking connections: the gate, TLS, the pin and Hello, for one node.

`Network.dial` returns a `Connection` once Hello has been answered and checked;
`Network.listening_factory` hands every accepted one to the same callback after its Hello. The
composition root supplies what they serve and whom they admit.

Spec: ``docs/specs/wire.md``, "Hello".
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from ampgrid.commands.errors import NotAllowedError, WireError, WrongGridError
from ampgrid.commands.session import Hello, Ping
from ampgrid.crypto.identity import Identity, node_id_of
from ampgrid.errors import AmpgridError, HandshakeError
from ampgrid.formats.address import format_hint
from ampgrid.ports import Clock
from ampgrid.wire.connection import Connection
from ampgrid.wire.gate import Gate, SecureConnection
from ampgrid.wire.hello import DIALLER, LISTENER, Facts, Heard, Session, hear, say
from ampgrid.wire.lines import Lines
from ampgrid.wire.strangers import Strangers, neighbourhood
from ampgrid.wire.tls import Credentials, exporter, peer_spki

_log = Logger()

#: The largest box before Hello is done, bytes.
MOST_HELLO_BYTES = 2_048
#: Accepted connections that have not proved themselves, at once; more push the oldest out.
MOST_STRANGERS = 256
#: Accepted connections in all.
MOST_ACCEPTED = 8_000

#: Opens a transport to (host, port) for a factory's protocol, and gives that protocol.
Connector = Callable[[str, int, Factory], Awaitable[Any]]


class SessionResponder(amp.CommandLocator):
    """Answers what each end answers, whatever its role: Ping."""

    @Ping.responder
    async def ping(self) -> dict[str, Any]:
        """Show that this end is alive."""
        return {}


class Roles(amp.CommandLocator):
    """Several locators as one: the first that knows a Command answers it."""

    def __init__(self, *locators: amp.CommandLocator) -> None:
        super().__init__()
        self._locators = locators

    def locateResponder(self, name: bytes) -> Any:  # noqa: N802
        """Find the responder in the first locator that has it."""
        for locator in self._locators:
            responder = locator.locateResponder(name)
            if responder is not None:
                return responder
        return None


class _HelloResponder(amp.CommandLocator):
    """What a listener answers before Hello is done: Hello, once."""

    def __init__(self, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        super().__init__()
        self._answer = answer

    @Hello.responder
    async def hello(self, **said: Any) -> dict[str, Any]:
        """Check the dialler's proof and give our own."""
        return self._answer(said)


class Network:
    """One node's way of making connections.

    Args:
        identity: the node's key.
        secret: the grid's secret, empty for an open grid.
        facts: what Hello tells of this node.
        clock: time and timers.
        roles: makes the locators that a connection serves once Hello is done.
        admit: told the node id of a dialler that has proved itself; raises a `WireError` to
            turn it away.
        connected: told of each connection whose Hello is done, from either end.
        connector: opens transports.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        secret: bytes,
        facts: Callable[[], Facts],
        clock: Clock,
        roles: Callable[[Connection], Sequence[amp.CommandLocator]],
        admit: Callable[[bytes], None],
        connected: Callable[[Connection], object],
        connector: Connector,
    ) -> None:
        self._identity = identity
        self._credentials = Credentials(identity)
        self._secret = secret
        self._facts = facts
        self._clock = clock
        self._roles = roles
        self._admit = admit
        self._connected = connected
        self._connector = connector
        self._strangers: Strangers[Gate] = Strangers(MOST_STRANGERS)
        self._accepted = 0
        self._lines = Lines(clock)
        self._open: set[Connection] = set()

    @property
    def node_id(self) -> bytes:
        """This node's id, 20 bytes."""
        return self._identity.node_id

    def close(self) -> None:
        """Abort every connection whose Hello is done."""
        for connection in self.connections():
            connection.abort("this node is stopping")

    # Dialling.

    async def dial(self, node_id: bytes, hints: Sequence[tuple[str, int]]) -> Connection:
        """Connect to a node at the first of its addresses that works.

        Args:
            node_id: who must answer there, 20 bytes.
            hints: (host, port) pairs, tried in order.

        Raises:
            HandshakeError: no address led to that node, or it turned us away.
        """
        if node_id == self._identity.node_id:
            raise HandshakeError("a node does not dial itself")
        why = HandshakeError("the peer has no address")
        for host, port in hints:
            try:
                return await self._dial_one(node_id, host, port)
            except CancelledError:
                raise
            except AmpgridError as error:
                why = HandshakeError(f"{host}:{port}: {error}")
            except Exception as error:  # noqa: BLE001 - every kind of network failure
                why = HandshakeError(f"{host}:{port} cannot be reached ({_brief(error)})")
        raise why

    async def _dial_one(self, node_id: bytes, host: str, port: int) -> Connection:
        gates: list[Gate] = []

        def give_up(_result: Deferred[Connection]) -> None:
            for gate in gates:
                gate.refuse("nobody wants this connection any more")

        result: Deferred[Connection] = Deferred(give_up)

        def build() -> Gate:
            gates.append(self._dialling_gate(node_id, result))
            return gates[-1]

        factory: Any = Factory.forProtocol(build)
        factory.noisy = False
        try:
            await self._connector(host, port, factory)
            return await result
        except WrongGridError as error:
            raise HandshakeError(
                "it does not accept this node's grid secret; copy the introducer's whole address "
                "again"
            ) from error
        except WireError as error:
            raise HandshakeError(f"it turned this node away: {error}") from error
        finally:
            # A connector may fail after it has built the gate: what comes of that is not ours.
            result.addErrback(lambda _: None)
            if not result.called:
                result.cancel()

    def _dialling_gate(self, node_id: bytes, result: Deferred[Connection]) -> Gate:
        connection = SecureConnection(self._clock)
        connection.take_at_most(MOST_HELLO_BYTES)
        connection.dialled = True

        def lost(reason: str) -> None:
            if not result.called:
                result.errback(Failure(HandshakeError(reason)))

        gate = Gate(self._credentials, connection, self._clock, dialled=True, on_lost=lost)

        def failed(failure: Failure) -> None:
            if not result.called:
                result.errback(failure)
            connection.abort(failure.getErrorMessage())

        def handshaken(tls: SSL.Connection) -> None:
            greeting = Deferred.fromCoroutine(self._greet(gate, tls, node_id))
            greeting.addCallback(lambda _: result.callback(connection))
            greeting.addErrback(failed)

        connection.on_handshake = handshaken
        return gate

    async def _greet(self, gate: Gate, tls: SSL.Connection, node_id: bytes) -> None:
        spki = peer_spki(tls)
        if node_id_of(spki) != node_id:
            raise HandshakeError("another node answers at this address")
        session = Session(self._identity.spki, spki, exporter(tls))
        said = say(self._facts(), session.proof(self._secret, DIALLER))
        answer = await gate.connection.call(Hello, **said)
        heard = hear(answer, session.proof(self._secret, LISTENER))
        self._open_up(gate, node_id, heard)

    # Listening.

    def listening_factory(self) -> Factory:
        """Return the factory for accepted connections."""
        network = self

        class Listening(Factory):
            noisy = False

            def buildProtocol(self, addr: IAddress | None) -> Gate | None:  # noqa: N802
                return network._listening_gate(neighbourhood(addr), _where(addr))

        return Listening()

    def _listening_gate(self, place: str, where: str) -> Gate | None:
        if self._accepted >= MOST_ACCEPTED:
            self._note(where, "too many connections; this one was turned away")
            return None
        self._accepted += 1
        connection = SecureConnection(self._clock)
        connection.take_at_most(MOST_HELLO_BYTES)

        def lost(reason: str) -> None:
            self._strangers.remove(gate, place)
            self._accepted -= 1
            self._note(where, reason)

        gate = Gate(self._credentials, connection, self._clock, dialled=False, on_lost=lost)
        pushed_out = self._strangers.add(gate, place)
        if pushed_out is not None:
            pushed_out.refuse("too many strangers at once")

        def handshaken(tls: SSL.Connection) -> None:
            spki = peer_spki(tls)
            session = Session(spki, self._identity.spki, exporter(tls))

            def accept(heard: Heard) -> None:
                self._accept(gate, place, node_id_of(spki), heard)

            connection.serve(
                _HelloResponder(lambda said: self._answer(gate, where, session, said, accept))
            )

        connection.on_handshake = handshaken
        return gate

    def _answer(
        self,
        gate: Gate,
        where: str,
        session: Session,
        said: dict[str, Any],
        accept: Callable[[Heard], None],
    ) -> dict[str, Any]:
        connection = gate.connection
        connection.serve(amp.CommandLocator())  # Hello is answered once
        node_id = node_id_of(session.dialler_spki)
        try:
            heard = hear(said, session.proof(self._secret, DIALLER))
            if node_id == self._identity.node_id:
                raise NotAllowedError("a node does not talk to itself")
            self._admit(node_id)
        except WireError as error:
            self._note(where, str(error))
            self._clock.callLater(0, connection.close)
            raise
        answer = say(self._facts(), session.proof(self._secret, LISTENER))
        # The connection is up once this answer is queued: nothing of ours may go before it.
        self._clock.callLater(0, accept, heard)
        return answer

    def _accept(self, gate: Gate, place: str, node_id: bytes, heard: Heard) -> None:
        connection = gate.connection
        if not connection.alive:
            return

        def lost() -> None:
            self._accepted -= 1

        self._strangers.remove(gate, place)
        connection.when_lost(lost)
        with contextlib.suppress(HandshakeError):
            self._open_up(gate, node_id, heard)

    # Both.

    def _open_up(self, gate: Gate, node_id: bytes, heard: Heard) -> None:
        connection = gate.connection
        gate.authenticated()
        connection.on_abort = lambda reason: self._lines.write(
            node_id, "a connection was aborted", reason
        )
        connection.peer_id = node_id
        connection.peer_services = heard.facts.services
        connection.peer_nickname = heard.facts.nickname
        connection.peer_software = heard.facts.software
        try:
            connection.serve(Roles(SessionResponder(), *self._roles(connection)))
            connection.opened(heard.max_calls, heard.max_bytes)
            self._open.add(connection)
            connection.when_lost(lambda: self._open.discard(connection))
            self._connected(connection)
        except Exception as error:
            # What the rooms above do must not leave a connection half open.
            _log.failure("a new connection could not be taken into service")
            connection.abort("it could not be taken into service")
            raise HandshakeError("this node could not take it into service") from error

    def connections(self) -> list[Connection]:
        """Return every connection whose Hello is done."""
        return list(self._open)

    def _note(self, where: str, reason: str) -> None:
        self._lines.write(b"", f"an incoming connection from {where} failed", reason)


def _where(address: IAddress | None) -> str:
    """Return where a connection comes from, for the log."""
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    return "somewhere" if host is None or port is None else format_hint((host, port))


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
