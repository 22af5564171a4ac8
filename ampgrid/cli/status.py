"""``ampgrid status`` and ``ampgrid address``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from ampgrid.cli import console
from ampgrid.cli.params import json_option
from ampgrid.cli.session import Session
from ampgrid.cli.summary import peer_line, summary
from ampgrid.errors import FormatError
from ampgrid.ports import Connection


def rows_of(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield (name, value) pairs of a status for a reader, nested names joined with dots.

    A list of objects gives one row an object, so that a hundred peers are a hundred lines.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from rows_of(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        if not value:
            yield name, "none"
        for inner in value:
            yield name, _short(inner)
    else:
        yield name, _short(value)


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return " ".join(_short(inner) for inner in value) or "none"
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return console.one_line(str(value))


async def facts_of(connection: Connection) -> dict[str, Any]:
    """Ask the node for its status and, page by page, for its peers.

    Raises:
        FormatError: the answer cannot be read.
    """
    from ampgrid.commands.control import ListPeers, Status

    try:
        facts = json.loads((await connection.call(Status))["status"])
        peers: list[dict[str, Any]] = []
        start = 0
        while True:
            page = await connection.call(ListPeers, start=start)
            peers += json.loads(page["peers"])
            for peer in peers:
                # For recovery files; nobody can read it.
                peer.pop("announcement", None)
            start = page["next"]
            if not start:
                return {**facts, "peers": peers}
    except ValueError:
        raise FormatError("The node's status cannot be read; is it of another version?") from None


@click.command()
@click.option("--all", "everything", is_flag=True, help="Tell everything that --json tells.")
@json_option
@click.pass_obj
def status(session: Session, *, everything: bool, as_json: bool) -> None:
    """Tell how the running node fares, and its peers."""
    from ampgrid.cli.control import ask

    facts = ask(session, facts_of)
    if as_json:
        console.print_json(facts)
        return
    if everything:
        peers = [peer_line(peer) for peer in facts.pop("peers")]
        rows = [*rows_of(facts), *(("peers", line) for line in peers or ["none"])]
    else:
        rows = list(summary(facts))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


@click.command()
@json_option
@click.pass_obj
def address(session: Session, *, as_json: bool) -> None:
    """Print the node's address.

    An introducer's holds the secret of the grid: give it only to who shall join.
    """
    from ampgrid.crypto.identity import node_id_text
    from ampgrid.node.addresses import address_of

    found = address_of(session.directory)
    if as_json:
        console.print_json({"address": found.to_string(), "node_id": node_id_text(found.node_id)})
    else:
        click.echo(found.to_string())
