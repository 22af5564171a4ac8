"""What went wrong with some of many things, while the others went on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from ampgrid.cli import console, exits
from ampgrid.errors import (
    AmpgridError,
    FileError,
    NotConnectedError,
    NotEnoughPeersError,
    NotRunningError,
)

#: After these nothing else can be done either.
_ENDS = (NotConnectedError, NotRunningError, NotEnoughPeersError)
#: What the system says of a disk that takes nothing more, of no file either that follows. The
#: node's errors tell it by these words alone.
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS))


def is_full(error: AmpgridError | OSError) -> bool:
    """Tell whether a local file could not be written since its disk takes nothing more.

    >>> is_full(FileError("out/a: cannot write the output: No space left on device"))
    True
    """
    if not isinstance(error, FileError | OSError):
        return False
    return console.describe(error).rstrip(".").endswith(_FULL)


@frozen
class Problem:
    """One thing that failed.

    Attributes:
        path: which it was.
        message: what happened.
        ending: how a command ends for it.
    """

    path: str
    message: str
    ending: exits.Exit

    @property
    def line(self) -> str:
        """The line about it."""
        told, path = self.message, console.spelt(self.path)
        # An error has its name on one line.
        if told.startswith((path, console.one_line(self.path))):
            return told
        return console.said_of(path, told)


class Problems:
    """Notes what fails, tells it at once, and knows how the command ends for it.

    Args:
        as_json: whether lines are kept back, since the result tells them.
        alone: whether there is one thing only, whose error is that of the command.
        tell: prints a line.
    """

    def __init__(
        self,
        *,
        as_json: bool = False,
        alone: bool = False,
        tell: Callable[[str], None] = console.note,
    ) -> None:
        self._as_json = as_json
        self._alone = alone
        self._tell = tell
        self._found: list[Problem] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def found(self) -> list[Problem]:
        """All of them, in the order in which they came."""
        return list(self._found)

    @contextmanager
    def of(self, path: object) -> Iterator[None]:
        """Note what is raised within as a problem of ``path``; what ends all is raised."""
        try:
            yield
        except _ENDS:
            raise
        except (AmpgridError, OSError) as error:
            if self._alone or is_full(error):
                raise
            self.add(path, error)

    def add(self, path: object, error: AmpgridError | OSError) -> None:
        """Note an error about ``path``."""
        problem = Problem(str(path), console.describe(error), exits.exit_of(error))
        self._found.append(problem)
        if not self._as_json:
            self._tell(f"ampgrid: {problem.line}")

    @property
    def status(self) -> int:
        """The exit status: that of the first problem, 0 without any."""
        return self._found[0].ending.status if self._found else exits.DONE.status

    def to_json(self) -> list[dict[str, Any]]:
        """Return them for JSON."""
        return [
            {
                "path": console.spelt(problem.path),
                "message": problem.message,
                "name": problem.ending.name,
                "status": problem.ending.status,
            }
            for problem in self._found
        ]
