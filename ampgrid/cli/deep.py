"""``ampgrid tree``, ``manifest``, ``du`` and ``deep-check``: all that a directory leads to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from ampgrid.cli import console, exits
from ampgrid.cli.gridpaths import about, grid_place, read_list, read_object
from ampgrid.cli.params import json_option
from ampgrid.cli.session import Session
from ampgrid.errors import PeerError

if TYPE_CHECKING:
    from ampgrid.cli.control import Conversation
    from ampgrid.vdrive.paths import GridPath

#: Seconds that the node has to hear of a walk that the user has ended.
_PATIENCE = 5.0

#: What a walk tells of one thing (``docs/reference/drive.md``).
Result: TypeAlias = dict[str, Any]
#: Returns the lines that are printed of a result.
Lines: TypeAlias = Callable[[Result], Iterable[str]]


async def walked(
    node: Conversation, place: GridPath, what: str, lines: Lines, **wishes: bool
) -> Result:
    """Walk a directory and all that it leads to, print what is found, return the summary.

    Args:
        node: to speak with.
        place: where it begins.
        what: is done, as `StartDeep` has it.
        lines: of each result, as it comes.
        wishes: arguments of `StartDeep`.

    Raises:
        KeyboardInterrupt: the user has ended it; the node was told.
    """
    from ampgrid.cli.control import new_operation
    from ampgrid.commands.control import Cancel
    from ampgrid.commands.drive import NextResults, StartDeep

    operation = new_operation()
    seen = 0
    with about(place):
        path = place.to_string()
        await node.call(StartDeep, path=path, what=what, operation=operation, **wishes)
        try:
            while True:
                answer = await node.call(NextResults, operation=operation)
                for result in read_list(answer["results"]):
                    seen += 1
                    for line in lines(result):
                        node.bar.echo(line)
                if answer["done"]:
                    return read_object(answer["summary"])
                node.bar.show(what, seen, 0)
        except KeyboardInterrupt:
            with suppress(PeerError):
                await node.connection.call(Cancel, deadline=_PATIENCE, operation=operation)
            raise


def walk(
    context: click.Context, place: GridPath, what: str, lines: Lines, **wishes: bool
) -> Result:
    """Connect to the node, and walk (see `walked`)."""
    from ampgrid.cli.control import converse

    session = context.find_object(Session)
    assert session is not None

    async def work(node: Conversation) -> Result:
        return await walked(node, place, what, lines, **wishes)

    with console.ProgressBar(unit="found") as bar:
        return converse(session, work, bar=bar)


def path_text(names: list[str]) -> str:
    """Return a path within the walk for a reader; a dot for where it began."""
    return "/".join(console.shown(name) for name in names) or "."


def one_json(result: Result) -> list[str]:
    """Return a result as one line of JSON."""
    return [json.dumps(result, ensure_ascii=False)]


class Trouble:
    """What of a walk was not found, and how the command ends for it.

    Attributes:
        unread: whether a directory could not be read.
        unopened: whether an entry of one could not be opened.
    """

    def __init__(self) -> None:
        self.unread = False
        self.unopened = False

    def note(self, result: Result) -> None:
        """Note what is told of one thing."""
        self.unread |= bool(result.get("error"))
        self.unopened |= bool(result.get("problems"))

    @property
    def ending(self) -> exits.Exit:
        """How the command ends: what is damaged goes first, as it does not come back."""
        if self.unopened:
            return exits.DAMAGED
        return exits.DIRECTORY_UNREACHABLE if self.unread else exits.DONE


class Tree:
    """The lines of a printed tree, or the whole of it as nested objects.

    Args:
        root: how the root is called.

    Attributes:
        trouble: what was not found.
        top: the nested objects: ``name``, ``type``, ``cap``, ``size``, ``again``, ``error``,
            ``problems`` and ``children`` of each.
    """

    def __init__(self, root: str) -> None:
        self.trouble = Trouble()
        self.top: Result = {}
        self._root = root
        self._chain: list[Result] = []

    def lines(self, result: Result) -> list[str]:
        """Return the lines of one result; the walk goes as a printed tree does."""
        path = result["path"]
        name = console.shown(path[-1]) if path else self._root
        error = result.get("error", "")
        self.trouble.note(result)
        if result["type"] == "directory" and not name.endswith(":"):
            name += "/"
        if result["again"] and result["type"] == "directory":
            name += " (above)"
        if error:
            name += f" (cannot be read: {console.one_line(error)})"
        margin = "  " * len(path)
        problems = [console.one_line(problem) for problem in result.get("problems", [])]
        return [margin + name, *(f"{margin}  (cannot be opened: {each})" for each in problems)]

    def gather(self, result: Result) -> list[str]:
        """Add one result to the nested objects; nothing is printed yet."""
        path = result["path"]
        self.trouble.note(result)
        found: Result = {
            "name": path[-1] if path else "",
            "type": result["type"],
            "cap": result["cap"],
            "size": result.get("size"),
            "again": result["again"],
        }
        if found["type"] == "directory":
            told = {"error": result.get("error", ""), "problems": result.get("problems", [])}
            found |= told | {"children": []}
        del self._chain[len(path) :]
        if self._chain:
            self._chain[-1]["children"].append(found)
        else:
            self.top = found
        self._chain.append(found)
        return []


@click.command()
@click.argument("path", metavar="[PATH]", default="private:")
@json_option
@click.pass_context
def tree(context: click.Context, *, path: str, as_json: bool) -> None:
    """Print all that a directory leads to, as a tree.

    What was met before, on another way or round a cycle, is marked, and not entered again.
    """
    place = grid_place(path)
    found = Tree(console.shown(str(place)))
    walk(context, place, "manifest", found.gather if as_json else found.lines)
    if as_json:
        console.print_json(found.top)
    end(context, found.trouble.ending)


@click.command()
@click.argument("path", metavar="PATH")
@json_option
@click.pass_context
def manifest(context: click.Context, *, path: str, as_json: bool) -> None:
    """Print the cap and the path of all that a directory leads to.

    With --json one object a line, with the verify cap and the metadata too.
    """
    place = grid_place(path)
    trouble = Trouble()

    def lines(result: Result) -> list[str]:
        trouble.note(result)
        return one_json(result) if as_json else [f"{result['cap']} {path_text(result['path'])}"]

    walk(context, place, "manifest", lines)
    if trouble.unread and not as_json:
        console.note("ampgrid: some directories could not be read; 'ampgrid tree' names them")
    if trouble.unopened and not as_json:
        console.note("ampgrid: some entries could not be opened; 'ampgrid tree' names them")
    end(context, trouble.ending)


@click.command()
@click.argument("path", metavar="[PATH]", default="private:")
@json_option
@click.pass_context
def du(context: click.Context, *, path: str, as_json: bool) -> None:
    """Tell how much a directory leads to: files, directories, sizes.

    Each file counts once, and as large as it is, not as all its shares together are.
    """
    summary = walk(context, grid_place(path), "size", lambda _: [])
    if as_json:
        console.print_json(summary)
    else:
        click.echo("\n".join(size_lines(summary)))
    end(context, size_ending(summary))


def size_ending(summary: Result) -> exits.Exit:
    """Return how a command ends of which these statistics are told."""
    trouble = Trouble()
    trouble.unread, trouble.unopened = bool(summary["unreadable"]), bool(summary["unopened"])
    return trouble.ending


def size_lines(summary: Result) -> list[str]:
    """Return statistics of sizes for a reader."""
    from ampgrid.node.sizes import format_count, format_directories, format_size

    files = summary["files"] + summary["literals"]
    size = format_size(summary["bytes_files"] + summary["bytes_literals"])
    within = f"{summary['literals']} of them within their caps"
    largest = format_size(summary["largest_file"])
    directories = format_directories(summary["directories"])
    names = format_count(summary["largest_directory"], "name")
    lines = [
        f"{size} in {format_count(files, 'file')} ({within}), {directories}.",
        f"At most {largest} in a file, and {names} in a directory.",
    ]
    lines += [
        f"  up to {format_size(size)}: {format_count(count, 'file')}"
        for size, count in summary["sizes"]
    ]
    if summary["unreadable"]:
        lines.append(
            f"Could not be read, with all in them: {format_directories(summary['unreadable'])}."
        )
    if summary["unopened"]:
        lines.append(
            f"Could not be opened: {format_count(summary['unopened'], 'entry', 'entries')}."
        )
    return lines


def end(context: click.Context, ending: exits.Exit) -> None:
    """End the command so."""
    context.exit(ending.status)
