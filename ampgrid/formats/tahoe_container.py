"""The files in which a Tahoe-LAFS storage server keeps immutable shares, versions 1 and 2.

::

    0   4   version
    4   4   length of the share (saturated or cut to 32 bits, so nobody reads it)
    8   4   number of leases
    12      the share
            the leases, 72 bytes each, up to the end of the file:
                4   owner (always 0)
                32  what renews it: version 1 the secret, version 2 its BLAKE2b hash of 32 bytes
                32  what cancels it, likewise
                4   when it runs out, seconds since 1970

All integers are big-endian. The leases stand at the end of the file, so its size and their
number alone say where the share ends. A mutable container begins with other, longer magic.

Source: `docs/specs/store.md`; Tahoe-LAFS 1.20 ``storage/immutable_schema.py`` and ``lease.py``.
"""

from __future__ import annotations

import struct

from attrs import field, frozen

from ampgrid.crypto.hashing import lease_secret_digest
from ampgrid.errors import FormatError

_HEADER = struct.Struct(">LLL")
_LEASE = struct.Struct(">L32s32sL")

#: Length of the header and of each lease, bytes.
HEADER_SIZE = _HEADER.size
LEASE_SIZE = _LEASE.size
#: So many first bytes tell every kind of container.
HEAD_SIZE = 32
#: The most leases that are read of one container.
MOST_LEASES = 10_000

#: How every mutable container begins; its version and five more bytes follow.
_MUTABLE = b"Tahoe mutable container v"


@frozen
class ContainedLease:
    """A lease on the share in a container.

    Attributes:
        renew: digest of the secret that renews it, 32 bytes.
        cancel: digest of the secret that cancels it, 32 bytes.
        expires_at: when it runs out, seconds since 1970.
    """

    renew: bytes = field(repr=False)
    cancel: bytes = field(repr=False)
    expires_at: int


@frozen
class Container:
    """Where everything is in a container. Sizes and offsets in bytes.

    Attributes:
        version: 1 or 2.
        share_offset: where the share begins.
        share_size: how long it is, at least 1.
        lease_count: how many leases there are.
    """

    version: int
    share_size: int
    lease_count: int
    share_offset: int = HEADER_SIZE

    @property
    def lease_offset(self) -> int:
        """Where the leases begin."""
        return self.share_offset + self.share_size

    @property
    def lease_bytes(self) -> int:
        """How long all leases are together."""
        return self.lease_count * LEASE_SIZE

    def leases(self, data: bytes) -> list[ContainedLease]:
        """Read the leases.

        Args:
            data: the `lease_bytes` from `lease_offset` on.

        Returns:
            All of them; of version 1 with the digests of their secrets. What has an owner is no
            lease, but what somebody has put there.

        Raises:
            FormatError: ``data`` is of another length.
        """
        if len(data) != self.lease_bytes:
            raise FormatError("The leases of the container are cut short.")
        digest = lease_secret_digest if self.version == 1 else bytes
        return [
            ContainedLease(digest(renew), digest(cancel), expires_at)
            for owner, renew, cancel, expires_at in _LEASE.iter_unpack(data)
            if not owner
        ]


def is_mutable(head: bytes) -> bool:
    """Tell whether a file begins as the container of a mutable share does.

    Args:
        head: its first `HEAD_SIZE` bytes.
    """
    return head.startswith(_MUTABLE)


def parse_container(head: bytes, size: int) -> Container:
    """Read the header of the container of an immutable share.

    Args:
        head: the first bytes of the file, at least `HEADER_SIZE`.
        size: of the whole file, bytes.

    Raises:
        FormatError: it is no such container, or too short for what it says of itself.
    """
    if len(head) < HEADER_SIZE or size < HEADER_SIZE:
        raise FormatError("The file is too short for the header of a container.")
    version, _, lease_count = _HEADER.unpack_from(head)
    if version not in {1, 2}:
        raise FormatError("The file is no container of a version that is known (1 or 2).")
    if lease_count > MOST_LEASES:
        raise FormatError(f"The container claims more than {MOST_LEASES} leases.")
    share_size = size - HEADER_SIZE - lease_count * LEASE_SIZE
    if share_size < 1:
        raise FormatError("The container is too short for the leases that it claims.")
    return Container(version, share_size, lease_count)
