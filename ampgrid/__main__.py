"""``python -m ampgrid``: the same as the command ``ampgrid``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

_INTERRUPTED = 130
#: Options of ampgrid itself that take a value.
_WITH_VALUE = {"-d", "--directory"}


def _subcommand(words: Sequence[str]) -> str:
    """Return the subcommand that a command line names, empty for none."""
    rest = iter(words)
    for word in rest:
        if word in _WITH_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return ""


def _first_interrupt(_number: int, _frame: object) -> None:
    # A second one, while this one is being told of, ends all in the same way.
    signal.signal(signal.SIGINT, _interrupted)
    raise KeyboardInterrupt


def _interrupted(_number: int, _frame: object) -> None:
    os.write(2, b"ampgrid: Interrupted.\n")
    os._exit(_INTERRUPTED)


def _ended(_number: int, _frame: object) -> None:
    os._exit(0)


def main() -> NoReturn:
    """Run the command line of this process, which a signal ends in peace from the beginning."""
    # Before the imports, which take a while, and in which an exception would be a traceback.
    running = _subcommand(sys.argv[1:]) == "run"
    # It is ignored in a job that a script's shell has put into the background.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, _interrupted)
    if running:
        # Nothing is begun before the reactor runs, and then these handlers make room for others.
        signal.signal(signal.SIGTERM, _ended)

    from ampgrid.cli import main as command_line

    if interruptible and not running:
        signal.signal(signal.SIGINT, _first_interrupt)
    status = command_line.invoke()
    # By now all is told.
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


if __name__ == "__main__":
    main()
