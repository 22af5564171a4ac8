"""The part of a connection in clear text: one exact box each way, then TLS.

Stock AMP starts TLS inside its box parser, and so a second box in the same segment is obeyed
before any handshake, a forged answer is believed, a refusal hangs for ever (the 2011 STARTTLS
injection and its kin). Here the clear text never reaches an AMP parser: the gate compares bytes
with the one box that may come, aborts on anything else and on any byte too many, and puts TLS
between itself and the AMP connection. A deadline runs from the first moment to the answered
Hello, and a stranger is read no more than `MOST_STRANGER_BYTES` until then.

Spec: ``docs/specs/wire.md``, "StartTLS".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.interfaces import IHandshakeListener, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ampgrid.ports import Clock
from ampgrid.wire import boxes
from ampgrid.wire.backlog import Backlog
from ampgrid.wire.connection import Connection
from ampgrid.wire.intake import take_streams
from ampgrid.wire.prompt import prompt
from ampgrid.wire.tls import Credentials

_log = Logger()

REQUEST = boxes.serialize({boxes.ASK: b"1", boxes.COMMAND: b"StartTLS"})
ANSWER = boxes.serialize({boxes.ANSWER: b"1"})

#: From the accepted or made TCP connection to the answered Hello, seconds.
HANDSHAKE_SECONDS = 10.0
#: The most bytes read from a peer that has not proved itself.
MOST_STRANGER_BYTES = 64 * 1024


@implementer(IHandshakeListener)
class SecureConnection(Connection):
    """A `Connection` inside TLS, which tells when the handshake is done.

    Attributes:
        backlog: sizes the buffers of its socket, once the peer has proved itself.
    """

    handshaken = False
    on_handshake: Callable[[SSL.Connection], None] | None = None
    backlog: Backlog | None = None

    def handshakeCompleted(self) -> None:  # noqa: N802
        """Pass the finished TLS session on; called by Twisted's TLS."""
        self.handshaken = True
        if self.on_handshake is not None:
            self.on_handshake(self.transport.getHandle())

    def pauseProducing(self) -> None:  # noqa: N802
        """The transport wants no more for now."""
        super().pauseProducing()
        if self.backlog is not None:
            self.backlog.filled()

    def resumeProducing(self) -> None:  # noqa: N802
        """The transport wants more."""
        if self.backlog is not None:
            self.backlog.emptied()
        super().resumeProducing()


class Gate(Protocol):
    """Lets a connection through to TLS, or aborts it.

    Args:
        credentials: this node's certificate and key.
        connection: what shall speak inside TLS.
        clock: time and timers.
        dialled: whether this end dialled (and so is the TLS client).
        on_lost: called once with a reason when the connection goes before `authenticated`.
    """

    transport: Any

    def __init__(
        self,
        credentials: Credentials,
        connection: SecureConnection,
        clock: Clock,
        *,
        dialled: bool,
        on_lost: Callable[[str], None],
    ) -> None:
        self.connection = connection
        connection.on_abort = self._aborted
        self._credentials = credentials
        self._clock = clock
        self._dialled = dialled
        self._awaited = ANSWER if dialled else REQUEST
        self._clear = b""
        self._tls: TLSMemoryBIOProtocol | None = None
        self._read_bytes = 0
        self._done = False
        self._deadline: Any = None
        self._on_lost = on_lost
        self._why: str | None = None

    def connectionMade(self) -> None:  # noqa: N802
        """Begin: the end that dialled asks for TLS."""
        if ITCPTransport.providedBy(self.transport):
            # Small boxes must not wait for the acknowledgement of the ones before.
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        late = "the handshake took too long"
        self._deadline = self._clock.callLater(HANDSHAKE_SECONDS, self.refuse, late)
        if self._dialled:
            self.transport.write(REQUEST)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take bytes: clear ones are compared, later ones go to TLS."""
        if not self._done:
            self._read_bytes += len(data)
            if self._why is not None:
                return
            if self._read_bytes > MOST_STRANGER_BYTES:
                self.refuse("too many bytes before Hello")
                return
        if self._tls is not None:
            self._give_to_tls(self._tls, data)
            return
        self._clear += data[: len(self._awaited) + 1]
        if not self._awaited.startswith(self._clear):
            # A wrong byte, or a byte too many behind the box: nobody honest sends either.
            self.refuse("something other than StartTLS in clear text")
        elif len(self._clear) == len(self._awaited):
            self._start_tls()

    def _give_to_tls(self, tls: TLSMemoryBIOProtocol, data: bytes) -> None:
        try:
            tls.dataReceived(data)
        except Exception as error:  # noqa: BLE001 - whatever a peer's bytes set off, it ends here
            if self._done:
                _log.failure("an error while bytes were taken")
            else:
                # A stranger can repeat this at will, so it fills no log.
                _log.debug("the handshake failed: {kind}", kind=type(error).__name__)
            self.refuse("the handshake failed")
            self.connection.abort("an error while bytes were taken")

    def _start_tls(self) -> None:
        if not self._dialled:
            self.transport.write(ANSWER)
        factory = TLSMemoryBIOFactory(
            self._credentials,
            self._dialled,
            Factory.forProtocol(lambda: self.connection),
            cast("Any", self._clock),
        )
        factory.noisy = False
        prompt(factory, self._clock)
        tls = factory.buildProtocol(None)
        self._tls = tls
        tls.makeConnection(self.transport)

    def authenticated(self) -> None:
        """Note that the peer has proved itself: the deadline is off, and streams may come."""
        self._done = True
        self._stop_deadline()
        self.connection.backlog = Backlog(self._clock, self.transport)
        take_streams(self.transport)

    def refuse(self, reason: str) -> None:
        """Abort a peer that has not proved itself, and tell ``reason`` to whom it concerns here.

        Nothing that it has sent is heard any more.
        """
        if not self._done and self._why is None:
            self._why = reason
            self.connection.abort(reason)
            self.transport.abortConnection()

    def _aborted(self, reason: str) -> None:
        if self._why is None:
            self._why = reason

    def _stop_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """End; the connection inside learns it from TLS."""
        self._stop_deadline()
        if not self._done:
            self._done = True
            # First of all: what fails because of it shall not be taken for the reason.
            self._on_lost(self._why or self._stage())
        if self._tls is not None:
            self._tls.connectionLost(reason)

    def _stage(self) -> str:
        if self._tls is None:
            return "the connection was closed before TLS"
        if not self.connection.handshaken:
            return "the TLS handshake failed"
        return "the connection was closed before Hello was done"
