"""Writes a share of a store out, without any container: the reverse of an import."""

from __future__ import annotations

import os

from ampgrid.errors import FileError, IntegrityError, NotStoredError
from ampgrid.store import Store

#: Bytes that are read and written at a time.
_PIECE = 1024 * 1024


def export_share(store: Store, storage_index: bytes, number: int, descriptor: int) -> int:
    """Write all bytes of a share to a file or a stream that is open. Blocks.

    Args:
        store: where the share is.
        storage_index: of its file, 16 bytes.
        number: of the share.
        descriptor: where to write; it stays open.

    Returns:
        The size of the share, bytes.

    Raises:
        NotStoredError: there is no such share; nothing was written.
        BrokenStoreError: it could not be read.
        IntegrityError: something was cut off it.
        FileError: it could not be written.
    """
    size = store.shares(storage_index).get(number)
    if size is None:
        raise NotStoredError("there is no such share here")
    for offset in range(0, size, _PIECE):
        length = min(_PIECE, size - offset)
        piece = store.read(storage_index, number, offset, length)
        if len(piece) != length:
            raise IntegrityError("The share is shorter than it was.")
        try:
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError as error:
            raise FileError(f"The share could not be written: {error.strerror}.") from error
    return size
