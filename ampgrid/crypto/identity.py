"""Who a node is: an Ed25519 key, and what is derived from it.

The node id is the first 20 bytes of SHA-256 over the SPKI (the public key in DER). There is no
other authority: a certificate is only the form in which TLS wants the key.

Source: `docs/specs/identity.md`; Ed25519 is RFC 8032, its SPKI RFC 8410.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ampgrid.crypto.base32 import a2b, b2a
from ampgrid.crypto.hashing import netstring
from ampgrid.errors import ConfigError, FormatError, IntegrityError
from ampgrid.ports import Entropy

#: Length of a node id, bytes, and of its text, characters.
NODE_ID_SIZE = 20
NODE_ID_TEXT_SIZE = 32
#: Length of a public key in DER and of a signature, bytes.
SPKI_SIZE = 44
SIGNATURE_SIZE = 64
#: Length of a public key as RFC 8032 has it, bytes.
RAW_KEY_SIZE = 32

#: SEQUENCE { SEQUENCE { OID 1.3.101.112 } BIT STRING of 32 bytes }. Source: RFC 8410 section 4.
_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
_FIELD_PRIME = 2**255 - 19
#: The y coordinates of the eight points of small order, for which a signature can be forged.
_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _FIELD_PRIME - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)

_NOT_BEFORE = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: "No well-defined expiration date". Source: RFC 5280 section 4.1.2.5.
_NOT_AFTER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def node_id_of(spki: bytes) -> bytes:
    """Return the node id, 20 bytes, of a public key in DER."""
    return hashlib.sha256(spki).digest()[:NODE_ID_SIZE]


def node_id_text(node_id: bytes) -> str:
    """Spell a node id: 32 characters of base32."""
    return b2a(node_id)


def parse_node_id(text: str) -> bytes:
    """Read a node id.

    Raises:
        FormatError: the text is no node id.
    """
    if len(text) != NODE_ID_TEXT_SIZE:
        raise FormatError("A node id has 32 characters.")
    return a2b(text, NODE_ID_SIZE)


def public_key(raw: bytes) -> Ed25519PublicKey:
    """Read a public key, refusing every spelling and every point that is not beyond doubt.

    Args:
        raw: the key, 32 bytes. Source: RFC 8032 section 5.1.5.

    Raises:
        IntegrityError: it is malformed or of small order.
    """
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if len(raw) != RAW_KEY_SIZE or y >= _FIELD_PRIME or y in _SMALL_ORDER_Y:
        raise IntegrityError("The public key is malformed or of small order.")
    return Ed25519PublicKey.from_public_bytes(raw)


def framed(domain: bytes, message: bytes) -> bytes:
    """Return what is signed to state ``message``, a statement of the kind ``domain``."""
    # Begins with "7:ampgrid,": neither TLS (spaces) nor X.509 (0x30) signs anything like it.
    return netstring(b"ampgrid") + netstring(domain) + message


def verify(spki: bytes, domain: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature made by `Identity.sign`.

    Args:
        spki: the public key in DER, 44 bytes.
        domain: what kind of statement is signed.
        message: the statement.
        signature: 64 bytes.

    Raises:
        IntegrityError: the key is not an acceptable Ed25519 key, or the signature is wrong.
    """
    if len(spki) != SPKI_SIZE or not spki.startswith(_SPKI_PREFIX):
        raise IntegrityError("The public key is no Ed25519 key.")
    check_signature(spki[len(_SPKI_PREFIX) :], domain, message, signature)


def check_signature(raw: bytes, domain: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature against a public key of 32 bytes; the rest is as in `verify`.

    Raises:
        IntegrityError: the key is not an acceptable Ed25519 key, or the signature is wrong.
    """
    key = public_key(raw)
    try:
        key.verify(signature, framed(domain, message))
    except InvalidSignature:
        raise IntegrityError("The signature does not hold.") from None


class Identity:
    """A node's key.

    Args:
        private_key: the Ed25519 private key.

    Attributes:
        private_key: the key itself.
        spki: the public key in DER, 44 bytes.
        spki_hash: SHA-256 of it, 32 bytes.
        node_id: the first 20 bytes of that.
        certificate: the key as TLS wants it: self-signed, made out to the node id, without end.
            The same key always gives the same certificate.
    """

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self.private_key = private_key
        self.spki: bytes = private_key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.spki_hash = hashlib.sha256(self.spki).digest()
        self.node_id = self.spki_hash[:NODE_ID_SIZE]
        self.certificate = self._make_certificate()

    @classmethod
    def create(cls, entropy: Entropy = os.urandom) -> Identity:
        """Make a new one from 32 bytes of ``entropy``."""
        return cls(Ed25519PrivateKey.from_private_bytes(entropy(32)))

    @classmethod
    def from_pem(cls, pem: bytes) -> Identity:
        """Read what `to_pem` wrote.

        Raises:
            ConfigError: it is not an unencrypted Ed25519 key in PEM.
        """
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            raise ConfigError(
                "The node key cannot be read; restore it from a backup or make a new node."
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError("The node key is no Ed25519 key; restore it or make a new node.")
        return cls(key)

    def to_pem(self) -> bytes:
        """Write the private key as unencrypted PKCS #8 in PEM."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def sign(self, domain: bytes, message: bytes) -> bytes:
        """Sign a statement of the kind ``domain``; returns 64 bytes for `verify`."""
        return self.private_key.sign(framed(domain, message))

    def _make_certificate(self) -> x509.Certificate:
        name = node_id_text(self.node_id)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(self.private_key.public_key())
            # From the key, with the top bit clear as a serial number must be positive.
            .serial_number(int.from_bytes(b"\x01" + self.spki_hash[:15], "big"))
            .not_valid_before(_NOT_BEFORE)
            .not_valid_after(_NOT_AFTER)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self.private_key, None)
        )

    def __repr__(self) -> str:
        return f"<Identity {node_id_text(self.node_id)}>"
