"""Node keys, node ids, certificates and signatures."""

import contextlib
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto import identity as module
from ampgrid.crypto.identity import Identity, node_id_of, node_id_text, parse_node_id, verify
from ampgrid.errors import ConfigError, FormatError, IntegrityError

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
NODE = Identity.create(lambda n: bytes(range(n)))
PREFIX = NODE.spki[:12]


def add(a, b):
    """Add two points of edwards25519 in affine coordinates."""
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P
    return x, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P


def lift(y):
    """Return an x for y on the curve, or None."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return x if x * x % P == square else None


class IdentityTest(SynchronousTestCase):
    def test_node_id_is_the_hash_of_the_key(self):
        digest = hashlib.sha256(NODE.spki).digest()
        self.assertEqual(NODE.spki_hash, digest)
        self.assertEqual(NODE.node_id, digest[:20])
        self.assertEqual(node_id_of(NODE.spki), digest[:20])
        self.assertEqual(parse_node_id(node_id_text(NODE.node_id)), NODE.node_id)
        self.assertEqual(len(node_id_text(NODE.node_id)), 32)

    def test_pem_round_trip(self):
        again = Identity.from_pem(NODE.to_pem())
        self.assertEqual(again.spki, NODE.spki)
        self.assertEqual(again.to_pem(), NODE.to_pem())

    def test_two_are_different(self):
        self.assertNotEqual(Identity.create().node_id, Identity.create().node_id)

    def test_other_keys_are_refused(self):
        other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        for pem in (b"", b"nonsense", other, NODE.to_pem()[:-40]):
            self.assertRaises(ConfigError, Identity.from_pem, pem)

    def test_repr_shows_no_private_key(self):
        self.assertEqual(repr(NODE), f"<Identity {node_id_text(NODE.node_id)}>")

    @given(st.text(max_size=40))
    def test_malformed_node_id_text(self, text):
        with contextlib.suppress(FormatError):
            self.assertEqual(node_id_text(parse_node_id(text)), text)


class CertificateTest(SynchronousTestCase):
    def test_is_of_the_key_and_made_out_to_the_node_id(self):
        certificate = NODE.certificate
        name = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
        self.assertEqual(name, node_id_text(NODE.node_id))
        certificate.verify_directly_issued_by(certificate)
        spki = certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        self.assertEqual(spki, NODE.spki)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), [name])

    def test_never_expires_and_is_the_same_each_time(self):
        self.assertEqual(NODE.certificate.not_valid_after_utc.year, 9999)
        self.assertEqual(NODE.certificate.not_valid_before_utc.year, 1970)
        again = Identity.from_pem(NODE.to_pem())
        self.assertEqual(again.certificate, NODE.certificate)


class SignatureTest(SynchronousTestCase):
    @given(st.binary(max_size=30), st.binary(max_size=100))
    def test_holds(self, domain, message):
        verify(NODE.spki, domain, message, NODE.sign(domain, message))

    @given(st.integers(0, 64 * 8 - 1))
    def test_every_flipped_bit_is_seen(self, bit):
        signature = bytearray(NODE.sign(b"d", b"m"))
        signature[bit // 8] ^= 1 << bit % 8
        self.assertRaises(IntegrityError, verify, NODE.spki, b"d", b"m", bytes(signature))

    def test_binds_domain_message_and_key(self):
        signature = NODE.sign(b"ab", b"c")
        other = Identity.create().spki
        for spki, domain, message in (
            (NODE.spki, b"a", b"bc"),
            (NODE.spki, b"ab", b"d"),
            (NODE.spki, b"", b"abc"),
            (other, b"ab", b"c"),
        ):
            self.assertRaises(IntegrityError, verify, spki, domain, message, signature)

    def test_signature_of_another_length(self):
        signature = NODE.sign(b"d", b"m")
        for bad in (b"", signature[:-1], signature + b"\0"):
            self.assertRaises(IntegrityError, verify, NODE.spki, b"d", b"m", bad)

    def test_other_kinds_of_keys(self):
        raw = x25519.X25519PrivateKey.generate().public_key()
        x = raw.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for spki in (b"", x, NODE.spki[:-1], NODE.spki + b"\0", NODE.spki[12:]):
            self.assertRaises(IntegrityError, verify, spki, b"d", b"m", NODE.sign(b"d", b"m"))


class SmallOrderTest(SynchronousTestCase):
    def test_the_table_holds_exactly_the_points_of_small_order(self):
        """Eight times each is the neutral element, and there are eight of them."""
        points = set()
        for y in module._SMALL_ORDER_Y:
            x = lift(y)
            self.assertIsNotNone(x)
            for point in {(x, y), (-x % P, y)}:
                eightfold = point
                for _ in range(3):
                    eightfold = add(eightfold, eightfold)
                self.assertEqual(eightfold, (0, 1))
                points.add(point)
        self.assertEqual(len(points), 8)

    def test_are_refused_in_every_spelling(self):
        """Also those with y >= p, and with either sign bit; a forged signature is at hand."""
        forged = (1).to_bytes(32, "little") + bytes(32)
        spellings = set(module._SMALL_ORDER_Y) | set(range(P, 2**255))
        self.assertEqual(len(spellings), 5 + 19)
        for y in spellings:
            for sign in (0, 1):
                raw = (y | sign << 255).to_bytes(32, "little")
                self.assertRaises(IntegrityError, verify, PREFIX + raw, b"d", b"m", forged)

    def test_bytes_that_are_no_point(self):
        y = next(y for y in range(2, 100) if lift(y) is None)
        spki = PREFIX + y.to_bytes(32, "little")
        self.assertRaises(IntegrityError, verify, spki, b"d", b"m", bytes(64))
