"""``ampgrid check``: how a file fares, and its repair."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console, exits
from ampgrid.cli.params import argument_text, json_option
from ampgrid.cli.session import Session
from ampgrid.errors import FormatError

if TYPE_CHECKING:
    from ampgrid.cli.reactor import Stop


def cap_of_file(text: str) -> str:
    """Return the text of a cap, in its one spelling.

    Raises:
        BadCapError: it is none.
    """
    from ampgrid.caps import parse_cap

    return parse_cap(text).to_string()


def read_report(text: str) -> dict[str, Any]:
    """Read what the node reports.

    Raises:
        FormatError: it is no report.
    """
    try:
        report = json.loads(text)
    except ValueError:
        report = None
    if not isinstance(report, dict):
        raise FormatError("The node's report cannot be read; is it of another version?")
    return report


def end_of(report: dict[str, Any]) -> exits.Exit:
    """Return how the command ends that shows a report on one file."""
    if report["healthy"]:
        return exits.DONE
    return exits.UNHEALTHY if report["recoverable"] else exits.LOST


def lines_of(report: dict[str, Any]) -> list[str]:
    """Return a report for a reader."""
    if not report["shares_total"]:
        return ["Healthy: the cap holds the whole file."]
    state = "Healthy" if report["healthy"] else "Unhealthy"
    if not report["recoverable"]:
        state = "Not recoverable from what was found"
    how = "good, every byte read" if report["verified"] else "found"
    found, needed, total = (report[f"shares_{key}"] for key in ("good", "needed", "total"))
    answered, asked = report["servers_answered"], report["servers_asked"]
    lines = [
        f"{state}: {found} of {total} shares {how}; {needed} give the file back.",
        f"Servers of happiness: {report['servers_happy']}; {answered} of {asked} answered.",
    ]
    lines += [
        f"  share {number}: {' '.join(servers)}" for number, servers in report["good"].items()
    ]
    lines += [f"  bad share {b['share']} on {b['server']}: {b['reason']}" for b in report["bad"]]
    for written in report.get("written", []):
        lines.append(f"  wrote share {written['share']} to {written['server']}")
    problems = [*report["problems"], *report.get("repair_problems", [])]
    lines += [f"  problem: {problem}" for problem in problems]
    if report["left_out"]:
        lines.append(f"  and {report['left_out']} lines more")
    return [_indent(line) + console.one_line(line) for line in lines]


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


@click.command()
@click.argument("cap", metavar="CAP")
@click.option("--verify", is_flag=True, help="Read and hash every byte of every share.")
@click.option("--repair", is_flag=True, help="Write missing shares and replace bad ones.")
@json_option
@click.pass_context
def check(context: click.Context, *, cap: str, verify: bool, repair: bool, as_json: bool) -> None:
    """Tell how a file fares: which of its shares are where.

    CAP may be a verify cap, or - and is then read from the standard input. The exit status is 0
    if the file is healthy (every share there and none bad), 10 if it is not but can be had, 11 if
    too few shares were found.
    """
    from ampgrid.cli.control import call_watched, connect
    from ampgrid.cli.reactor import run_with_reactor
    from ampgrid.commands import control

    session = context.find_object(Session)
    assert session is not None
    arguments: dict[str, Any] = {"cap": cap_of_file(argument_text(cap, "a cap"))}
    session.directory.require()
    command: Any = control.Verify if verify else control.Check
    if repair:
        command = control.Repair
        arguments["verify"] = verify

    async def work(reactor: Any, stop: Stop) -> dict[str, Any]:
        connection = await connect(reactor, session)
        return await call_watched(reactor, connection, stop, bar, command, **arguments)

    with console.ProgressBar() as bar:
        report = read_report(run_with_reactor(work)["report"])
    if as_json:
        console.print_json(report)
    else:
        click.echo("\n".join(lines_of(report)))
    context.exit(end_of(report).status)
