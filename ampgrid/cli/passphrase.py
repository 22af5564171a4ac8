"""Asking for a passphrase: from a file, the environment, or hidden on a terminal; never argv."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ampgrid.errors import BadArgumentValueError, FileError

#: The variable from which scripts may give it.
VARIABLE = "AMPGRID_PASSPHRASE"

_MAX_FILE_BYTES = 4096

#: ``--passphrase-file``, for the commands that need one.
passphrase_option = click.option(
    "--passphrase-file",
    metavar="F",
    help=f"Its first line is the passphrase; - reads stdin. Else {VARIABLE}, or it is asked for.",
)


def passphrase_of(file: str | None, *, twice: bool) -> str:
    """Return the passphrase: the first line of ``file``, the environment's, or what is typed.

    Args:
        file: as it was named, ``-`` for the standard input; None if none was.
        twice: whether it is typed a second time, where a typing error would be fatal.

    Raises:
        BadArgumentValueError: there is no terminal to ask on, or it is empty or no text.
        FileError: the file cannot be read.
    """
    if file is not None:
        return _first_line(file)
    if given := os.environ.get(VARIABLE):
        return given
    if not sys.stdin.isatty():
        raise BadArgumentValueError(
            f"There is no terminal to ask for the passphrase on; give --passphrase-file or set "
            f"{VARIABLE}."
        )
    asked: str = click.prompt("Passphrase", hide_input=True, err=True)
    if twice and click.prompt("The same again", hide_input=True, err=True) != asked:
        raise BadArgumentValueError("The two passphrases differ; nothing was done.")
    return asked


def _first_line(file: str) -> str:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(_MAX_FILE_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise FileError(f"{file} could not be read: {error.strerror}.") from error
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text or len(line) > _MAX_FILE_BYTES:
        raise BadArgumentValueError("The first line of the passphrase file is no passphrase.")
    return text
