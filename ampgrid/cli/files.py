"""``ampgrid put`` and ``ampgrid get``."""

from __future__ import annotations

import contextlib
import os
import secrets
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
from ampgrid.commands.errors import FileFailedError
from ampgrid.errors import BadArgumentValueError, BadCapError, FileError

if TYPE_CHECKING:
    from ampgrid.cli.reactor import Stop
    from ampgrid.node.config import EncodingParameters

_STDIN, _STDOUT = 0, 1


@contextmanager
def source_of(file: str) -> Iterator[int]:
    """Give a descriptor to read ``file`` from.

    It is opened here, not by the node: so it may be a pipe or be named as no text can be.

    Raises:
        FileError: it is missing, a directory, or cannot be read.
    """
    if not file:
        raise FileError("FILE is empty; name the file to upload, or - for the standard input.")
    if file == "-":
        yield _STDIN
        return
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 - the path as it was typed
            yield opened.fileno()
    except IsADirectoryError:
        raise FileError(f"{file} is a directory; ampgrid put takes one file.") from None
    except OSError as error:
        raise FileError(f"{file} could not be read: {error.strerror}.") from error


@contextmanager
def target_of(out: str | None) -> Iterator[int]:
    """Give a descriptor to write ``out`` to, which is replaced when the context ends well.

    Raises:
        FileError: it is a directory, or its own directory is missing or cannot be written.
    """
    if out == "":
        raise FileError("OUT is empty; name the file to write, or - for the standard output.")
    if out is None or out == "-":
        sys.stdout.flush()
        yield _STDOUT
        return
    # The file behind a symbolic link is replaced, not the link.
    path = Path(os.path.realpath(out))
    if path.is_dir():
        raise FileError(f"{out} is a directory; name the file to write.")
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as device:
                yield device.fileno()
        else:
            with _replacing(path) as descriptor:
                yield descriptor
    except OSError as error:
        raise FileError(f"{out} could not be written: {error.strerror}.") from error


@contextmanager
def _replacing(path: Path) -> Iterator[int]:
    """Give a new file that takes the place of ``path`` when the context ends well."""
    part = path.with_name(f".ampgrid-{secrets.token_hex(6)}.part")
    # The user's own umask, or the mode of the file that is replaced.
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode) & 0o777)
        yield descriptor
        os.fsync(descriptor)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


@contextmanager
def naming(file: str, standard: str) -> Iterator[None]:
    """Let what the node says of a file, which it knows by its descriptor alone, name it."""
    try:
        yield
    except FileFailedError as error:
        name = f"the standard {standard}" if file == "-" else file
        raise FileError(f"{name}: {error}") from None


def readable_cap(text: str) -> str:
    """Return the text of a cap that a file can be read by, in its one spelling.

    Raises:
        BadCapError: it is none.
    """
    from ampgrid.caps import ChkVerifierCap, parse_file_cap

    cap = parse_file_cap(text)
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
        return await call_watched(reactor, connection, stop, bar, Upload, **arguments)

    with source_of(file) as source, naming(file, "input"), console.ProgressBar() as bar:
        arguments["descriptor"] = source
        answer = run_with_reactor(work)
    try:
        if as_json:
            console.print_json(answer)
        else:
            click.echo(answer["cap"])
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError(
            "The file was uploaded, but its cap could not be written to the standard output: "
            f"{error.strerror}; put it again to be told the same cap."
        ) from error


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
    replaced only when all of it is there, or to the standard output: without OUT only where that
    is no terminal, and always if OUT is -.
    """
    from ampgrid.cli.control import call_watched, connect
    from ampgrid.cli.reactor import run_with_reactor
    from ampgrid.commands.control import Download

    if out is None and sys.stdout.isatty():
        raise BadArgumentValueError(
            "The file would go to the terminal; name OUT, or say - to do it anyway."
        )
    arguments: dict[str, Any] = {"cap": readable_cap(argument_text(cap, "a cap"))}
    session.directory.require()
    if offset is not None:
        arguments["offset"] = offset
    if length is not None:
        arguments["length"] = length

    async def work(reactor: Any, stop: Stop) -> dict[str, Any]:
        connection = await connect(reactor, session)
        return await call_watched(reactor, connection, stop, bar, Download, **arguments)

    with target_of(out) as target, naming(out or "-", "output"):
        arguments["descriptor"] = target
        to_stdout = target == _STDOUT
        # On a terminal the file itself is what is watched.
        with console.ProgressBar(shown=not (to_stdout and sys.stdout.isatty())) as bar:
            answer = run_with_reactor(work)
    problems = answer["problems"].splitlines()
    if as_json:
        where = None if out is None or to_stdout else os.path.realpath(out)
        result = {"size": answer["size"], "problems": problems, "out": where}
        console.print_json(result, to_stderr=to_stdout)
    else:
        for problem in problems:
            console.note(f"ampgrid: note: {problem}")
