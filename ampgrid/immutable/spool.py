"""A stream that waits in a file until it is uploaded, for nobody else to read or to change.

It is sealed in blocks with AES-128-GCM, under a key that is in memory only and the number of the
block as nonce. What is added is enciphered and written at once, however much of a block it is; the
tags of the blocks stay in memory. Whoever finds the file after a crash finds noise: it has no name
once it is open, and its key died with the process. What the disk gives back is what was written to
it, or an error; so it need not be hashed again to know that it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock, local

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import (
    AEADEncryptionContext,
    Cipher,
    algorithms,
    modes,
)

from ampgrid.crypto.hashing import Buffer
from ampgrid.errors import FileError
from ampgrid.formats.segments import round_up
from ampgrid.immutable.earlykey import EarlyKey
from ampgrid.ports import Entropy

#: Bytes of a block; where the segments of the file are known, as many of them as have so much.
BLOCK_BYTES = 256 * 1024
_TAG_BYTES = 16
#: So much is enciphered and written at once: the longer, the less the file system has to do.
_PIECE_BYTES = 512 * 1024


class _Scratch(local):
    """Where a thread enciphers: memory that the system need not give it anew each time."""

    def __init__(self) -> None:
        self.room = memoryview(bytearray(_PIECE_BYTES))


_scratch = _Scratch()


class Spool:
    """A stream, kept in a sealed file: it is filled, then ended, then read.

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
        # An upload reads segment by segment: what it reads is one block then, and read once.
        unit = 1 if early_key is None else early_key.segment_size
        self._block_bytes = round_up(BLOCK_BYTES, unit)
        self._key = algorithms.AES128(entropy(16))
        self._most = most
        self._size = 0
        self._tags = bytearray()
        #: Enciphers the block that is not full yet, if any of it is there.
        self._sealing: AEADEncryptionContext | None = None
        self._ended = False
        #: The number and the bytes of a block that was read up to somewhere inside it.
        self._begun: tuple[int, bytes] | None = None
        #: After a write that failed it is not known what the file holds.
        self._broken = False
        #: Held while bytes are added: who closes the file meanwhile, as an upload that was
        #: cancelled does, waits, or they went to whatever file is opened next.
        self._adding = Lock()
        try:
            self._descriptor = os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FileError(f"cannot make a spool file: {error.strerror}") from error

    def add(self, data: Buffer) -> None:
        """Append bytes of the stream (blocking); none may come after `end`.

        Raises:
            FileError: the disk does not take them, or did not take earlier ones.
        """
        with self._adding:
            self._add(data)

    def _add(self, data: Buffer) -> None:
        self._check_whole()
        if self._ended:
            raise ValueError("the stream has ended")
        if self._size + len(data) > self._most:
            raise FileError("the stream is longer than the spool takes")
        if self.early_key is not None:
            self.early_key.update(data)
        view = memoryview(data)
        for start in range(0, len(view), _PIECE_BYTES):
            self._write(self._sealed(view[start : start + _PIECE_BYTES]))

    def _check_whole(self) -> None:
        if self._broken:
            raise FileError("the spool file could not be written")

    def _sealed(self, data: memoryview) -> memoryview:
        """Encipher the next bytes; what is returned holds until the thread does it again."""
        room, done = _scratch.room, 0
        while done < len(data):
            number, filled = divmod(self._size + done, self._block_bytes)
            if self._sealing is None:
                self._sealing = Cipher(self._key, modes.GCM(_nonce(number))).encryptor()
            some = data[done : done + self._block_bytes - filled]
            self._sealing.update_into(some, room[done:])
            done += len(some)
            if filled + len(some) == self._block_bytes:
                self._seal()
        return room[:done]

    def _seal(self) -> None:
        """End the block that is being filled."""
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            sealing.finalize()
            self._tags += sealing.tag

    def _write(self, sealed: memoryview) -> None:
        try:
            while sealed:
                written = os.pwrite(self._descriptor, sealed, self._size)
                self._size += written
                sealed = sealed[written:]
        except OSError as error:
            self._broken = True
            raise FileError(f"cannot write the spool file: {error.strerror}") from error

    def add_from(self, descriptor: int, most: int = 1024 * 1024) -> bool:
        """Append what can be read from a descriptor now (blocking); False at its end."""
        try:
            data = os.read(descriptor, most)
        except OSError as error:
            raise FileError(f"cannot read the input: {error.strerror}") from error
        if data:
            self.add(data)
        return bool(data)

    def end(self) -> None:
        """Note that all of the stream is here: now it can be read."""
        self._seal()
        self._ended = True

    def get_size(self) -> int:
        """Return the number of bytes that were added."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes of the stream, which has ended.

        Raises:
            FileError: there are not so many, or the disk gives back others than it was given.
        """
        self._check_whole()
        if not self._ended:
            raise ValueError("the stream has not ended")
        if offset + length > self._size:
            raise FileError("the spool file is shorter than that")
        if not length:
            return b""
        first, skipped = divmod(offset, self._block_bytes)
        last = (offset + length - 1) // self._block_bytes
        end = offset + length - last * self._block_bytes
        blocks: list[Buffer] = [self._block(number) for number in range(first, last)]
        blocks.append(self._block(last, end))
        if len(blocks[-1]) > end:
            blocks[-1] = memoryview(blocks[-1])[:end]
        if skipped:
            blocks[0] = memoryview(blocks[0])[skipped:]
        # What is one whole block is not copied.
        return b"".join(blocks)

    def _block(self, number: int, end: int | None = None) -> bytes:
        """Return a block.

        Args:
            number: of the block.
            end: where in it this read ends: if that is before its own end, it is kept for the
                next read, which may well go on there. None for at its end.
        """
        begun = self._begun
        if begun is None or begun[0] != number:
            begun = number, self._opened(number)
        # Number and bytes at once: other threads read as well.
        self._begun = None if end is None or end >= len(begun[1]) else begun
        return begun[1]

    def _opened(self, number: int) -> bytes:
        at = number * self._block_bytes
        tag = bytes(self._tags[number * _TAG_BYTES :][:_TAG_BYTES])
        try:
            found = os.pread(self._descriptor, min(self._block_bytes, self._size - at), at)
            opening = Cipher(self._key, modes.GCM(_nonce(number), tag)).decryptor()
            block = opening.update(found)
            opening.finalize()
        except OSError as error:
            raise FileError(f"cannot read the spool file: {error.strerror}") from error
        except InvalidTag:
            raise FileError("the disk did not keep the spool file as it was written") from None
        return block

    def is_steady(self) -> bool:
        """Tell that every read gives what was added, or fails."""
        return True

    def check_unchanged(self) -> None:
        """Do nothing: nobody else can open the file."""

    def close(self) -> None:
        """Close the file, which has no name any more."""
        self._begun = None
        with self._adding:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
