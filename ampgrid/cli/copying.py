"""``ampgrid cp``: copying into the grid, out of it, and within it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from attrs import frozen

from ampgrid.cli import console
from ampgrid.cli.filling import Filling
from ampgrid.cli.grid_source import Place
from ampgrid.cli.gridpaths import any_place, info_if_there, info_of, listing_of
from ampgrid.cli.local_tree import LocalDirectory, LocalTree
from ampgrid.cli.params import SHARES, json_option
from ampgrid.cli.problems import Problems
from ampgrid.cli.session import Session
from ampgrid.cli.tree_download import TreeDownload
from ampgrid.cli.tree_link import TreeLink
from ampgrid.cli.tree_upload import Copied, TreeUpload
from ampgrid.errors import (
    BadArgumentValueError,
    FileError,
    IntegrityError,
    NotDirectoryError,
)
from ampgrid.vdrive.paths import GridPath, LocalPath

if TYPE_CHECKING:
    from ampgrid.cli.control import Conversation
    from ampgrid.node.config import EncodingParameters

#: Names at the end of a local path that mean what is in the directory.
_CONTENTS = ("", ".", "..")


@frozen
class Wishes:
    """How it is to be copied.

    Attributes:
        deep: whether directories are copied.
        as_named: whether the target is what a source becomes, even if a directory is there.
        links: whether symbolic links are kept.
        shares: arguments of `Upload` for k, happiness and n.
    """

    deep: bool = False
    as_named: bool = False
    links: bool = False
    shares: dict[str, int] | None = None


#: Copies in one of the directions.
_Copy: TypeAlias = "Callable[[Conversation, Problems], Awaitable[Copied]]"


def name_in_grid(path: str) -> str:
    """Return the name that a local path gives; empty if what is in it is meant.

    >>> name_in_grid("photos/"), name_in_grid("photos/."), name_in_grid("..")
    ('photos', '', '')
    """
    name = os.path.basename(path.rstrip("/"))  # noqa: PTH119 - Path drops the dot
    return "" if name in _CONTENTS else name


async def goes_into(node: Conversation, place: GridPath, *, several: bool, deep: bool) -> bool:
    """Tell whether what is copied to a place in the grid goes into a directory there.

    Raises:
        NotDirectoryError: several things, or a file to a path with a slash at its end, cannot
            go there.
    """
    if not place.names:
        return True
    # A slash says no more than that it is a directory.
    plain = GridPath(place.root, place.names)
    info = await info_if_there(node, plain)
    if info is not None and info["type"] == "directory":
        return True
    if several or (place.as_directory and (info is not None or not deep)):
        missing = "is a file" if info is not None else "is not there"
        raise NotDirectoryError(f"{plain} {missing}; make it with: ampgrid mkdir {plain}")
    return False


async def upload(
    node: Conversation,
    problems: Problems,
    sources: list[str],
    place: GridPath,
    wishes: Wishes,
) -> Copied:
    """Copy local files into the grid.

    Raises:
        BadArgumentValueError: one is a directory and that is not wished, or two would have one
            name; nothing was copied.
        AmpgridError: there is nothing that they could go into; nothing was copied.
    """
    local = LocalTree(problems.add, links=wishes.links)
    into = not wishes.as_named and await goes_into(
        node, place, several=len(sources) > 1, deep=wishes.deep
    )
    named = [(source, name_in_grid(source)) for source in sources]
    # What is in a directory is copied to where the directory itself would be.
    contents = [source for source, name in named if not name] if into else []
    if not into and not place.names:
        contents = sources
    if contents and not wishes.deep:
        raise BadArgumentValueError(f"{contents[0]} is a directory; -r copies it")
    if not into and place.names:
        named = [(sources[0], place.name)]
        place = place.parent
    trees = [local.collect([each for each in named if each[0] not in contents], deep=wishes.deep)]
    trees += [local.contents(source) for source in contents]
    tree = trees[0]
    for other in trees[1:]:
        tree.files += other.files
        tree.directories += other.directories
    _check_names(tree)
    filling = await Filling.begin_at(node, place, tree.names())
    copied = await TreeUpload(node, problems, wishes.shares).run(tree, filling)
    copied.to = filling.of_all(tree.names())
    return copied


def _check_names(tree: LocalDirectory) -> None:
    """Refuse two things of one name.

    Raises:
        BadArgumentValueError: two sources would become one.
    """
    seen: set[str] = set()
    for name in tree.names():
        if name in seen:
            raise BadArgumentValueError(f"two of what is copied are named {name}")
        seen.add(name)


async def download(
    node: Conversation,
    problems: Problems,
    sources: list[GridPath],
    out: str,
    wishes: Wishes,
) -> Copied:
    """Copy from the grid into local files.

    Raises:
        FileError: there is no directory to copy into; nothing was copied.
    """
    target = Path(out)
    into = not wishes.as_named and target.is_dir()
    if not into and len(sources) > 1:
        raise FileError(f"{out} is no directory; several things go only into one.")
    if not target.parent.is_dir():
        raise FileError(f"{target.parent} is no directory.")
    wanted = []
    for source in sources:
        with problems.of(source):
            info = await _source(node, source, deep=wishes.deep)
            if into and not source.name and info["type"] != "directory":
                raise BadArgumentValueError("a cap has no name: name the file to write")
            if not into and out.endswith("/") and info["type"] != "directory":
                raise FileError(f"{out} is no directory.")
            place = target / source.name if into and source.name else target
            wanted.append(Place(info, str(source), place))
    copying = TreeDownload(node, problems, links=wishes.links)
    copied = await copying.run(wanted)
    copied.to = str(wanted[0].out if len(wanted) == 1 else target)
    for note in copying.notes[:100]:
        node.bar.note(f"ampgrid: note: {note}")
    return copied


async def link(
    node: Conversation,
    problems: Problems,
    sources: list[GridPath],
    place: GridPath,
    wishes: Wishes,
) -> Copied:
    """Copy within the grid.

    Raises:
        AmpgridError: there is nothing that they could go into; nothing was copied.
    """
    into = not wishes.as_named and await goes_into(
        node, place, several=len(sources) > 1, deep=wishes.deep
    )
    children: list[tuple[str, dict[str, Any]]] = []
    for source in sources:
        with problems.of(source):
            info = await _source(node, source, deep=wishes.deep)
            name = source.name if into else place.name
            if name:
                children.append((name, info))
            elif info["type"] == "directory":
                listing = await listing_of(node, info["cap"])
                children += [(each["name"], each) for each in listing.children]
                for problem in listing.problems:
                    problems.add(source, IntegrityError(problem))
            else:
                raise BadArgumentValueError("a cap has no name: put one behind the path")
    if not into and place.names:
        place = place.parent
    names = [name for name, _ in children]
    filling = await Filling.begin_at(node, place, names)
    copied = await TreeLink(node, problems).run(children, filling)
    copied.to = filling.of_all(names)
    return copied


async def _source(node: Conversation, source: GridPath, *, deep: bool) -> dict[str, Any]:
    """Return what a source is.

    Raises:
        BadArgumentValueError: it is a directory, and directories are not copied.
    """
    info = await info_of(node, source)
    if info["type"] == "directory" and not deep:
        raise BadArgumentValueError(f"{source} is a directory; -r copies it")
    return info


def copier(sources: tuple[str, ...], target: str, wishes: Wishes) -> _Copy:
    """Return what copies these sources to that target.

    Raises:
        BadArgumentValueError: it is nothing that can be copied so.
    """
    if [*sources, target].count("-") > 1:
        raise BadArgumentValueError("Only one of the paths can be read from the standard input.")
    places = [any_place(source) for source in sources]
    goal = any_place(target)
    if wishes.as_named and len(places) > 1:
        raise BadArgumentValueError("-T takes one SRC.")
    from_grid = [place for place in places if isinstance(place, GridPath)]
    local = [place.text for place in places if isinstance(place, LocalPath)]
    if from_grid and local:
        raise BadArgumentValueError("SRC... are all in the grid or all local, not some of each.")
    if isinstance(goal, GridPath):
        if local:
            return lambda node, problems: upload(node, problems, local, goal, wishes)
        return lambda node, problems: link(node, problems, from_grid, goal, wishes)
    if local:
        raise BadArgumentValueError(
            "None of the paths is in the grid: a grid path has a colon, as in private:photos."
        )
    out = goal.text
    return lambda node, problems: download(node, problems, from_grid, out, wishes)


@click.command()
@click.argument("sources", metavar="SRC...", nargs=-1, required=True)
@click.argument("target", metavar="DST")
@click.option("-r", "--recursive", is_flag=True, help="Copy directories with all in them.")
@click.option(
    "-T",
    "--no-target-directory",
    "as_named",
    is_flag=True,
    help="SRC becomes DST, and never goes into it.",
)
@click.option("--links", is_flag=True, help="Keep symbolic links, instead of what they lead to.")
@click.option("--shares", type=SHARES, metavar="K/HAPPY/N", help="Outranks the node's setting.")
@json_option
@click.pass_context
def cp(
    context: click.Context,
    *,
    sources: tuple[str, ...],
    target: str,
    recursive: bool,
    as_named: bool,
    links: bool,
    shares: EncodingParameters | None,
    as_json: bool,
) -> None:
    """Copy files into the grid, out of it, or within it.

    What has a colon before its first slash is a grid path, anything else a local file. SRC goes
    into DST if that is a directory, else becomes DST. Within the grid no data move: the same
    files are linked in new directories. What fails is named, and the rest goes on; done again, it
    comes to the same.
    """
    from ampgrid.cli.control import converse

    session = context.find_object(Session)
    assert session is not None
    given: dict[str, int] = {}
    if shares is not None:
        given = {"needed": shares.needed, "happy": shares.happy, "total": shares.total}
    wishes = Wishes(deep=recursive, as_named=as_named, links=links, shares=given)
    copy = copier(sources, target, wishes)
    with console.ProgressBar() as bar:
        problems = Problems(as_json=as_json, tell=bar.note)

        async def work(node: Conversation) -> Copied:
            return await copy(node, problems)

        copied = converse(session, work, bar=bar)
    if as_json:
        console.print_json({**copied.to_json(), "problems": problems.to_json()})
    elif copied.files or copied.directories or copied.unchanged:
        click.echo(line_of(copied))
    context.exit(problems.status)


def line_of(copied: Copied) -> str:
    """Return what was copied for a reader."""
    from ampgrid.node.sizes import format_count, format_directories, format_size

    line = (
        f"Copied {format_count(copied.files, 'file')}, {format_size(copied.bytes)}, to {copied.to}"
    )
    if copied.directories:
        line += f"; made {format_directories(copied.directories)}"
    if copied.unchanged:
        line += f"; there already: {format_count(copied.unchanged, 'file')}"
    return console.one_line(line) + "."
