"""``ampgrid blob token``: who may keep blobs at this node from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console
from ampgrid.cli.params import json_option
from ampgrid.cli.session import Session
from ampgrid.errors import FormatError

if TYPE_CHECKING:
    from ampgrid.ports import Connection


@click.group()
def token() -> None:
    """Let users keep blobs at this node, which runs and has [blobs] enabled.

    Nodes of the grid need no token for blobs of their own. A user's token lets several nodes, and
    programs over HTTP, share the user's blobs here.
    """


@token.command("issue")
@click.argument("user")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@json_option
@click.pass_obj
def issue(session: Session, /, *, user: str, file: Path, as_json: bool) -> None:
    """Give USER a new token and write it to FILE, or to the standard output if that is -.

    The one before ends. The node keeps no copy: who loses it needs a new one.
    """
    from ampgrid.cli.control import ask
    from ampgrid.commands.blob_users import IssueBlobToken
    from ampgrid.crypto import write_secret_file

    shown = str(file) == "-"
    if not shown:
        _check_place(file)

    async def work(connection: Connection) -> dict[str, Any]:
        return await connection.call(IssueBlobToken, user=user)

    made = ask(session, work)["token"]
    if not shown:
        write_secret_file(file, f"{made}\n".encode())
    if as_json:
        console.print_json({"user": user, **({"token": made} if shown else {"file": str(file)})})
    elif shown:
        click.echo(made)
    else:
        console.note(f"The token of {user} is in {file}; it is that of --token-file.")


def _check_place(file: Path) -> None:
    """See that a token can be written to a file, before the one before it ends.

    Raises:
        ConfigError: something is there, or nothing can be written beside it.
    """
    import os
    import tempfile

    from ampgrid.errors import ConfigError

    if file.exists():
        raise ConfigError(f"{file} is there already; name another file, or remove it first.")
    try:
        descriptor, probe = tempfile.mkstemp(prefix=".new-", dir=file.parent)
    except OSError as error:
        raise ConfigError(f"{file} could not be written: {error.strerror}.") from error
    os.close(descriptor)
    Path(probe).unlink()


@token.command("revoke")
@click.argument("user")
@json_option
@click.pass_obj
def revoke(session: Session, /, *, user: str, as_json: bool) -> None:
    """Take the token of USER away. The blobs stay, for the next one."""
    from ampgrid.cli.control import ask
    from ampgrid.commands.blob_users import RevokeBlobToken

    async def work(connection: Connection) -> dict[str, Any]:
        return await connection.call(RevokeBlobToken, user=user)

    had = ask(session, work)["had"]
    if as_json:
        console.print_json({"user": user, "had_token": had})
    elif not had:
        console.note(f"{user} had no token.")


@token.command("list")
@json_option
@click.pass_obj
def list_users(session: Session, /, *, as_json: bool) -> None:
    """List who has a token, since when, and what their blobs take."""
    from ampgrid.cli.control import ask
    from ampgrid.cli.summary import when
    from ampgrid.node.sizes import format_size

    users = ask(session, _all_users)
    if as_json:
        console.print_json({"users": users})
        return
    for one in users:
        line = f"{one['user']}, since {when(one['issued_at'])}, {format_size(one['used'])}"
        click.echo(console.one_line(line))
    if not users:
        console.note("Nobody has a token.")


async def _all_users(connection: Connection) -> list[dict[str, Any]]:
    """Return all users, page by page."""
    from ampgrid.commands.blob_users import ListBlobUsers

    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["user"] if found else None
        answer = await connection.call(ListBlobUsers, after=after)
        try:
            page = json.loads(answer["users"])
        except ValueError:
            raise FormatError("The list cannot be read; is the node of another version?") from None
        if not page:
            return found
        found += page
