"""``ampgrid put`` and ``ampgrid get``."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console
from ampgrid.cli.params import SHARES, SIZE, argument_text, json_option
from ampgrid.cli.session import Session
from ampgrid.errors import BadCapError, FileError

if TYPE_CHECKING:
    from ampgrid.cli.reactor import Stop
    from ampgrid.node.config import EncodingParameters

_STDIN, _STDOUT = 0, 1


def _whole(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - a symbolic link is followed by the node


@contextmanager
def source_of(file: str) -> Iterator[dict[str, Any]]:
    """Give the argument of Upload that names ``file``: a path or a descriptor.

    What is no ordinary file (a pipe, ``/dev/stdin``) is opened here: only this process may have
    it.

    Raises:
        FileError: it is missing, a directory, or cannot be read.
    """
    if file == "-":
        yield {"descriptor": _STDIN}
        return
    try:
        kind = os.stat(file).st_mode  # noqa: PTH116 - the path as it was typed
        if stat.S_ISDIR(kind):
            raise FileError(f"{file} is a directory; ampgrid put takes one file.")
        with open(file, "rb") as opened:  # noqa: PTH123
            if stat.S_ISREG(kind):
                yield {"path": _whole(file)}
            else:
                yield {"descriptor": opened.fileno()}
    except OSError as error:
        raise FileError(f"{file} could not be read: {error.strerror}.") from error


@contextmanager
def target_of(out: str | None) -> Iterator[dict[str, Any]]:
    """Give the argument of Download that names ``out``: a path or a descriptor.

    Raises:
        FileError: it is a directory, or its own directory is missing or cannot be written.
    """
    if out is None or out == "-":
        sys.stdout.flush()
        yield {"descriptor": _STDOUT}
        return
    # The file behind a symbolic link is replaced, not the link.
    path = Path(os.path.realpath(out))
    try:
        if path.is_dir():
            raise FileError(f"{out} is a directory; name the file to write.")
        if not path.parent.is_dir():
            raise FileError(f"{out}: there is no directory {path.parent}.")
        if path.exists() and not path.is_file():
            with open(path, "wb") as opened:  # noqa: PTH123
                yield {"descriptor": opened.fileno()}
            return
        if not os.access(path.parent, os.W_OK):
            raise FileError(f"{out} could not be written: no right to write in {path.parent}.")
        yield {"path": str(path)}
    except OSError as error:
        raise FileError(f"{out} could not be written: {error.strerror}.") from error


def readable_cap(text: str) -> str:
    """Return the text of a cap that a file can be read by, in its one spelling.

    Raises:
        BadCapError: it is none.
    """
    from ampgrid.caps import ChkVerifierCap, parse_cap

    cap = parse_cap(text)
    if isinstance(cap, ChkVerifierCap):
        raise BadCapError("This is a verify cap; the file can only be read by its read cap.")
    return str(cap.to_string())


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--shares", type=SHARES, metavar="K/HAPPY/N", help="Outranks the node's setting.")
@json_option
@click.pass_obj
def put(session: Session, *, file: str, shares: EncodingParameters | None, as_json: bool) -> None:
    """Upload FILE and print its cap.

    FILE may be - for the standard input. Who has the cap can read the file; without it nobody
    can.
    """
    from ampgrid.cli.control import call_watched, connect
    from ampgrid.cli.reactor import run_with_reactor
    from ampgrid.commands.control import Upload

    session.directory.require()
    arguments: dict[str, Any] = {}
    if shares is not None:
        arguments = {"needed": shares.needed, "happy": shares.happy, "total": shares.total}

    async def work(reactor: Any, stop: Stop) -> dict[str, Any]:
        connection = await connect(reactor, session)
        return await call_watched(reactor, connection, stop, bar, Upload, **source, **arguments)

    with source_of(file) as source, console.ProgressBar() as bar:
        answer = run_with_reactor(work)
    if as_json:
        console.print_json(answer)
    else:
        click.echo(answer["cap"])


@click.command()
@click.argument("cap", metavar="CAP")
@click.argument("out", metavar="[OUT]", required=False)
@click.option("--offset", type=SIZE, help="Where to begin, bytes from the start of the file.")
@click.option("--length", type=SIZE, help="How much, bytes; the rest of the file by default.")
@json_option
@click.pass_obj
def get(
    session: Session,
    *,
    cap: str,
    out: str | None,
    offset: int | None,
    length: int | None,
    as_json: bool,
) -> None:
    """Download a file by its CAP.

    CAP may be - and is then read from the standard input. The file goes to OUT, which is
    replaced only when all of it is there, or to the standard output.
    """
    from ampgrid.cli.control import call_watched, connect
    from ampgrid.cli.reactor import run_with_reactor
    from ampgrid.commands.control import Download

    arguments: dict[str, Any] = {"cap": readable_cap(argument_text(cap, "a cap"))}
    session.directory.require()
    if offset is not None:
        arguments["offset"] = offset
    if length is not None:
        arguments["length"] = length

    async def work(reactor: Any, stop: Stop) -> dict[str, Any]:
        connection = await connect(reactor, session)
        return await call_watched(reactor, connection, stop, bar, Download, **target, **arguments)

    with target_of(out) as target:
        to_stdout = target.get("descriptor") == _STDOUT
        # On a terminal the file itself is what is watched.
        with console.ProgressBar(shown=not (to_stdout and sys.stdout.isatty())) as bar:
            answer = run_with_reactor(work)
    problems = answer["problems"].splitlines()
    if as_json:
        result = {"size": answer["size"], "problems": problems, "out": target.get("path")}
        console.print_json(result, to_stderr=to_stdout)
    else:
        for problem in problems:
            console.note(f"ampgrid: note: {problem}")
