"""``ampgrid scrub``: hash every share of the running node's store now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console
from ampgrid.cli.params import json_option
from ampgrid.cli.session import Session
from ampgrid.errors import FormatError

if TYPE_CHECKING:
    from ampgrid.cli.reactor import Stop


@click.command()
@json_option
@click.pass_obj
def scrub(session: Session, *, as_json: bool) -> None:
    """Hash every share of this node's store now, and set bad ones aside.

    The node does that by itself within its scrub_days; this does not wait. It keeps within the
    node's scrub_rate.
    """
    from ampgrid.cli.control import call_watched, connect
    from ampgrid.cli.reactor import run_with_reactor
    from ampgrid.commands.control import RunScrub

    session.directory.require()

    async def work(reactor: Any, stop: Stop) -> dict[str, Any]:
        connection = await connect(reactor, session)
        return await call_watched(reactor, connection, stop, bar, RunScrub)

    with console.ProgressBar() as bar:
        answer = run_with_reactor(work)
    try:
        report: dict[str, Any] = json.loads(answer["report"])
    except ValueError:
        raise FormatError("The node's report cannot be read; is it of another version?") from None
    if as_json:
        console.print_json(report)
    else:
        _print_report(report)


def _print_report(report: dict[str, Any]) -> None:
    from ampgrid.node.sizes import format_size

    for share in report["bad_shares"]:
        click.echo(
            console.one_line(
                f"bad: share {share['share']} of {share['storage_index']}, "
                f"stored by {share['peer']}: {share['reason']}"
            )
        )
    click.echo(
        f"Hashed {report['shares']} shares ({format_size(report['bytes'])}); "
        f"{report['bad']} were bad and are in quarantine now."
    )
    if report["skipped"]:
        console.note(f"ampgrid: note: {report['skipped']} shares could not be looked at.")
    if report["alarm"]:
        console.note(f"ampgrid: note: {report['alarm']}")
