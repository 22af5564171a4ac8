"""``ampgrid cap``: the cap that an upload would give, with no node running."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from ampgrid.cli import console
from ampgrid.cli.params import SIZE, json_option
from ampgrid.cli.session import Session
from ampgrid.errors import BadArgumentValueError, ConfigError, FileError, FormatError

_PIECE = 1024 * 1024
_MAX_SECRET_FILE = 4096
#: k and n where no node directory says more.
_DEFAULT_SHARES = (3, 10)


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


def shares_of(session: Session) -> tuple[int, int]:
    """Return k and n of an upload by the session's node; those of no node are 3 and 10.

    Raises:
        AmpgridError: there is a node directory, and it cannot be read.
    """
    from ampgrid.node.recovery import advice_at_rest

    directory = session.directory
    if not directory.config_path.exists():
        return _DEFAULT_SHARES
    shares = directory.load_config().shares
    if shares is not None:
        return shares.needed, shares.total
    # Only while it does not run can its database be read.
    try:
        lock = directory.lock()
    except ConfigError:
        return _shares_of_running(session)
    try:
        advice = advice_at_rest(directory)
    finally:
        lock.release()
    return _DEFAULT_SHARES if advice is None else (advice[0], advice[2])


def _shares_of_running(session: Session) -> tuple[int, int]:
    from ampgrid.cli.control import ask
    from ampgrid.cli.status import facts_of
    from ampgrid.node.config import EncodingParameters

    shares = EncodingParameters.parse(ask(session, facts_of)["shares"])
    return shares.needed, shares.total


@click.command()
@click.argument("file", metavar="FILE")
@click.option(
    "--needed",
    type=int,
    help="Shares that give it back; those of the node directory by default, else 3.",
)
@click.option(
    "--total",
    type=int,
    help="Shares that are made; those of the node directory by default, else 10.",
)
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
    needed: int | None,
    total: int | None,
    max_segment_size: int,
    convergence_file: str | None,
    as_json: bool,
) -> None:
    """Print the cap that an upload of FILE would give.

    No node has to run. FILE is read twice. The cap is that of an upload only if --needed and
    --total are as its grid has them: by default what the node directory's node.toml says, or what
    its introducer advised last.
    """
    from ampgrid.formats.chk import compute_cap
    from ampgrid.formats.segments import check_parameters

    if file == "-":
        raise BadArgumentValueError(
            "The standard input cannot be read twice; name an ordinary file."
        )
    if needed is None or total is None:
        known = shares_of(session)
        needed = known[0] if needed is None else needed
        total = known[1] if total is None else total
    check_parameters(needed, total, max_segment_size)
    if convergence_file is None:
        if not session.directory.config_path.exists():
            raise ConfigError(
                f"There is no node directory {session.directory.path} whose convergence secret "
                "could be used; name one with -d, or the secret with --convergence-file."
            )
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
