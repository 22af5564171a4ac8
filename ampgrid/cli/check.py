"""``ampgrid check``: how a file or a directory fares, and its repair."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import check_directory, console, exits
from ampgrid.cli.gridpaths import cap_or_place
from ampgrid.cli.params import json_option
from ampgrid.cli.session import Session
from ampgrid.commands.errors import NotEnoughSharesFoundError
from ampgrid.errors import FormatError
from ampgrid.node.sizes import format_count

if TYPE_CHECKING:
    from ampgrid.cli.control import Conversation
    from ampgrid.ports import Connection
    from ampgrid.vdrive.paths import GridPath


def cap_of_file(text: str) -> str:
    """Return the text of a cap, in its one spelling.

    Raises:
        BadCapError: it is none.
    """
    from ampgrid.caps import parse_file_cap

    return parse_file_cap(text).to_string()


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


def lines_of(report: dict[str, Any], nicknames: dict[str, str] | None = None) -> list[str]:
    """Return a report for a reader.

    Args:
        report: of the node.
        nicknames: {node id: nickname}, as far as they are known.
    """
    if not report["shares_total"]:
        return ["Healthy: the cap holds the whole file."]
    state = "Healthy" if report["healthy"] else "Unhealthy"
    if not report["recoverable"]:
        state = "Not recoverable from what was found"
    how = "good, every byte read" if report["verified"] else "found"
    found, needed, total = (report[f"shares_{key}"] for key in ("good", "needed", "total"))
    answered, asked = report["servers_answered"], report["servers_asked"]
    happy, wanted = report["servers_happy"], report.get("servers_wanted", 0)

    def named(node_id: str) -> str:
        nickname = (nicknames or {}).get(node_id)
        return f"{node_id} ({nickname})" if nickname else node_id

    lines = [
        f"{state}: {found} of {total} shares {how}; {needed} give the file back.",
        f"Storage index: {report['storage_index']}",
        f"Servers of happiness: {happy} of {wanted}; {answered} of {asked} answered.",
        *_cautions(report),
    ]
    lines += [
        f"  share {number}: {' '.join(map(named, servers))}"
        for number, servers in report["good"].items()
    ]
    lines += [
        f"  {was}bad share {bad['share']} on {named(bad['server'])}: {bad['reason']}"
        for was, bad in bad_shares(report)
    ]
    for written in report.get("written", []):
        lines.append(f"  wrote share {written['share']} to {named(written['server'])}")
    problems = [*report["problems"], *report.get("repair_problems", [])]
    lines += [f"  problem: {_with_full_names(problem, named, nicknames)}" for problem in problems]
    if report["left_out"]:
        lines.append(f"  and {format_count(report['left_out'], 'line')} more")
    return [_indent(line) + console.one_line(line) for line in lines]


def bad_shares(report: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each bad share of a report behind an empty word, or ``was`` if it is no more."""
    now = report.get("bad", [])
    for bad in now:
        yield "", bad
    still = {(bad["share"], bad["server"]) for bad in now}
    for bad in report.get("before", {}).get("bad", []):
        if (bad["share"], bad["server"]) not in still:
            yield "was ", bad


#: How the node names a server in a sentence (`ampgrid.storage.client.StorageServer.name`).
_SHORT_NAME = re.compile(r"\bserver ([a-z2-7]{8})\b")


def _with_full_names(
    problem: str, named: Callable[[str], str], nicknames: dict[str, str] | None
) -> str:
    """Return a line in which each server that is known has the name that it has elsewhere."""

    def full(found: re.Match[str]) -> str:
        known = [node_id for node_id in nicknames or {} if node_id.startswith(found[1])]
        return f"server {named(known[0])}" if len(known) == 1 else found[0]

    return _SHORT_NAME.sub(full, problem)


def _cautions(report: dict[str, Any]) -> list[str]:
    """Return what a reader of good numbers should know besides."""
    lines = []
    happy = report["servers_happy"]
    if report["shares_good"] == report["shares_total"] and happy < report.get("servers_wanted", 0):
        line = f"All shares are there, but on {format_count(happy, 'server')} only"
        lines.append(
            f"{line}; the loss of one can lose the file." if _fragile(report) else f"{line}."
        )
    verified = report["verified"] or report.get("before", {}).get("verified")
    if report["shares_good"] and not verified:
        which = "The blocks" if report["bad"] else "The hashes are in order; the blocks"
        lines.append(f"{which} were not read (--verify reads them).")
    elif report["shares_good"] and not report["verified"]:
        lines.append("Every byte was read before the repair; what it wrote was not read again.")
    return lines


