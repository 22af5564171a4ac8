"""Whether bytes that are read twice are the same, told in a fifteenth of the time of a hash.

A mark is the tag of AES-128-GMAC (NIST SP 800-38D) over the bytes. Under a key that is random and
never leaves this process, as neither do marks, two different rows of bytes have one mark with a
probability of at most (blocks + 1) / 2**128, whoever chose them: 2**-92 for a terabyte. Who knows
the key can make such rows at will, so it is made for one file, and a mark is no hash of it.
"""

from __future__ import annotations

import hmac
import os

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ampgrid.crypto.hashing import Buffer
from ampgrid.ports import Entropy

_NONCE = bytes(12)


class Mark:
    """The mark of bytes that come in order, in pieces of any size.

    Args:
        key: 16 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._gmac = Cipher(algorithms.AES128(key), modes.GCM(_NONCE)).encryptor()

    def update(self, data: Buffer) -> None:
        """Feed more."""
        self._gmac.authenticate_additional_data(data)

    def digest(self) -> bytes:
        """Return the mark, 16 bytes; nothing may be fed after it."""
        self._gmac.finalize()
        return self._gmac.tag


class Rereading:
    """A further reading of what was read before.

    Args:
        mark: takes this reading.
        expected: the mark of the first one.
    """

    def __init__(self, mark: Mark, expected: bytes) -> None:
        self._mark = mark
        self._expected = expected

    def update(self, data: Buffer) -> None:
        """Feed more of what is read."""
        self._mark.update(data)

    def is_same(self) -> bool:
        """Tell whether it was what was read first; nothing may be fed after it."""
        return hmac.compare_digest(self._mark.digest(), self._expected)


class FirstReading:
    """The first of several readings of a file.

    Args:
        entropy: makes the key.
    """

    def __init__(self, entropy: Entropy = os.urandom) -> None:
        self._key = entropy(16)
        self._mark = Mark(self._key)
        self._expected: bytes | None = None

    def update(self, data: Buffer) -> None:
        """Feed more of what is read, until the first `again`."""
        self._mark.update(data)

    def again(self) -> Rereading:
        """Begin to read it again."""
        if self._expected is None:
            self._expected = self._mark.digest()
        return Rereading(Mark(self._key), self._expected)
