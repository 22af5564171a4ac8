"""``ampgrid mkdir``, ``mv``, ``rm`` and ``ln``: changes of directories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console
from ampgrid.cli.gridpaths import (
    about,
    cap_or_place,
    grid_place,
    info_if_there,
    info_of,
    offering_parents,
    target_of,
)
from ampgrid.cli.params import json_option
from ampgrid.cli.problems import Problems
from ampgrid.cli.session import Session
from ampgrid.errors import (
    BadArgumentValueError,
    BadCapError,
    ChildExistsError,
    NotDirectoryError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ampgrid.cli.control import Conversation
    from ampgrid.vdrive.paths import GridPath


@click.command()
@click.argument("path", metavar="[PATH]", required=False)
@click.option(
    "-p",
    "--parents",
    is_flag=True,
    help="Make missing directories on the way too, and be content if it is there.",
)
@json_option
@click.pass_obj
def mkdir(session: Session, *, path: str | None, parents: bool, as_json: bool) -> None:
    """Make an empty directory in the grid.

    Without PATH it is linked nowhere, and its cap is printed: whoever has the cap can change it,
    and without the cap nobody finds it again.
    """
    from ampgrid.cli.control import converse
    from ampgrid.commands.drive import MakeDirectory

    place = None if path is None else grid_place(path)
    if place is None and parents:
        raise BadArgumentValueError("-p needs a PATH.")
    arguments: dict[str, Any] = {}
    if place is not None:
        arguments = {"path": place.to_string(), "parents": parents}

    async def work(node: Conversation) -> str:
        with offering_parents(made=parents), about(place if place is not None else "mkdir"):
            return str((await node.call(MakeDirectory, **arguments))["cap"])

    cap = converse(session, work)
    if as_json:
        console.print_json({"path": None if place is None else str(place), "cap": cap})
    elif place is None:
        click.echo(cap)


@click.command()
@click.argument("sources", metavar="SRC...", nargs=-1, required=True)
@click.argument("target", metavar="DST")
@click.option("-n", "--no-clobber", is_flag=True, help="Refuse where there is something already.")
@json_option
@click.pass_context
def mv(
    context: click.Context,
    *,
    sources: tuple[str, ...],
    target: str,
    no_clobber: bool,
    as_json: bool,
) -> None:
    """Move or rename within the grid.

    Into DST if that is a directory or ends in a slash, else to the name that DST is. A file there
    is replaced, a directory never. Each is linked in its new place before it is taken out of the
    old one.
    """
    from ampgrid.cli.control import converse
    from ampgrid.commands.drive import MoveChild

    here = [grid_place(source) for source in sources]
    for place in here:
        if not place.names:
            raise BadArgumentValueError(f"{place} is a root, and cannot be moved.")
    there = grid_place(target)
    problems = Problems(as_json=as_json, alone=len(here) == 1)
    moved: list[dict[str, str]] = []

    async def move(node: Conversation, source: GridPath) -> None:
        await info_of(node, source)
        goal = await _goal(node, there, source.name, into=len(here) > 1)
        if goal == source:
            raise BadArgumentValueError(f"{source} is there already")
        with about(source):
            await node.call(
                MoveChild,
                source=source.to_string(),
                target=goal.to_string(),
                overwrite=not no_clobber,
            )
        moved.append({"from": str(source), "to": str(goal)})

    async def work(node: Conversation) -> None:
        for source in here:
            with problems.of(source):
                await move(node, source)

    converse(_session(context), work)
    if as_json:
        console.print_json({"moved": moved, "problems": problems.to_json()})
    context.exit(problems.status)


async def _goal(node: Conversation, place: GridPath, name: str, *, into: bool) -> GridPath:
    """Return where something goes; ``into`` demands that the place is a directory."""
    if into and place.names:
        info = await info_of(node, place)
        if info["type"] != "directory":
            raise NotDirectoryError(f"{place} is a file; several things go only into a directory")
    return await target_of(node, place, name)


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("-r", "--recursive", is_flag=True, help="Also directories with something in them.")
@json_option
@click.pass_context
def rm(context: click.Context, *, paths: tuple[str, ...], recursive: bool, as_json: bool) -> None:
    """Take names out of their directories.

    What a name stood for is not deleted: it may be linked elsewhere, and others may keep it. Its
    space returns when the last lease on it has run out, which is told.
    """
    from ampgrid.cli.control import converse
    from ampgrid.commands.drive import UnlinkChild

    places = [grid_place(path) for path in paths]
    for place in places:
        if not place.names:
            raise BadArgumentValueError(
                f"{place} is a root, and in no directory; name something in it."
            )
    problems = Problems(as_json=as_json, alone=len(places) == 1)
    removed: list[dict[str, str]] = []

    async def remove(node: Conversation, place: GridPath) -> None:
        await _may_go(node, place, recursive=recursive)
        with about(place):
            answer = await node.call(UnlinkChild, path=place.to_string())
        removed.append({"path": str(place), "cap": answer["cap"]})

    async def work(node: Conversation) -> None:
        for place in places:
            with problems.of(place):
                await remove(node, place)

    converse(_session(context), work)
    days = _lease_days()
    if as_json:
        result = {"removed": removed, "lease_days": days, "problems": problems.to_json()}
        console.print_json(result)
    elif removed:
        click.echo("\n".join(removal_lines(removed, days)))
    context.exit(problems.status)


def removal_lines(removed: Sequence[dict[str, str]], days: int) -> list[str]:
    """Return what to tell of what was removed.

    Args:
        removed: ``path`` and ``cap`` of each.
        days: for which a lease lasts.
    """
    what = removed[0]["path"] if len(removed) == 1 else f"{len(removed)} names"
    told = console.one_line(f"Removed {what}.")
    if all(each["cap"].startswith("URI:LIT:") for each in removed):
        return [told, "What was in it was held by its directory alone, and takes no space there."]
    return [
        told,
        f"Its space returns within {days} days of the last renewal of a lease; others may keep",
        "it, and this node keeps what was put through it until 'ampgrid kept drop CAP'.",
    ]


def _lease_days() -> int:
    from ampgrid.store import LEASE_SECONDS

    return round(LEASE_SECONDS / 86_400)


async def _may_go(node: Conversation, place: GridPath, *, recursive: bool) -> None:
    """Refuse what ``rm`` does not take out.

    Raises:
        BadArgumentValueError: a directory with children would be taken out without -r.
    """
    from ampgrid.commands.errors import (
        DamagedError,
        NotReachableWireError,
        UndecidedWireError,
    )

    try:
        info = await info_of(node, place)
    except (NotReachableWireError, UndecidedWireError, DamagedError):
        # Such a one could never be taken out; whoever says -r does not ask what is in it.
        if recursive:
            return
        raise
    if info["type"] == "directory" and info["children"] and not recursive:
        from ampgrid.node.sizes import format_count

        children = format_count(info["children"], "child", "children")
        raise BadArgumentValueError(f"{place} is a directory with {children}; -r takes it out")


@click.command()
@click.argument("source", metavar="CAP|PATH")
@click.argument("target", metavar="PATH")
@click.option("-f", "--force", is_flag=True, help="Replace a file that is there.")
@click.option(
    "--read-only", is_flag=True, help="Link only the right to read, of a directory at any depth."
)
@json_option
@click.pass_obj
def ln(
    session: Session, *, source: str, target: str, force: bool, read_only: bool, as_json: bool
) -> None:
    """Link a file or a directory of the grid under another name.

    If the second PATH is a directory it gets its name in there. Both names stand for the same
    thing: what is changed in a directory by one name is changed by the other. CAP may be - and
    is then read from the standard input.
    """
    from ampgrid.cli.control import converse
    from ampgrid.commands.drive import LinkChild

    if source == target == "-":
        raise BadArgumentValueError("Only one of the two can be read from the standard input.")
    what, there = cap_or_place(source), grid_place(target)

    async def work(node: Conversation) -> tuple[str, str]:
        goal = await _goal(node, there, what.name, into=False)
        cap = what.to_string()
        if what.names or isinstance(what.root, str) or read_only:
            info = await info_of(node, what)
            cap = info["read_cap"] if read_only else info["cap"]
            if not cap:
                raise BadCapError("this cap can verify but not read; a name needs what can read")
        if not force and await info_if_there(node, goal) is not None:
            raise ChildExistsError(f"{goal} is there already; -f replaces a file")
        with about(goal):
            await node.call(LinkChild, path=goal.to_string(), cap=cap, overwrite=force)
        return str(goal), cap

    path, cap = converse(session, work)
    if as_json:
        console.print_json({"path": path, "cap": cap})


def _session(context: click.Context) -> Session:
    session = context.find_object(Session)
    assert session is not None
    return session
