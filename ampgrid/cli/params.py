"""Types of options and arguments, and what several subcommands take alike."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from ampgrid.cli.session import Session
from ampgrid.errors import (
    AmpgridError,
    BadAddressError,
    BadArgumentValueError,
    BadCapError,
    FileError,
)

#: The most that is read from the standard input in place of a cap or addresses, bytes.
MAX_ARGUMENT_BYTES = 64 * 1024


class _Read(click.ParamType[Any]):
    """A type whose values a function reads from text.

    Args:
        name: what the help calls it.
        read: returns the value or raises an `AmpgridError`, which becomes a usage error.
    """

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the value, unless it is one already."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except AmpgridError as error:
            return self.fail(str(error), param, ctx)


def _read_size(text: str) -> int:
    from ampgrid.node.sizes import parse_size

    return parse_size(text)


def _read_shares(text: str) -> Any:
    from ampgrid.node.config import EncodingParameters

    return EncodingParameters.parse(text)


def _read_listen(text: str) -> str:
    from ampgrid.node.config import parse_listen

    parse_listen(text)
    return text


def _read_nickname(text: str) -> str:
    from ampgrid.node.config import check_nickname

    return check_nickname(text)


def _read_whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
        if not least <= number <= most:
            raise BadArgumentValueError(f"it must be a whole number from {least} to {most}.")
        return number

    return read


def _read_length(text: str) -> int:
    from ampgrid.node.sizes import parse_size

    try:
        return parse_size(text)
    except BadArgumentValueError:
        raise BadArgumentValueError(
            f"{text[:40]!r} is no number of bytes; write it as 4096, 500K or 1MiB."
        ) from None


LENGTH = _Read("bytes", _read_length)
SHARE_NUMBER = _Read("number", _read_whole(0, 255))
NODE_COUNT = _Read("number", _read_whole(1, 200))
SIZE = _Read("size", _read_size)
SHARES = _Read("k/happy/n", _read_shares)
LISTEN = _Read("host:port", _read_listen)
NICKNAME = _Read("name", _read_nickname)


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    if value:
        context.ensure_object(Session).as_json = True
    return value


#: ``--json``, which also turns the session's errors into JSON.
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=_set_json,
    help="Print the result (and an error) as one JSON object.",
)


def argument_lines(text: str, what: str) -> list[str]:
    """Return ``text``, or the lines of the standard input where it is ``-``.

    On a terminal one line is asked for, and not shown while it is typed.

    Args:
        text: an argument as it was typed.
        what: how messages call it; its value is never repeated, it may be a secret.

    Raises:
        BadCapError, BadAddressError: the standard input is empty, too long, or no text; whichever
            of the two ``what`` is.
        FileError: the standard input cannot be read.
    """
    wrong = BadAddressError if "address" in what else BadCapError
    if text != "-":
        return [text]
    if sys.stdin.isatty():
        asked: str = click.prompt(f"Paste {what} (it is not shown)", hide_input=True, err=True)
        return [asked.strip()]
    try:
        data = sys.stdin.buffer.read(MAX_ARGUMENT_BYTES + 1)
    except OSError as error:
        raise FileError(f"The standard input could not be read: {error.strerror}.") from error
    if len(data) > MAX_ARGUMENT_BYTES:
        raise wrong(f"The standard input is too long for {what}.")
    try:
        lines = [line.strip() for line in data.decode("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise wrong(f"The standard input holds no text, so not {what}.") from None
    if not lines:
        raise wrong(f"The standard input is empty; {what} was expected there.")
    return lines


def argument_text(text: str, what: str) -> str:
    """Return ``text``, or what the standard input holds where it is ``-``.

    White space in it is taken away, since a mail breaks a long cap over lines.

    Raises:
        BadCapError, BadAddressError: as `argument_lines`.
        FileError: the standard input cannot be read.
    """
    if text != "-":
        return text
    return "".join("".join(argument_lines(text, what)).split())
