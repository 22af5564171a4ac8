"""TLS 1.3 with a certificate from both ends, trusted by its key alone.

An OpenSSL context that takes any certificate whose key can be a node's identity; who that is,
and whether it is the one expected, is read from the certificate after the handshake
(`peer_spki`). Expiry and chains are not looked at: the key is the identity. Session tickets and
the session cache are off, so that no handshake is ever resumed past these checks. (OpenSSL then
still sends two tickets a session, which pyOpenSSL cannot turn off; they hold a number alone,
under which nothing is kept, so a resumption with one is a full handshake.)

Spec: ``docs/specs/wire.md``, "TLS".
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from ampgrid.crypto.identity import Identity
from ampgrid.errors import HandshakeError

#: The label under which Hello draws its bytes from a TLS session (RFC 8446 section 7.5).
EXPORTER_LABEL = b"EXPORTER-ampgrid-hello-1"


def _take_identity(
    _connection: SSL.Connection, certificate: crypto.X509, _error: int, depth: int, _ok: int
) -> bool:
    """Accept one certificate with an Ed25519 key; what OpenSSL thinks of it does not matter.

    The handshake itself proves that the peer holds the key. What cannot be read is refused: an
    exception here would end the handshake too (pyOpenSSL 26 and later), but as an error of ours.
    """
    try:
        key = certificate.to_cryptography().public_key()
    except Exception:  # noqa: BLE001 - a stranger's bytes; parsers raise what they like
        return False
    return depth == 0 and isinstance(key, Ed25519PublicKey)


def _context(identity: Identity) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _take_identity)
    context.set_verify_depth(1)
    context.use_certificate(identity.certificate)
    context.use_privatekey(identity.private_key)
    context.check_privatekey()
    return context


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class Credentials:
    """Makes TLS connections for one identity, for either role.

    Args:
        identity: the node's key and certificate.
    """

    def __init__(self, identity: Identity) -> None:
        self._context = _context(identity)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: ARG002, N802, N803
        """Return a connection for the end that dialled."""
        return SSL.Connection(self._context, None)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: ARG002, N802, N803
        """Return a connection for the end that listened."""
        return SSL.Connection(self._context, None)


def peer_spki(connection: SSL.Connection) -> bytes:
    """Return the DER of the peer's public key, after the handshake.

    Raises:
        HandshakeError: there is no certificate, or not of TLS 1.3.
    """
    certificate = connection.get_peer_certificate(as_cryptography=True)
    if certificate is None or connection.get_protocol_version_name() != "TLSv1.3":
        raise HandshakeError("the peer showed no certificate under TLS 1.3")
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def exporter(connection: SSL.Connection) -> bytes:
    """Return 32 bytes that only the two ends of this very TLS session know."""
    return connection.export_keying_material(EXPORTER_LABEL, 32)
