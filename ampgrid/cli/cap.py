"""``ampgrid cap``: the cap that an upload would give, with no node running."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from ampgrid.cli import console
from ampgrid.cli.params import SIZE, json_option
from ampgrid.cli.session import Session
from ampgrid.errors import ConfigError, FileError, FormatError

_PIECE = 1024 * 1024
_MAX_SECRET_FILE = 4096


def read_convergence(path: str) -> bytes:
    """Read a convergence secret in lower-case base32, of any length, as Tahoe-LAFS keeps it.

    Raises:
        FileError: the file cannot be read.
        ConfigError: it holds no such secret.
    """
    from ampgrid.crypto.base32 import a2b

    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_SECRET_FILE + 1)
    except OSError as error:
        raise FileError(f"{path} could not be read: {error.strerror}.") from error
    try:
        secret = a2b(data.decode("ascii", "replace").strip())
    except FormatError:
        secret = b""
    if not secret or len(data) > _MAX_SECRET_FILE:
        raise ConfigError(f"{path} holds no convergence secret in lower-case base32.")
    return secret


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--needed", type=int, default=3, show_default=True, help="Shares that give it back.")
@click.option("--total", type=int, default=10, show_default=True, help="Shares that are made.")
@click.option(
    "--max-segment-size",
    type=SIZE,
    default="1MiB",
    show_default=True,
    help="Bytes, or 1MiB; at most 16MiB.",
)
@click.option(
    "--convergence-file",
    metavar="F",
    help="Holds the convergence secret in base32; the node directory's own by default.",
)
@json_option
@click.pass_obj
def cap(
    session: Session,
    *,
    file: str,
    needed: int,
    total: int,
    max_segment_size: int,
    convergence_file: str | None,
    as_json: bool,
) -> None:
    """Print the cap that an upload of FILE would give.

    No node has to run. FILE is read twice.
    """
    from ampgrid.formats.chk import compute_cap
    from ampgrid.formats.segments import check_parameters

    check_parameters(needed, total, max_segment_size)
    if convergence_file is None:
        session.directory.require()
        secret = session.directory.convergence_secret()
    else:
        secret = read_convergence(convergence_file)
    try:
        with Path(file).open("rb") as opened, console.ProgressBar() as bar:
            size = os.fstat(opened.fileno()).st_size
            if not opened.seekable() or not Path(file).is_file():
                raise FileError(f"{file} cannot be read twice; name an ordinary file.")
            passes = 0

            def read_again() -> Iterator[bytes]:
                nonlocal passes
                passes += 1
                phase = "hashing" if passes == 1 else "encoding"
                opened.seek(0)
                while piece := opened.read(_PIECE):
                    yield piece
                    bar.show(phase, opened.tell(), size)

            found = compute_cap(read_again, size, needed, total, max_segment_size, secret)
    except OSError as error:
        raise FileError(f"{file} could not be read: {error.strerror}.") from error
    if as_json:
        console.print_json({"cap": found.to_string(), "size": size})
    else:
        click.echo(found.to_string())