def _fragile(report: dict[str, Any]) -> bool:
    """Tell whether the file goes with one of its servers."""
    holders = [set(servers) for servers in report["good"].values()]
    return any(
        sum(bool(each - {server}) for each in holders) < report["shares_needed"]
        for server in set().union(*holders)
    )


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


@click.command()
@click.argument("cap", metavar="CAP|PATH")
@click.option("--verify", is_flag=True, help="Read and hash every byte of every share.")
@click.option("--repair", is_flag=True, help="Write missing shares and replace bad ones.")
@json_option
@click.pass_context
def check(context: click.Context, *, cap: str, verify: bool, repair: bool, as_json: bool) -> None:
    """Tell how a file or a directory fares: what of it is where.

    Of a file, which of its shares are where; of a directory, which of its replicas, and --repair
    brings these up to date. CAP may be a verify cap, or - and is then read from the standard
    input. The exit status is 0 if it is healthy (every share there, none bad, on as many servers
    as it should be), 10 if it is not but can be had, 11 if too few shares were found.
    """
    from ampgrid.cli.control import converse

    session = context.find_object(Session)
    assert session is not None
    place = cap_or_place(cap)

    async def work(node: Conversation) -> tuple[bool, dict[str, Any], dict[str, str]]:
        is_directory, report = await looked_at(node, place, verify=verify, repair=repair)
        return is_directory, report, {} if as_json else await nicknames_of(node.connection)

    with console.ProgressBar() as bar:
        is_directory, report, nicknames = converse(session, work, bar=bar)
    if as_json:
        console.print_json(report)
    else:
        lines = check_directory.lines_of if is_directory else lines_of
        click.echo("\n".join(lines(report, nicknames)))
    ending = check_directory.end_of(report) if is_directory else end_of(report)
    context.exit(ending.status)


async def looked_at(
    node: Conversation, place: GridPath, *, verify: bool, repair: bool
) -> tuple[bool, dict[str, Any]]:
    """Return whether a directory is at a place, and the report on what is there."""
    from ampgrid.caps import DirCap, DirReadCap, DirVerifierCap
    from ampgrid.commands.errors import NotDirectoryWireError

    is_path = bool(place.names) or isinstance(place.root, str)
    if not is_path and isinstance(place.root, DirCap | DirReadCap | DirVerifierCap):
        return True, await check_directory.look_at(node, place, repair=repair)
    try:
        return False, await _look_at_file(node, place.to_string(), verify=verify, repair=repair)
    except NotDirectoryWireError:
        # The node says so of a directory as well as of a file in the way: then this fails, too.
        return True, await check_directory.look_at(node, place, repair=repair)


async def _look_at_file(
    node: Conversation, text: str, *, verify: bool, repair: bool
) -> dict[str, Any]:
    from ampgrid.commands import control

    async def ask(command: Any, **more: Any) -> dict[str, Any]:
        return read_report((await node.watched(command, cap=text, **more))["report"])

    async def look() -> dict[str, Any]:
        return await ask(control.Verify if verify else control.Check)

    if not repair:
        return await look()
    try:
        return await ask(control.Repair, verify=verify)
    except NotEnoughSharesFoundError as error:
        report = await look()
        if report["recoverable"] and not verify:
            # By its hashes alone; the repair has read blocks too.
            report = await ask(control.Verify)
        return report | {
            "before": {key: report[key] for key in report if key != "left_out"},
            "written": [],
            "repair_problems": [console.describe(error)],
        }


async def nicknames_of(connection: Connection) -> dict[str, str]:
    """Return {node id: nickname} of the node and the peers that it knows."""
    from ampgrid.cli.status import facts_of

    facts = await facts_of(connection)
    return {each["node_id"]: each["nickname"] for each in (facts, *facts["peers"])}
