"""``ampgrid create-introducer`` and ``ampgrid create-node``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from ampgrid.cli.console import print_json
from ampgrid.cli.params import LISTEN, NICKNAME, SHARES, SIZE, argument_lines, json_option
from ampgrid.cli.session import Session

if TYPE_CHECKING:
    from ampgrid.node.config import EncodingParameters
    from ampgrid.node.directory import NodeDirectory

_LISTEN_HELP = "Where to listen; port 0: the first run picks one and keeps it."


def _read_addresses(introducers: tuple[str, ...]) -> list[str]:
    return [
        line for text in introducers for line in argument_lines(text, "the introducer's address")
    ]


def _report(made: NodeDirectory, what: str, *, as_json: bool) -> None:
    from ampgrid.crypto.identity import node_id_text

    node_id = node_id_text(made.identity().node_id)
    if as_json:
        print_json({"dir": str(made.path), "node_id": node_id})
    else:
        click.echo(f"Made {what} {node_id} in {made.path}")
        path = shlex.quote(str(made.path))
        click.echo(f"Start it with: ampgrid -d {path} run")
        click.echo(f"Save its key elsewhere: ampgrid -d {path} recovery export FILE")


@click.command()
@click.argument("path", metavar="DIR")
@click.option("--listen", type=LISTEN, default="0.0.0.0:0", show_default=True, help=_LISTEN_HELP)
@click.option("--shares", type=SHARES, metavar="K/HAPPY/N", help="What it advises to its peers.")
@click.option("--open", "open_", is_flag=True, help="Anybody may join, without the secret.")
@click.option(
    "--introducer",
    "introducers",
    multiple=True,
    metavar="ADDRESS",
    help="Another introducer of the same grid, whose secret it shares; - reads it from stdin.",
)
@click.option(
    "--public-root", is_flag=True, help="Make a public root, which every member can change."
)
@json_option
@click.pass_obj
def create_introducer(
    _session: Session,
    *,
    path: str,
    listen: str,
    shares: EncodingParameters | None,
    open_: bool,
    introducers: tuple[str, ...],
    public_root: bool,
    as_json: bool,
) -> None:
    """Make the directory of an introducer.

    It makes the secret of a new grid. Once it has been started, 'ampgrid -d DIR address' prints
    the address that nodes join by.
    """
    from ampgrid.node import creation

    made = creation.create_introducer(
        path,
        listen=listen,
        shares=shares,
        open_=open_,
        introducers=_read_addresses(introducers),
        public_root=public_root,
    )
    _report(made, "introducer", as_json=as_json)


@click.command()
@click.argument("path", metavar="DIR")
@click.option(
    "--introducer",
    "introducers",
    multiple=True,
    metavar="ADDRESS",
    help="The address of an introducer; may be repeated; - reads them from stdin.",
)
@click.option(
    "--listen",
    type=LISTEN,
    default="0.0.0.0:0",
    show_default=True,
    help=_LISTEN_HELP + " none: it only dials.",
)
@click.option("--nickname", type=NICKNAME, default="", help="What people call it.")
@click.option("--no-storage", is_flag=True, help="It keeps no shares for others.")
@click.option("--blobs", is_flag=True, help="It keeps blobs for others.")
@click.option("--reserve", type=SIZE, default="1G", show_default=True, help="Disk kept free.")
@click.option("--quota", type=SIZE, help="The most that all shares may take together.")
@click.option(
    "--shares", type=SHARES, metavar="K/HAPPY/N", help="Outranks the introducer's advice."
)
@click.option("--open", "open_", is_flag=True, help="It is of an open grid, without a secret.")
@json_option
@click.pass_obj
def create_node(
    _session: Session,
    *,
    path: str,
    introducers: tuple[str, ...],
    listen: str,
    nickname: str,
    no_storage: bool,
    blobs: bool,
    reserve: int,
    quota: int | None,
    shares: EncodingParameters | None,
    open_: bool,
    as_json: bool,
) -> None:
    """Make the directory of a node."""
    from ampgrid.node import creation

    addresses = _read_addresses(introducers)
    made = creation.create_node(
        path,
        introducers=addresses,
        listen=listen,
        nickname=nickname,
        storage=not no_storage,
        blobs=blobs,
        reserve=reserve,
        quota=quota,
        shares=shares,
        open_=open_,
    )
    _report(made, "node", as_json=as_json)
    if not addresses and not as_json:
        click.echo("No introducer was given: this is a grid of its own.")
