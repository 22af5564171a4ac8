"""Containers of Tahoe-LAFS: those of a real grid, made ones, and anything at all."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.hashing import lease_secret_digest
from ampgrid.errors import FormatError
from ampgrid.formats.share import parse_header
from ampgrid.formats.tahoe_container import MOST_LEASES, is_mutable, parse_container

SHARES = Path(__file__).parents[2] / "vectors" / "data" / "tahoe-shares"


def container(share: bytes, leases: list[tuple[bytes, bytes, int]], version: int) -> bytes:
    """Write a container as Tahoe does; ``leases`` hold secrets."""
    stored = [
        (renew, cancel, until)
        if version == 1
        else (
            hashlib.blake2b(renew, digest_size=32).digest(),
            hashlib.blake2b(cancel, digest_size=32).digest(),
            until,
        )
        for renew, cancel, until in leases
    ]
    head = struct.pack(">LLL", version, len(share) % 2**32, len(leases))
    return head + share + b"".join(struct.pack(">L32s32sL", 0, *lease) for lease in stored)


def read(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes, int]]]:
    """Return (share, leases) of a container."""
    found = parse_container(data[:32], len(data))
    leases = found.leases(data[found.lease_offset :])
    share = data[found.share_offset : found.lease_offset]
    return share, [(lease.renew, lease.cancel, lease.expires_at) for lease in leases]


leases_of = st.lists(
    st.tuples(
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=32, max_size=32),
        st.integers(0, 2**32 - 1),
    ),
    max_size=5,
)


class ContainerTests(SynchronousTestCase):
    def test_those_of_a_tahoe_grid(self) -> None:
        paths = sorted(SHARES.glob("*/shares/??/*/*"))
        self.assertEqual(len(paths), 10)
        for path in paths:
            data = path.read_bytes()
            share, leases = read(data)
            parse_header(share[:68], len(share))
            # What it says of its length is true here, though nobody reads it.
            self.assertEqual(struct.unpack(">L", data[4:8]), (len(share),))
            self.assertEqual(len(leases), 1)
            self.assertEqual((leases[0][0], leases[0][1]), (data[-68:-36], data[-36:-4]))
            self.assertTrue(1_700_000_000 < leases[0][2] < 2_000_000_000)

    @given(st.binary(min_size=1, max_size=200), leases_of, st.sampled_from([1, 2]))
    def test_what_tahoe_writes_is_read(
        self, share: bytes, leases: list[tuple[bytes, bytes, int]], version: int
    ) -> None:
        """The digest is the one by which this store looks leases up, in both versions."""
        wanted = [
            (lease_secret_digest(renew), lease_secret_digest(cancel), until)
            for renew, cancel, until in leases
        ]
        self.assertEqual(read(container(share, leases, version)), (share, wanted))

    @given(st.binary(min_size=1, max_size=50), leases_of, st.integers(0, 2**32 - 1))
    def test_the_length_in_the_header_is_ignored(
        self, share: bytes, leases: list[tuple[bytes, bytes, int]], length: int
    ) -> None:
        data = container(share, leases, 2)
        self.assertEqual(read(data[:4] + struct.pack(">L", length) + data[8:]), read(data))

    def test_a_share_beyond_four_gigabytes(self) -> None:
        size = 12 + 2**33 + 72
        found = parse_container(struct.pack(">LLL", 2, 2**32 - 1, 1), size)
        self.assertEqual((found.share_size, found.lease_offset), (2**33, 12 + 2**33))

    def test_what_is_too_short_is_refused(self) -> None:
        data = container(b"x", [(bytes(32), bytes(32), 1)] * 2, 1)
        for length in range(len(data)):
            self.assertRaises(FormatError, parse_container, data[:length], length)
        found = parse_container(data, len(data))
        self.assertRaises(FormatError, found.leases, bytes(143))

    def test_what_claims_too_much_is_refused(self) -> None:
        for version, count in [(0, 0), (3, 0), (2, 2**32 - 1), (2, MOST_LEASES + 1)]:
            head = struct.pack(">LLL", version, 1, count)
            self.assertRaises(FormatError, parse_container, head, 2**40)

    def test_mutable_ones_are_told_apart(self) -> None:
        head = b"Tahoe mutable container v1\n\x75\x09\x44\x03\x8e"
        self.assertEqual(len(head), 32)
        self.assertTrue(is_mutable(head))
        self.assertTrue(is_mutable(head.replace(b"v1", b"v2")))
        self.assertFalse(is_mutable(container(b"x", [], 1)))
        self.assertRaises(FormatError, parse_container, head, 10_000)

    @given(st.binary(max_size=400))
    def test_anything_at_all(self, data: bytes) -> None:
        try:
            share, leases = read(data)
        except FormatError:
            return
        self.assertEqual(12 + len(share) + 72 * len(leases), len(data))
