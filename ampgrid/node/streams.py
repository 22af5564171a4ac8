"""What an upload reads and a download writes: files of this machine, and descriptors."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred

from ampgrid.errors import BadArgumentValueError, FileError
from ampgrid.immutable import (
    Data,
    DownloadTarget,
    Encoding,
    OpenFile,
    Operation,
    Spool,
    ToDescriptor,
    ToFile,
    Uploadable,
)
from ampgrid.immutable.uploadables import SMALL_BYTES
from ampgrid.node.answering import absolute
from ampgrid.node.sizes import format_size
from ampgrid.ports import Entropy, Threads

if TYPE_CHECKING:
    from ampgrid.immutable import Uploader

#: So much of a stream is taken in any case, and in one turn of a thread at most, bytes.
_LITTLE_BYTES = 1024 * 1024
#: A pipe gives little at once: a turn is so many reads at most, and waits so long for each,
#: milliseconds; for the first it waits longer.
_READS = 32
_SOON = 10
_LATER = 500


class Machine(Protocol):
    """What is needed of a node."""

    entropy: Entropy
    spool_path: Path
    spool_reserve: int
    work: Threads
    streams: Threads

    @property
    def uploader(self) -> Uploader:
        """What puts it on the grid."""
        ...


async def source_of(
    node: Machine,
    path: str | None,
    descriptor: int | None,
    operation: Operation,
    encoding: Encoding,
) -> Uploadable:
    """Return what is uploaded; the caller closes it.

    Args:
        node: whose disk and threads are used.
        path: of a file; None for none.
        descriptor: of a file or a stream; None for none.
        operation: shows the progress of reading a stream.
        encoding: how it will be uploaded, as far as is known.

    Raises:
        BadArgumentValueError: not exactly one of path and descriptor is given.
        FileError: it cannot be read.
    """
    if (path is None) == (descriptor is None):
        raise BadArgumentValueError("give either a path or a descriptor")
    if path is not None:
        return await node.work.run(_opened, absolute(path))
    assert descriptor is not None
    if not _is_whole_file(descriptor):
        return await _spooled(node, descriptor, operation, encoding)
    own = os.dup(descriptor)
    try:
        return OpenFile(own)
    except BaseException:
        os.close(own)
        raise


def _opened(path: Path) -> Uploadable:
    """Open a file; a small one is read at once (in a thread)."""
    file = OpenFile.at(path)
    size = file.get_size()
    if size > SMALL_BYTES:
        return file
    try:
        data = file.read_at(0, size)
        file.check_unchanged()
        return Data(data)
    finally:
        file.close()


async def _spooled(
    node: Machine, descriptor: int, operation: Operation, encoding: Encoding
) -> Spool:
    """Keep a stream in the node's directory, as long as the disk keeps its reserve.

    Raises:
        FileError: the disk has no more room for it.
    """
    operation.enter("reading the input", 0)
    early_key = node.uploader.early_key(None, encoding)
    spool = await node.work.run(Spool, node.spool_path, node.entropy, early_key=early_key)
    try:
        while await node.streams.run(_add_some, spool, descriptor):
            operation.check()
            operation.done = spool.get_size()
            if operation.done >= _LITTLE_BYTES:
                await node.work.run(leave_free, node.spool_path, node.spool_reserve)
        spool.end()
    except BaseException:
        spool.close()
        raise
    return spool


async def target_of(
    node: Machine, path: str | None, descriptor: int | None, operation: Operation
) -> DownloadTarget:
    """Return where a download goes.

    Raises:
        BadArgumentValueError: not exactly one of path and descriptor is given.
        FileError: it cannot be written.
    """
    if (path is None) == (descriptor is None):
        raise BadArgumentValueError("give either a path or a descriptor")
    if descriptor is not None:
        return ToDescriptor(os.dup(descriptor), node.streams, operation.check)
    assert path is not None
    return await node.work.run(ToFile, absolute(path), node.work, node.entropy)


@contextmanager
def closed(descriptor: int | None) -> Iterator[None]:
    """Close what came with a call when the call is done, however it ends."""
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def let_go(threads: Threads, source: Uploadable) -> None:
    """Close what was uploaded; of a spool nobody waits for it.

    The system frees the pages of a long one by one, so it is closed in a thread. A call that
    waited for that on its way out could not be dropped once the threads have ended.
    """
    if isinstance(source, Spool):
        Deferred.fromCoroutine(_closed_in(threads, source))
    else:
        source.close()


async def _closed_in(threads: Threads, spool: Spool) -> None:
    await threads.run(spool.close)


def _is_whole_file(descriptor: int) -> bool:
    """Tell whether it is a regular file at its beginning, which can be read at any offset."""
    found = os.fstat(descriptor)
    # One of no size may be the kernel's (/proc), which is read to its end like a stream.
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return False
    return os.lseek(descriptor, 0, os.SEEK_CUR) == 0


def leave_free(folder: Path, reserve: int) -> None:
    """Return if the disk has the reserve free also after one more read.

    Raises:
        FileError: it has not.
    """
    try:
        status = os.statvfs(folder)
    except OSError as error:
        raise FileError(f"{folder} cannot be used: {error.strerror}") from error
    if status.f_bavail * status.f_frsize < reserve + _LITTLE_BYTES:
        raise FileError(
            f"The input waits in {folder} while it is put, and its disk must keep "
            f"{format_size(reserve)} free ('reserve' in node.toml): make room there, or write "
            "the input to a file on another disk and put that"
        )


def _add_some(spool: Spool, descriptor: int) -> bool:
    """Add what the stream gives soon, `_LITTLE_BYTES` at most; False at its end (in a thread)."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    most = spool.get_size() + _LITTLE_BYTES
    wait = _LATER
    for _ in range(_READS):
        left = most - spool.get_size()
        if not left or not poll.poll(wait):
            break
        if not spool.add_from(descriptor, left):
            return False
        wait = _SOON
    return True
