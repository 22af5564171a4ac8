"""What is printed: results on the standard output, all else on standard error.

An error is one line, or one JSON object under ``--json``. Progress bars appear only where
somebody watches: on a terminal.
"""

from __future__ import annotations

import json
import os
import re
import select
import sys
import tempfile
import time
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli.exits import Exit, exit_of
from ampgrid.commands.errors import NotEnoughSharesFoundError
from ampgrid.errors import NotEnoughSharesError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


#: An error of the wire has no fields, so its numbers stand in its words.
_FOUND = re.compile(r"found (\d+) of the (\d+) shares")

#: A bar is drawn no more often.
_DRAW_SECONDS = 0.1


def print_json(value: object, *, to_stderr: bool = False, in_one_line: bool = False) -> None:
    """Print one JSON object."""
    indent = None if in_one_line else 2
    click.echo(json.dumps(value, indent=indent, ensure_ascii=False), err=to_stderr)


def one_line(text: str) -> str:
    """Return ``text`` without line breaks and other control characters, for a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shown(name: str) -> str:
    """Return the name of a file or a directory as it is printed on the standard output.

    On a terminal, what could move the cursor or turn the direction of the text is spelt with a
    backslash. Elsewhere the name stays as it is: no name in the grid holds a line break.
    """
    return spelt(name) if sys.stdout.isatty() else name


def spelt(name: str) -> str:
    r"""Return a name in which what cannot be printed is spelt with a backslash.

    >>> print(spelt("two\nlines"), spelt("no\udcff UTF-8"))
    two\nlines no\udcff UTF-8
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def said_of(path: object, text: str) -> str:
    """Return what is told of a path; that of a root ends with a colon of its own.

    >>> said_of("private:", "not reachable"), said_of("private:a", "not reachable")
    ('private: not reachable', 'private:a: not reachable')
    """
    name = str(path)
    return f"{name} {text}" if name.endswith(":") else f"{name}: {text}"


def note(text: str) -> None:
    """Print one line about the course of things on standard error."""
    click.echo(one_line(text), err=True)


def describe(error: BaseException) -> str:
    """Return what to tell the user about an expected error."""
    if isinstance(error, OSError) and not str(error).strip():
        return type(error).__name__
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}."
    text = one_line(str(error))
    # An error of the wire can come without a message: then its class says what it is.
    return text or (type(error).__doc__ or type(error).__name__).partition("\n")[0]


def report(ending: Exit, message: str, *, as_json: bool, **more: Any) -> None:
    """Print an error on standard error."""
    message = one_line(message)
    if as_json:
        error = {"status": ending.status, "name": ending.name, "message": message, **more}
        click.echo(json.dumps({"error": error}, ensure_ascii=False), err=True)
    else:
        click.echo(f"ampgrid: {message}", err=True)


def report_error(error: BaseException, *, as_json: bool) -> Exit:
    """Print an expected error and return how the command ends for it."""
    ending = exit_of(error)
    message = describe(error)
    report(ending, message, as_json=as_json, **_counts(error, message))
    return ending


def _counts(error: BaseException, message: str) -> dict[str, int]:
    """Return how many shares were found and needed, where the error tells."""
    if isinstance(error, NotEnoughSharesError):
        return {"found": error.found, "needed": error.needed}
    if isinstance(error, NotEnoughSharesFoundError) and (told := _FOUND.match(message)):
        return {"found": int(told[1]), "needed": int(told[2])}
    return {}


def report_unexpected(error: BaseException, *, as_json: bool, debug: bool) -> Exit:
    """Print one line about an error that nobody foresaw; its traceback goes to a file."""
    ending = exit_of(error)
    if debug:
        traceback.print_exception(error)
        report(ending, f"Unexpected {type(error).__name__}, see above.", as_json=as_json)
        return ending
    try:
        # mkstemp: for the user alone, since a message can repeat what was typed.
        descriptor, path = tempfile.mkstemp(prefix="ampgrid-error-", suffix=".log")
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            traceback.print_exception(error, file=file)
        where = f"the details are in {path}"
    except OSError:
        where = "try it again with ampgrid --debug for the details"
    report(ending, f"Unexpected {type(error).__name__}; {where}.", as_json=as_json)
    return ending


def fill_standard_streams() -> bool:
    """Put something in the place of standard streams that are closed, as after ``>&-``.

    A file that is opened next would get the number of one of them, and be taken for it.

    Returns:
        Whether the standard output was open.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # What was closed for reading shall not be read as an empty file.
            os.open(os.devnull, os.O_RDWR if number else os.O_WRONLY)
    is_open = sys.stdout is not None
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    return is_open


def unwritten() -> bool:
    """Tell whether something of what was printed could not be written."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def stdout_is_gone() -> bool:
    """Tell whether nobody reads the standard output any more."""
    poll = select.poll()
    try:
        poll.register(1, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


class ProgressBar:
    """A progress bar on standard error, or nothing where nobody watches.

    Args:
        shown: False for nothing in any case.
        unit: of what is done, if it is not bytes.
    """

    def __init__(self, *, shown: bool = True, unit: str = "") -> None:
        self.shown = shown and sys.stderr.isatty()
        self._unit = unit
        self._drawn_at = float("-inf")
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBar:
        if self.shown:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            counting = (
                (MofNCompleteColumn(), TextColumn(self._unit))
                if self._unit
                else (DownloadColumn(), TransferSpeedColumn())
            )
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                *counting,
                TimeRemainingColumn(),
                console=Console(file=sys.stderr),
                auto_refresh=False,
                transient=True,
                # They may lead to another place than this terminal.
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def show(self, phase: str, done: int, total: int) -> None:
        """Show how far it is.

        Args:
            phase: what is being done, a word or two.
            done: so much is done, in bytes or in the bar's unit.
            total: how much it is in all, 0 while unknown.
        """
        if self._progress is None:
            return
        if self._task is None:
            self._task = self._progress.add_task(phase, total=None)
        self._progress.update(
            self._task, description=one_line(phase), completed=done, total=total or None
        )
        if time.monotonic() - self._drawn_at >= _DRAW_SECONDS:
            self._progress.refresh()
            self._drawn_at = time.monotonic()

    def echo(self, text: str) -> None:
        """Print a line on the standard output, which may be the terminal that the bar is on."""
        self._clear()
        click.echo(text)

    def note(self, text: str) -> None:
        """Print one line about the course of things on standard error."""
        self._clear()
        note(text)

    def _clear(self) -> None:
        if self._progress is not None:
            # It is one line, in which the cursor stands; it comes back when it is shown next.
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._drawn_at = float("-inf")
