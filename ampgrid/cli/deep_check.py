"""``ampgrid deep-check``: how all that a directory leads to fares, and its repair."""

from __future__ import annotations

from collections.abc import Iterable

import click

from ampgrid.cli import console, exits
from ampgrid.cli.check import bad_shares
from ampgrid.cli.deep import Result, end, one_json, path_text, walk
from ampgrid.cli.gridpaths import grid_place
from ampgrid.cli.params import json_option


@click.command("deep-check")
@click.argument("path", metavar="PATH")
@click.option("--verify", is_flag=True, help="Read and hash every byte of every share.")
@click.option("--repair", is_flag=True, help="Repair what is not healthy, directories too.")
@click.option("--renew", is_flag=True, help="Add or renew this node's leases as well.")
@click.option("--all", "tell_all", is_flag=True, help="Also print what is healthy.")
@json_option
@click.pass_context
def deep_check(
    context: click.Context,
    *,
    path: str,
    verify: bool,
    repair: bool,
    renew: bool,
    tell_all: bool,
    as_json: bool,
) -> None:
    """Check all that a directory leads to, and repair it.

    What is not healthy is printed as it is found. The exit status is 0 if all is healthy (after
    the repair), 10 if something is not but can be had, 11 if something cannot, else 13 if a
    directory cannot be reached now. With --json one object a line, all of them, and at last one
    with the summary.
    """
    unrenewed = 0

    def lines(result: Result) -> Iterable[str]:
        nonlocal unrenewed
        has_leases = not result["again"] and result["type"] != "literal"
        unrenewed += renew and has_leases and not result["renewed"]
        return one_json(result) if as_json else finding_lines(result, tell_all=tell_all)

    wishes = {"verify": verify, "repair": repair, "renew": renew}
    summary = walk(context, grid_place(path), "check", lines, **wishes)
    if as_json:
        console.print_json({"summary": summary}, in_one_line=True)
    else:
        click.echo("\n".join(summary_lines(summary, unrenewed if renew else None)))
    end(context, end_of(summary, unrenewed))


def finding_lines(result: Result, *, tell_all: bool = False) -> list[str]:
    """Return what is printed of one finding: nothing of what is healthy, unless it is wanted."""
    words = []
    if result["again"]:
        words.append("looked at before")
    elif result["unreachable"]:
        words.append("not reachable")
    elif result["recoverable"] is False:
        words.append("NOT RECOVERABLE")
    elif result["healthy"] is False:
        words.append("not healthy")
    elif result["healthy"]:
        words.append("healthy")
    if result["repaired"]:
        words.append("after a repair")
    is_well = result["again"] or (result["healthy"] and not result["repaired"])
    if is_well and not result["problems"] and not tell_all:
        return []
    report = result["report"] or {}
    if "shares_good" in report:
        words.append(
            f"{report['shares_good']} of {report['shares_total']} shares on "
            f"{report['servers_happy']} servers"
        )
    elif "replicas" in report and not is_well:
        wanted = max(report["wanted"], len(report["replicas"]))
        words.append(f"{report['good']} of {wanted} replicas")
    slash = "/" if result["type"] == "directory" else ""
    lines = [f"{path_text(result['path'])}{slash}: {', '.join(words)}"]
    for was, bad in bad_shares(report):
        line = f"{was}bad share {bad['share']} on {bad['server']}: {bad['reason']}"
        lines.append(f"  {console.one_line(line)}")
    return lines + [f"  {console.one_line(problem)}" for problem in result["problems"]]


def summary_lines(summary: Result, unrenewed: int | None) -> list[str]:
    """Return the summary of a check for a reader.

    Args:
        summary: of the node.
        unrenewed: how many leases could not be renewed; None if that was not asked for.
    """
    from ampgrid.node.sizes import format_count, format_directories

    files = summary["files"] + summary["literals"]
    within = f"{summary['literals']} of them within their caps"
    judged = f"{summary['healthy']} healthy, {summary['unhealthy']} not"
    directories = format_directories(summary["directories"])
    what = f"{directories} and {format_count(files, 'file')} ({within})"
    lines = [f"{what} looked at: {judged}."]
    if summary["repaired"]:
        lines.append(f"Repaired: {summary['repaired']}.")
    if summary["unrecoverable"]:
        lines.append(f"{summary['unrecoverable']} cannot be had from what was found.")
    if summary["unreachable"]:
        which = format_directories(summary["unreachable"])
        lines.append(f"Not reachable now, with all in them: {which}.")
    if unrenewed is not None:
        lines.append(f"Leases of {summary['renewed']} were renewed, of {unrenewed} not.")
    return lines


def end_of(summary: Result, unrenewed: int = 0) -> exits.Exit:
    """Return how the command ends that shows this summary."""
    if summary["unrecoverable"]:
        return exits.LOST
    if summary["unreachable"]:
        return exits.DIRECTORY_UNREACHABLE
    return exits.UNHEALTHY if summary["unhealthy"] or unrenewed else exits.DONE
