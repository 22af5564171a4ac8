"""The convergent key of a file, found while its bytes come in.

The key depends on how the file will be encoded, so that has to be known before, and of its size
whether it has more than one segment. Who then uploads it with other parameters finds the key anew.
"""

from __future__ import annotations

from attrs import evolve, frozen

from ampgrid.crypto.hashing import Buffer, ConvergentKey


@frozen
class KeyParameters:
    """What the convergent key of a file depends on, beside its bytes.

    Attributes:
        size: of the file, bytes.
        needed: shares that give it back (k).
        total: shares that are made (n).
        segment_size: bytes.
    """

    size: int
    needed: int
    total: int
    segment_size: int

    def hasher(self, secret: bytes) -> ConvergentKey:
        """Return what the bytes are fed to; ``secret`` is the convergence secret."""
        return ConvergentKey(secret, self.needed, self.total, self.segment_size)


class EarlyKey:
    """Finds a key.

    Args:
        secret: the convergence secret.
        parameters: of the file that is awaited, whose size may turn out to be another.
    """

    def __init__(self, secret: bytes, parameters: KeyParameters) -> None:
        self._parameters = parameters
        self._hasher = parameters.hasher(secret)
        self._taken = 0

    @property
    def segment_size(self) -> int:
        """Bytes of a segment of the file."""
        return self._parameters.segment_size

    def update(self, data: Buffer) -> None:
        """Take the next bytes."""
        self._hasher.update(data)
        self._taken += len(data)

    def found(self, parameters: KeyParameters) -> bytes | None:
        """Return the key, 16 bytes; None if the file is another than was awaited."""
        taken = evolve(self._parameters, size=self._taken)
        return self._hasher.digest() if taken == parameters else None
