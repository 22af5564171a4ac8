"""Files that hold secrets: written once, readable by their owner alone."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from ampgrid.errors import ConfigError

_MAX_SECRET_BYTES = 64 * 1024


def write_secret_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a new secret file, mode 0600, and have it on the disk when this returns.

    The name appears only once all of the content is there: a crash leaves no half of a key.

    Args:
        path: where; nothing may be there yet.
        data: all of its content.

    Raises:
        ConfigError: something is there already, or it could not be written.
    """
    target = Path(path)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=target.parent)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - it is a descriptor
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename, a link never replaces what is there.
            os.link(temporary, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
        sync_directory(target.parent)
    except FileExistsError:
        raise ConfigError(f"{target} is there already; it was left as it is.") from None
    except OSError as error:
        raise ConfigError(f"{target} could not be written: {error.strerror}.") from error


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_secret_file(path: str | os.PathLike[str], most: int = _MAX_SECRET_BYTES) -> bytes:
    """Read a secret file, refusing one that others could have read or put there.

    Args:
        path: where it is.
        most: the largest size taken, bytes.

    Raises:
        ConfigError: it is missing, no ordinary file, somebody else's, open to others or too
            large; the message says what to do.
    """
    target = Path(path)
    # Without O_NONBLOCK a named pipe put in its place would hang the node.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(target, flags)
    except OSError as error:
        if target.is_symlink():
            raise ConfigError(f"{target} is a symbolic link; put the file itself there.") from None
        raise ConfigError(f"{target} could not be read: {error.strerror}.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{target} is no ordinary file; put the secret file there.")
        if status.st_uid != os.geteuid():
            raise ConfigError(f"{target} belongs to another user; chown it to yourself.")
        if status.st_mode & 0o077:
            raise ConfigError(f"{target} is open to other users; run: chmod 600 {target}")
        # Opened for reading as a file only now: a directory or a pipe cannot be.
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise ConfigError(f"{target} is larger than {most} bytes; it is not the right file.")
    return data
