"""Writes a share of a store to a file, without any container: the reverse of an import."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ampgrid.errors import FileError, IntegrityError, NotStoredError
from ampgrid.storage.output import output_target
from ampgrid.store import Store

#: Bytes that are read and written at a time.
_PIECE = 1024 * 1024


def export_share(store: Store, storage_index: bytes, number: int, path: Path) -> int:
    """Write all bytes of a share to a file, whole or not at all. Blocks.

    Args:
        store: where the share is.
        storage_index: of its file, 16 bytes.
        number: of the share.
        path: where to write; a file that is there is replaced, nothing else is.

    Returns:
        The size of the share, bytes.

    Raises:
        NotStoredError: there is no such share.
        BrokenStoreError: it could not be read.
        IntegrityError: something was cut off it.
        FileError: the file could not be written.
    """
    size = store.shares(storage_index).get(number)
    if size is None:
        raise NotStoredError("there is no such share here")
    target = output_target(path)
    try:
        descriptor, temporary = tempfile.mkstemp(
            prefix=".ampgrid-", suffix=".part", dir=target.parent
        )
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - it is a descriptor
                for offset in range(0, size, _PIECE):
                    length = min(_PIECE, size - offset)
                    piece = store.read(storage_index, number, offset, length)
                    if len(piece) != length:
                        raise IntegrityError("The share is shorter than it was.")
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FileError(f"{path} could not be written: {error.strerror}.") from error
    return size
