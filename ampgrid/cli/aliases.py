"""``ampgrid alias``: names of this node's own for directories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console
from ampgrid.cli.gridpaths import about, cap_or_place, read_list
from ampgrid.cli.params import json_option
from ampgrid.cli.session import Session

if TYPE_CHECKING:
    from ampgrid.cli.control import Conversation


@click.group()
def alias() -> None:
    """Give directories names of this node's own.

    After 'ampgrid alias add friends CAP', friends:list is what is named list in that directory.
    Aliases are kept in the node directory, and go with a recovery file.
    """


def alias_name(text: str) -> str:
    """Return the name of an alias, with or without its colon.

    Raises:
        BadNameError: no alias can have it.
    """
    from ampgrid.vdrive.paths import checked_alias

    return checked_alias(text.removesuffix(":"))


@alias.command("add")
@click.argument("name", metavar="NAME")
@click.argument("cap", metavar="[CAP|PATH]", required=False)
@json_option
@click.pass_obj
def add(session: Session, *, name: str, cap: str | None, as_json: bool) -> None:
    """Let NAME stand for a directory.

    For the one of CAP, which may be - and is then read from the standard input, or the one at
    PATH; for a new, empty one if neither is given.
    """
    from ampgrid.cli.control import converse
    from ampgrid.commands.drive import AddAlias

    arguments = {"name": alias_name(name)}
    place = None if cap is None else cap_or_place(cap)
    if place is not None:
        arguments["cap"] = place.to_string()

    async def work(node: Conversation) -> str:
        with about(place if place and str(place) != "URI:" else f"{arguments['name']}:"):
            return str((await node.call(AddAlias, **arguments))["cap"])

    found = converse(session, work)
    if as_json:
        console.print_json({"name": arguments["name"], "cap": found})


@alias.command("list")
@json_option
@click.pass_obj
def list_aliases(session: Session, *, as_json: bool) -> None:
    """Print the aliases; with --json their caps, too."""
    from ampgrid.cli.control import converse
    from ampgrid.commands.drive import ListAliases

    async def work(node: Conversation) -> list[dict[str, Any]]:
        aliases: list[dict[str, Any]] = []
        start = 0
        while True:
            answer = await node.call(ListAliases, start=start)
            aliases += read_list(answer["aliases"])
            start = answer["next"]
            if not start:
                return aliases

    aliases = converse(session, work)
    if as_json:
        console.print_json({"aliases": aliases})
        return
    for each in aliases:
        only = "" if each["cap"].startswith("URI:DIR:") else " (read-only)"
        click.echo(f"{console.shown(each['name'])}:{only}")
    if not aliases:
        console.note("There are no aliases.")


@alias.command("remove")
@click.argument("name", metavar="NAME")
@json_option
@click.pass_obj
def remove(session: Session, *, name: str, as_json: bool) -> None:
    """Forget an alias and print the cap that it stood for; the directory stays."""
    from ampgrid.cli.control import converse
    from ampgrid.commands.drive import RemoveAlias

    known = alias_name(name)

    async def work(node: Conversation) -> str:
        return str((await node.call(RemoveAlias, name=known))["cap"])

    cap = converse(session, work)
    if as_json:
        console.print_json({"name": known, "cap": cap})
    else:
        click.echo(cap)
