"""``ampgrid scrub``: hash every share of the running node's store now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console, exits
from ampgrid.cli.params import json_option
from ampgrid.cli.session import Session, require_storage
from ampgrid.errors import FormatError

if TYPE_CHECKING:
    from ampgrid.cli.reactor import Stop


@click.command()
@json_option
@click.pass_context
def scrub(context: click.Context, *, as_json: bool) -> None:
    """Hash every share of this node's store now, and set bad ones aside.

    The node does that by itself within its scrub_days; this does not wait. It keeps within the
    node's scrub_rate. The exit status is 10 if shares were bad or missing.
    """
    from ampgrid.cli.control import call_watched, connect
    from ampgrid.cli.reactor import run_with_reactor
    from ampgrid.commands.control import RunScrub

    session = context.find_object(Session)
    assert session is not None
    require_storage(session)

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
    context.exit(end_of_scrub(report).status)


def end_of_scrub(report: dict[str, Any]) -> exits.Exit:
    """Return how the command ends that shows the report of a scrub."""
    return exits.UNHEALTHY if report["bad"] else exits.DONE


#: The node id to which shares are put down that no peer has stored.
_NOBODY = "a" * 32


def lines_of(report: dict[str, Any]) -> list[str]:
    """Return what the standard output gets of the report of a scrub."""
    from ampgrid.node.sizes import format_count, format_size

    lines = [
        f"bad: share {share['share']} of {share['storage_index']}, "
        f"{_origin(share['peer'])}: {share['reason']}"
        for share in report["bad_shares"]
    ]
    missing = report["missing"]
    aside = report["bad"] - missing
    found = []
    if aside:
        found.append(f"{aside} {'was' if aside == 1 else 'were'} bad, now in quarantine")
    if missing:
        found.append(f"{missing} {'was' if missing == 1 else 'were'} missing")
    shares = f"{format_count(report['shares'], 'share')} ({format_size(report['bytes'])})"
    lines.append(f"Hashed {shares}; {' and '.join(found) or 'none was bad'}.")
    return [console.one_line(line) for line in lines]


def _origin(peer: str) -> str:
    return "found or imported here" if peer == _NOBODY else f"stored by {peer}"


def _print_report(report: dict[str, Any]) -> None:
    from ampgrid.node.sizes import format_count

    click.echo("\n".join(lines_of(report)))
    if report["skipped"]:
        shares = format_count(report["skipped"], "share")
        console.note(f"ampgrid: note: {shares} could not be looked at.")
    if report["alarm"]:
        console.note(f"ampgrid: note: {report['alarm']}")
