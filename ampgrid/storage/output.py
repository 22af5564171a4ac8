"""Where a file that is written whole may go: in the place of a file, or of nothing.

Such a file is made beside its place and renamed to it, and a rename replaces whatever is there:
a device, a FIFO or a socket would be gone, and a symbolic link be a file from then on.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ampgrid.errors import FileError


def output_target(path: Path) -> Path:
    """Return the path that is to be replaced: that to which a symbolic link leads.

    Raises:
        FileError: something is there that is no regular file, or the path leads nowhere.
    """
    try:
        target = Path(os.path.realpath(path))
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return target
    except OSError as error:
        raise FileError(f"{path} could not be written: {error.strerror}.") from error
    if stat.S_ISDIR(mode):
        raise FileError(f"{path} is a directory; name the file to write.")
    if stat.S_ISLNK(mode):
        raise FileError(f"{path} is a symbolic link that leads nowhere.")
    if not stat.S_ISREG(mode):
        raise FileError(f"{path} is no regular file, and would be replaced; name another one.")
    return target
