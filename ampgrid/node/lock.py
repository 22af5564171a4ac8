"""One node a directory: a pid file that its node keeps locked.

The lock is the kernel's, so it goes with the process however that ends; a pid file that was
left behind stops nobody.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ampgrid.errors import ConfigError


class DirectoryLock:
    """The right to run a node in a directory; held from construction to `release`.

    Args:
        path: the pid file, made if it is missing.
        what: what runs there, for messages.

    Raises:
        ConfigError: another process holds it, or the file cannot be opened.
    """

    def __init__(self, path: Path, what: str = "node") -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise ConfigError(f"{path} could not be opened: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            who = f", as process {pid}" if pid.isdecimal() else ""
            raise ConfigError(f"A {what} runs in {path.parent} already{who}.") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let others run a node there. The file stays: removing it would race with them."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
