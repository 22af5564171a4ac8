"""``ampgrid ls``: what is in a directory."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console, exits
from ampgrid.cli.gridpaths import Listing, about, grid_place, info_of, listing_of, read_object
from ampgrid.cli.params import json_option
from ampgrid.cli.pool import run_each
from ampgrid.cli.session import Session
from ampgrid.errors import AmpgridError, NotConnectedError

if TYPE_CHECKING:
    from ampgrid.cli.control import Conversation
    from ampgrid.vdrive.paths import GridPath

#: Files whose shares are looked for at once.
CHECKS_AT_ONCE = 8


def caps_of(child: dict[str, Any]) -> dict[str, Any]:
    """Return the strongest cap of a child, and those that follow from it."""
    from ampgrid.caps import parse_cap

    text = child["cap"]
    try:
        cap = parse_cap(text)
    except AmpgridError:
        return {"cap": text, "read_cap": None, "verify_cap": None}
    verify = cap.get_verify_cap()
    return {
        "cap": text,
        "read_cap": cap.get_readonly().to_string(),
        "verify_cap": None if verify is None else verify.to_string(),
    }


def with_caps(child: dict[str, Any]) -> dict[str, Any]:
    """Return a child with all its caps."""
    return child | caps_of(child)


async def listed(node: Conversation, place: GridPath) -> tuple[bool, Listing]:
    """Return whether a place is a directory, and its children, or the one file that it is.

    Raises:
        AmpgridError: neither could be had.
    """
    from ampgrid.commands.errors import NotDirectoryWireError

    try:
        with about(place):
            return True, await listing_of(node, place.to_string())
    except NotDirectoryWireError:
        info = await info_of(node, place)
        if info["type"] == "directory":
            raise
        keys = ("name", "type", "cap", "mutable", "size", "metadata")
        return False, Listing([{key: info[key] for key in keys}])


async def add_checks(node: Conversation, children: list[dict[str, Any]]) -> None:
    """Add to each file what a check of it found, as ``check``; None where it failed.

    A file that stands there several times is checked once. A file whose cap holds its data has
    ``check`` None too, and so has a directory.
    """
    from ampgrid.commands.control import Check

    reports: dict[str, dict[str, Any] | None] = {
        child["cap"]: None for child in children if child["type"] == "file"
    }
    done = 0

    async def check(cap: str) -> None:
        nonlocal done
        try:
            # Not its own progress: what counts is how many are done.
            answer = await node.watched(Check, bar=console.ProgressBar(shown=False), cap=cap)
            reports[cap] = read_object(answer["report"])
        except NotConnectedError:
            raise
        except AmpgridError as error:
            node.bar.note(f"ampgrid: note: a file could not be checked: {console.describe(error)}")
        done += 1
        node.bar.show("checking", done, len(reports))

    await run_each([lambda cap=cap: check(cap) for cap in reports], CHECKS_AT_ONCE)  # type: ignore[misc]
    for child in children:
        child["check"] = reports.get(child["cap"])


def redundancy(child: dict[str, Any]) -> str:
    """Return how redundant a file is, as ``found/total on servers``."""
    if child["type"] != "file":
        return "in its directory" if child["type"] == "literal" else "-"
    report = child["check"]
    if report is None:
        return "?"
    text = f"{report['shares_good']}/{report['shares_total']} on {report['servers_happy']}"
    if not report["recoverable"]:
        return text + " LOST"
    return text if report["healthy"] else text + " !"


def time_of(child: dict[str, Any]) -> str:
    """Return when a child changed, for a reader: its file's own time if that is known."""
    metadata = child["metadata"]
    moment = metadata.get("mtime", metadata.get("changed"))
    try:
        told = datetime.fromtimestamp(moment).astimezone()
    except (TypeError, ValueError, OverflowError, OSError):
        return "-"
    return told.strftime("%Y-%m-%d %H:%M")


def kind_of(child: dict[str, Any]) -> str:
    """Return what a child is, in a word."""
    if child["type"] == "directory":
        return "dir" if child["mutable"] else "dir-ro"
    return "link" if child["metadata"].get("symlink") is True else "file"


def label(child: dict[str, Any]) -> str:
    """Return the name of a child as it is printed: a directory with a slash."""
    return console.shown(child["name"]) + ("/" if child["type"] == "directory" else "")


def long_lines(children: Iterable[dict[str, Any]]) -> list[str]:
    """Return what ``ls -l`` prints of children."""
    from ampgrid.node.sizes import format_size

    rows = [
        (
            kind_of(child),
            "-" if child["size"] is None else format_size(child["size"]),
            time_of(child),
            redundancy(child),
            label(child),
        )
        for child in children
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    lines = []
    for kind, size, time, spread, name in rows:
        first = f"{kind:{widths[0]}}  {size:>{widths[1]}}  {time:{widths[2]}}"
        lines.append(f"{first}  {spread:{widths[3]}}  {name}")
    return lines


@click.command()
@click.argument("path", metavar="[PATH]", default="private:")
@click.option(
    "-l",
    "--long",
    "is_long",
    is_flag=True,
    help="Also type, size, time, and how redundant each file is.",
)
@json_option
@click.pass_context
def ls(context: click.Context, *, path: str, is_long: bool, as_json: bool) -> None:
    """List a directory of the grid.

    PATH is private: by default, the node's own root. With -l the servers are asked for the shares
    of each file: '10/10 on 10' are 10 of 10 shares found, on 10 servers of happiness; '!' marks a
    file that is not healthy.
    """
    from ampgrid.cli.control import converse

    session = context.find_object(Session)
    assert session is not None
    place = grid_place(path)

    own: dict[str, Any] = {}

    async def work(node: Conversation) -> tuple[bool, Listing]:
        is_directory, listing = await listed(node, place)
        if is_long:
            await add_checks(node, listing.children)
        if as_json:
            own.update(caps_of(await info_of(node, place)))
        return is_directory, listing

    with console.ProgressBar(shown=is_long, unit="files") as bar:
        is_directory, listing = converse(session, work, bar=bar)
    children = listing.children
    if as_json:
        told = [with_caps(child) for child in children]
        kind = "directory" if is_directory else "file"
        head = {"path": str(place), "type": kind, **own}
        console.print_json({**head, "children": told, "problems": listing.problems})
    else:
        if not is_directory and not children[0]["name"]:
            children[0]["name"] = str(place)
        for line in long_lines(children) if is_long else map(label, children):
            click.echo(line)
        for problem in listing.problems:
            console.note(f"ampgrid: {console.said_of(place, problem)}")
    context.exit(exits.DAMAGED.status if listing.problems else exits.DONE.status)
