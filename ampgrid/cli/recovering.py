"""``ampgrid recover-directory``: the last resort for a directory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console
from ampgrid.cli.gridpaths import about, grid_place, read_object
from ampgrid.cli.params import json_option
from ampgrid.cli.session import Session
from ampgrid.errors import BadArgumentValueError

if TYPE_CHECKING:
    from ampgrid.cli.control import Conversation
    from ampgrid.vdrive.paths import GridPath

_HINT = "look with --dry-run what comes back, then say --yes"


def lines_of(report: dict[str, Any]) -> list[str]:
    """Return the report for a reader (its keys are in ``docs/reference/drive.md``)."""
    from ampgrid.node.sizes import format_count

    children = format_count(report["entries"], "child", "children")
    what = f"version {report['version']} with {children}"
    if report["healthy"]:
        return [f"Nothing is to be done: enough replicas have {what}."]
    done = "is the directory again" if report["recovered"] else "would be the directory"
    where = f"found in a {report['source']}, on {format_count(report['holders'], 'replica')}"
    lines = [f"{what.capitalize()} {done} ({where})."]
    return lines + [f"  {console.one_line(warning)}" for warning in report["warnings"]]


@click.command("recover-directory")
@click.argument("path", metavar="PATH")
@click.option("--dry-run", is_flag=True, help="Only tell what would come back.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def recover_directory(
    session: Session, *, path: str, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Bring a directory back of which too few replicas are left.

    The newest signed version that any replica or snapshot still has becomes the directory, on new
    replicas; changes that were made later are lost. So first wait for the peers that had it. PATH
    may be its write cap.
    """
    from ampgrid.cli.control import converse
    from ampgrid.commands.drive import RecoverDirectory

    place = grid_place(path)
    # On the standard input may be the path.
    asks = not (dry_run or yes or as_json or path == "-") and sys.stdin.isatty()
    if not (dry_run or yes or asks):
        raise BadArgumentValueError(f"Later changes of {place} could be lost; {_HINT}.")

    async def recover(node: Conversation, **given: Any) -> dict[str, Any]:
        with about(place):
            answer = await node.watched(RecoverDirectory, path=place.to_string(), **given)
        return read_object(answer["report"])

    async def work(node: Conversation) -> dict[str, Any]:
        if not asks:
            return await recover(node, dry_run=dry_run)
        report = await recover(node, dry_run=True)
        # It is asked again if something else is there by the time of the answer.
        while not (report["healthy"] or report["recovered"]):
            _ask(place, report)
            report = await recover(node, dry_run=False, confirmed=report["mark"])
        return report

    with console.ProgressBar() as bar:
        report = converse(session, work, bar=bar)
    if as_json:
        console.print_json(report)
    else:
        click.echo("\n".join(lines_of(report)))


def _ask(place: GridPath, report: dict[str, Any]) -> None:
    """Show what would come back, and ask whether it shall.

    Raises:
        Abort: no.
    """
    for line in lines_of(report):
        console.note(line)
    click.confirm(f"Make this what {console.one_line(str(place))} is?", abort=True, err=True)
