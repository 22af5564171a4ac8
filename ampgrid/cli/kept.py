"""``ampgrid kept`` and ``ampgrid keeper``: the files that the node keeps alive."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console, exits
from ampgrid.cli.check import cap_of_file, read_report
from ampgrid.cli.params import argument_text, json_option
from ampgrid.cli.session import Session
from ampgrid.errors import BadArgumentValueError, FormatError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ampgrid.cli.reactor import Stop
    from ampgrid.ports import Connection


def keeping(session: Session) -> Session:
    """Return the session, if its node is one that keeps files.

    Raises:
        ConfigError: there is no node directory that can be used.
        BadArgumentValueError: it is an introducer's.
    """
    if session.directory.load_config().kind == "introducer":
        raise BadArgumentValueError("An introducer keeps no files; name a node with -d.")
    return session


@click.group()
def kept() -> None:
    """Tell which files the node keeps, or drop some.

    Every file that is put through a node is kept by it: weekly its leases are renewed, its shares
    are checked and, where need be, repaired.
    """


def line_of(file: dict[str, Any]) -> str:
    """Return one kept file for a reader."""
    from ampgrid.cli.summary import when
    from ampgrid.node.sizes import format_size

    words = [
        file["cap"],
        format_size(file["size"]),
        f"shares {file['shares']}",
        f"checked {when(file['checked_at'])}",
    ]
    if file["checked_at"] is not None:
        words.append(f"{file['shares_good']} found")
    words += [f"next {when(file['next_at'])}"]
    words += [file["problem"]] if file["problem"] else []
    return console.one_line(", ".join(words))


async def pages(connection: Connection) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield the kept files, page by page: there may be millions.

    Raises:
        FormatError: the node's answer cannot be read.
    """
    from ampgrid.commands.control import ListKept

    start = 0
    while True:
        answer = await connection.call(ListKept, start=start)
        try:
            page = json.loads(answer["kept"])
        except ValueError:
            raise FormatError("The list cannot be read; is the node of another version?") from None
        yield page
        start = answer["next"]
        if not start:
            return


@kept.command("list")
@json_option
@click.pass_obj
def list_kept(session: Session, *, as_json: bool) -> None:
    """Print the kept files, one a line, by their verify caps.

    A verify cap can check a file and repair it, but not read it.
    """
    from ampgrid.cli.control import ask

    async def show(connection: Connection) -> None:
        first = True
        if as_json:
            click.echo('{"kept": [', nl=False)
        async for page in pages(connection):
            for file in page:
                if as_json:
                    click.echo(("" if first else ",") + "\n  " + json.dumps(file), nl=False)
                else:
                    click.echo(line_of(file))
                first = False
        if as_json:
            click.echo("]}" if first else "\n]}")
        elif first:
            console.note("No files are kept.")

    ask(keeping(session), show)


@kept.command("drop")
@click.argument("cap", metavar="CAP")
@json_option
@click.pass_obj
def drop(session: Session, *, cap: str, as_json: bool) -> None:
    """Keep a file no longer.

    CAP is its read or its verify cap, or - and is then read from the standard input. The file's
    leases run out some time later, and then its servers may delete it.
    """
    from ampgrid.cli.control import ask
    from ampgrid.commands.control import DropKept

    text = cap_of_file(argument_text(cap, "a cap"))

    async def call(connection: Connection) -> bool:
        return bool((await connection.call(DropKept, cap=text))["dropped"])

    dropped = ask(keeping(session), call)
    if as_json:
        console.print_json({"dropped": dropped})
    else:
        click.echo("Dropped." if dropped else "It was not kept.")


@click.group()
def keeper() -> None:
    """Look after the files that the node keeps.

    A running node does that by itself, each file once a week; 'ampgrid status' tells of it.
    """


@keeper.command("run")
@click.option(
    "--now", is_flag=True, help="All files, due or not, and repair without a second look."
)
@click.option(
    "--dry-run", is_flag=True, help="Tell what would be done, and write nothing anywhere."
)
@json_option
@click.pass_context
def run_keeper(context: click.Context, *, now: bool, dry_run: bool, as_json: bool) -> None:
    """Walk the kept files that are due: renew leases, check, repair.

    The exit status is 0 if all files that were looked at are kept as they should, 10 if one
    failed, or could not be judged because too few servers answered, or nobody was connected, 11
    if too few shares of one were found.
    """
    from ampgrid.cli.control import call_watched, connect
    from ampgrid.cli.reactor import run_with_reactor
    from ampgrid.commands.control import RunKeeper

    session = context.find_object(Session)
    assert session is not None
    keeping(session)

    async def work(reactor: Any, stop: Stop) -> dict[str, Any]:
        connection = await connect(reactor, session)
        return await call_watched(
            reactor, connection, stop, bar, RunKeeper, now=now, dry_run=dry_run
        )

    with console.ProgressBar() as bar:
        report = read_report(run_with_reactor(work)["report"])
    if as_json:
        console.print_json(report)
    else:
        click.echo("\n".join(run_lines(report)))
    context.exit(end_of_run(report).status)


def run_lines(report: dict[str, Any]) -> list[str]:
    """Return the report of a walk for a reader."""
    from ampgrid.node.sizes import format_count

    written = report["shares_written"]
    would = "would be " if report["dry_run"] else ""
    lines = [
        f"{format_count(report['walked'], 'file')} looked at, {report['verified']} read whole.",
        f"Leases of {report['renewed']} {would}renewed, {report['repaired']} {would}repaired"
        + (f" with {format_count(written, 'share')}." if written else "."),
    ]
    for count, text in (
        (report["waiting"], "wait for a second look before shares count as lost."),
        (report["skipped"], "could not be judged: too few servers answered."),
        (report["failed"], "failed."),
        (report["lost"], "of these have too few shares left."),
    ):
        if count:
            lines.append(f"{count} {text}")
    lines += [
        f"Server {node_id} kept the walk waiting for too long, and was left out from then on."
        for node_id in report["slow_servers"]
    ]
    if not report["complete"]:
        lines.append("No storage peer is connected, so the walk ended early.")
    for file in report["files"]:
        words = [file["outcome"], format_count(file["shares_good"], "share"), file["problem"]]
        line = ", ".join(word for word in words if word)
        lines.append("  " + console.one_line(f"{file['cap']}: {line}"))
    left_out = report["files_left_out"] + report["left_out"]
    if left_out:
        lines.append(f"  and {left_out} more")
    return lines


def end_of_run(report: dict[str, Any]) -> exits.Exit:
    """Return how the command ends that shows the report of a walk."""
    if report["lost"]:
        return exits.LOST
    done = report["complete"] and not report["failed"] and not report["skipped"]
    return exits.DONE if done else exits.UNHEALTHY
