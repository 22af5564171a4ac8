"""``ampgrid put`` and ``ampgrid get``."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console
from ampgrid.cli.gridpaths import about, cap_or_place, grid_place, offering_parents
from ampgrid.cli.gridpaths import target_of as grid_target_of
from ampgrid.cli.params import LENGTH, SHARES, json_option
from ampgrid.cli.session import Session
from ampgrid.commands.errors import FileFailedError
from ampgrid.errors import BadArgumentValueError, BadCapError, FileError

if TYPE_CHECKING:
    from ampgrid.cli.control import Conversation
    from ampgrid.node.config import EncodingParameters
    from ampgrid.vdrive.paths import GridPath

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
            with replacing(path) as descriptor:
                yield descriptor
    except OSError as error:
        raise FileError(f"{out} could not be written: {error.strerror}.") from error


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[int]:
    """Give a new file that takes the place of ``path`` when the context ends well.

    Args:
        path: of the file; a symbolic link there is itself replaced.
        durable: whether all of it has to be on the disk first.
    """
    part = path.with_name(f".ampgrid-{secrets.token_hex(6)}.part")
    # The user's own umask, or the mode of the file that is replaced.
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISREG((there := path.lstat()).st_mode):
                os.fchmod(descriptor, there.st_mode & 0o777)
        yield descriptor
        if durable:
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


def readable(text: str) -> str:
    """Return a cap that a file can be read by, in its one spelling, or a grid path.

    Raises:
        BadCapError: it is neither.
    """
    from ampgrid.caps import ChkVerifierCap, DirCap, DirReadCap, DirVerifierCap

    place = cap_or_place(text)
    if place.names or isinstance(place.root, str):
        return place.to_string()
    if isinstance(place.root, DirCap | DirReadCap | DirVerifierCap):
        raise BadCapError(
            "This is the cap of a directory; 'ampgrid ls' lists it, 'ampgrid cp -r' copies it."
        )
    if isinstance(place.root, ChkVerifierCap):
        raise BadCapError("This is a verify cap; the file can only be read by its read cap.")
    return place.to_string()


def file_metadata(descriptor: int) -> dict[str, int | float]:
    """Return what a directory tells of a local file beside its size: mode and time."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return {}
    return {"mode": found.st_mode & 0o777, "mtime": found.st_mtime}


@click.command()
@click.argument("file", metavar="FILE")
@click.argument("path", metavar="[PATH]", required=False)
@click.option("--shares", type=SHARES, metavar="K/HAPPY/N", help="Outranks the node's setting.")
@click.option("-p", "--parents", is_flag=True, help="Make missing directories on the way.")
@click.option("-n", "--no-clobber", is_flag=True, help="Refuse where there is something already.")
@json_option
@click.pass_obj
def put(
    session: Session,
    *,
    file: str,
    path: str | None,
    shares: EncodingParameters | None,
    parents: bool,
    no_clobber: bool,
    as_json: bool,
) -> None:
    """Upload FILE and print its cap.

    FILE may be - for the standard input. Who has the cap can read the file; without it nobody
    can. With PATH the file is linked there, in the place of a file that is there; under its own
    name, if PATH is a directory or ends in a slash.
    """
    from ampgrid.cli.control import converse
    from ampgrid.commands.control import Upload

    place = None if path is None else grid_place(path)
    if place is None and (parents or no_clobber):
        raise BadArgumentValueError("-p and -n need a PATH.")
    session.directory.require()
    arguments: dict[str, Any] = {}
    if shares is not None:
        arguments = {"needed": shares.needed, "happy": shares.happy, "total": shares.total}

    async def work(node: Conversation) -> dict[str, Any]:
        if place is None:
            return await node.watched(Upload, **arguments)
        with offering_parents(made=parents):
            target = await _target(node, place, file, parents=parents)
        linking: dict[str, Any] = {
            "grid_path": target.to_string(),
            "overwrite": not no_clobber,
            "parents": parents,
            "metadata": json.dumps(file_metadata(arguments["descriptor"])),
        }
        with about(target):
            answer = await node.watched(Upload, **arguments, **linking)
        return answer | {"path": str(target)}

    with source_of(file) as source, naming(file, "input"), console.ProgressBar() as bar:
        arguments["descriptor"] = source
        answer = converse(session, work, bar=bar)
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


async def _target(node: Conversation, place: GridPath, file: str, *, parents: bool) -> GridPath:
    """Return where a file is linked that is put at a place."""
    from ampgrid.commands.errors import NoSuchChildWireError

    name = "" if file == "-" else os.path.basename(file)  # noqa: PTH119 - the path as it was typed
    try:
        return await grid_target_of(node, place, name, what="the standard input")
    except NoSuchChildWireError:
        # What is missing is made; of that nothing can be in the way.
        if not parents:
            raise
        return place.child(name) if place.as_directory and name else place


@click.command()
@click.argument("cap", metavar="CAP|PATH")
@click.argument("out", metavar="[OUT]", required=False)
@click.option(
    "--offset",
    type=LENGTH,
    metavar="SIZE",
    help="Where to begin, bytes from the start of the file.",
)
@click.option(
    "--length",
    type=LENGTH,
    metavar="SIZE",
    help="How much, bytes; the rest of the file by default.",
)
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
    """Download a file by its CAP or from its PATH in the grid.

    CAP may be - and is then read from the standard input. The file goes to OUT, which is
    replaced only when all of it is there, or to the standard output: without OUT only where that
    is no terminal, and always if OUT is -. If OUT is a directory, the file has the name there
    that it has in the grid.
    """
    from ampgrid.cli.control import converse
    from ampgrid.commands.control import Download

    if out is None and sys.stdout.isatty():
        raise BadArgumentValueError(
            "The file would go to the terminal; name OUT, or say - to do it anyway."
        )
    text = readable(cap)
    if out is not None and (name := grid_place(text).name) and Path(out).is_dir():
        out = os.path.join(out, name)  # noqa: PTH118 - as it was typed
    arguments: dict[str, Any] = {"cap": text}
    session.directory.require()
    if offset is not None:
        arguments["offset"] = offset
    if length is not None:
        arguments["length"] = length

    async def work(node: Conversation) -> dict[str, Any]:
        with about(grid_place(text)) if not text.startswith("URI:") else nullcontext():
            return await node.watched(Download, **arguments)

    with target_of(out) as target, naming(out or "-", "output"):
        arguments["descriptor"] = target
        to_stdout = target == _STDOUT
        # On a terminal the file itself is what is watched.
        with console.ProgressBar(shown=not (to_stdout and sys.stdout.isatty())) as bar:
            answer = converse(session, work, bar=bar)
    problems = answer["problems"].splitlines()
    if as_json:
        where = None if out is None or to_stdout else os.path.realpath(out)
        result = {"size": answer["size"], "problems": problems, "out": where}
        console.print_json(result, to_stderr=to_stdout)
    else:
        for problem in problems:
            console.note(f"ampgrid: note: {problem}")
