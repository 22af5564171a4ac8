"""A stream that waits in a file until it is uploaded, for nobody else to read or to change.

Blocks of it are sealed one by one with AES-128-GCM, under a key that is in memory only and the
number of the block as nonce. Whoever finds the file after a crash finds noise: it has no name once
it is open, and its key died with the process. What the disk gives back is what was written to it,
or an error; so it need not be hashed again to know that it is.
"""

from __future__ import annotations

import os
from collections import deque
from itertools import islice
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ampgrid.crypto.hashing import Buffer
from ampgrid.errors import FileError
from ampgrid.immutable.earlykey import EarlyKey
from ampgrid.ports import Entropy

#: Bytes of a block; what does not fill one yet is in memory.
BLOCK_BYTES = 64 * 1024
_SEALED_BYTES = BLOCK_BYTES + 16
#: So many blocks are written by one call of the system at most.
_MOST_BLOCKS = 256


class Spool:
    """A stream, kept in a sealed file.

    Args:
        folder: where the file is made; the node's own ``spool`` directory.
        entropy: where the key comes from.
        most: the most bytes that are taken.
        early_key: told of all bytes, to find the key of the file that they are; None for nothing.

    Raises:
        FileError: the file cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        entropy: Entropy,
        most: int = 2**63 - 1,
        early_key: EarlyKey | None = None,
    ) -> None:
        self.early_key = early_key
        self._cipher = AESGCM(entropy(16))
        self._most = most
        self._size = 0
        #: Blocks that were sealed; each number is used once, whatever becomes of the block.
        self._blocks = 0
        self._rest = bytearray()
        try:
            self._descriptor = os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FileError(f"cannot make a spool file: {error.strerror}") from error

    def add(self, data: Buffer) -> None:
        """Append bytes of the stream (blocking).

        Raises:
            FileError: the disk does not take them.
        """
        if self._size + len(data) > self._most:
            raise FileError("the stream is longer than the spool takes")
        if self.early_key is not None:
            self.early_key.update(data)
        view = memoryview(data)
        taken = min(-len(self._rest) % BLOCK_BYTES, len(view))
        self._rest += view[:taken]
        at = self._blocks * _SEALED_BYTES
        sealed = [self._sealed(self._rest)] if len(self._rest) == BLOCK_BYTES else []
        if sealed or not self._rest:
            whole = taken + (len(view) - taken) // BLOCK_BYTES * BLOCK_BYTES
            starts = range(taken, whole, BLOCK_BYTES)
            sealed += [self._sealed(view[start : start + BLOCK_BYTES]) for start in starts]
            self._rest = bytearray(view[whole:])
        self._write(sealed, at)
        self._size += len(view)

    def _sealed(self, block: Buffer) -> bytes:
        nonce = _nonce(self._blocks)
        self._blocks += 1
        return self._cipher.encrypt(nonce, block, None)

    def _write(self, sealed: list[bytes], at: int) -> None:
        left = deque(memoryview(block) for block in sealed)
        try:
            while left:
                written = os.pwritev(self._descriptor, list(islice(left, _MOST_BLOCKS)), at)
                at += written
                while left and written >= len(left[0]):
                    written -= len(left.popleft())
                if written:
                    left[0] = left[0][written:]
        except OSError as error:
            raise FileError(f"cannot write the spool file: {error.strerror}") from error

    def add_from(self, descriptor: int) -> bool:
        """Append what can be read from a descriptor now (blocking); False at its end."""
        try:
            data = os.read(descriptor, 1024 * 1024)
        except OSError as error:
            raise FileError(f"cannot read the input: {error.strerror}") from error
        if data:
            self.add(data)
        return bool(data)

    def get_size(self) -> int:
        """Return the number of bytes that were added."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes of the stream.

        Raises:
            FileError: there are not so many, or the disk gives back others than it was given.
        """
        if offset + length > self._size:
            raise FileError("the spool file is shorter than that")
        if not length:
            return b""
        first, skipped = divmod(offset, BLOCK_BYTES)
        end = (offset + length - 1) // BLOCK_BYTES + 1
        blocks: list[Buffer] = list(self._opened(first, min(end, self._blocks)))
        if end > self._blocks:
            blocks.append(self._rest)
        beyond = (end - first) * BLOCK_BYTES - skipped - length
        blocks[-1] = memoryview(blocks[-1])[: BLOCK_BYTES - beyond]
        blocks[0] = memoryview(blocks[0])[skipped:]
        return b"".join(blocks)

    def _opened(self, first: int, end: int) -> list[bytes]:
        size = max(0, end - first) * _SEALED_BYTES
        try:
            found = memoryview(os.pread(self._descriptor, size, first * _SEALED_BYTES))
            return [
                self._cipher.decrypt(
                    _nonce(number), found[(number - first) * _SEALED_BYTES :][:_SEALED_BYTES], None
                )
                for number in range(first, end)
            ]
        except OSError as error:
            raise FileError(f"cannot read the spool file: {error.strerror}") from error
        except InvalidTag:
            raise FileError("the disk did not keep the spool file as it was written") from None

    def is_steady(self) -> bool:
        """Tell that every read gives what was added, or fails."""
        return True

    def check_unchanged(self) -> None:
        """Do nothing: nobody else can open the file."""

    def close(self) -> None:
        """Close the file, which has no name any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
