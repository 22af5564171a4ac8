"""``ampgrid recovery``: a node's key, secrets and kept list, in one file under a passphrase."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console
from ampgrid.cli.params import json_option
from ampgrid.cli.passphrase import passphrase_of, passphrase_option
from ampgrid.cli.session import Session
from ampgrid.errors import (
    BadArgumentValueError,
    ConfigError,
    FormatError,
    NotRunningError,
    UsageError,
)

if TYPE_CHECKING:
    from ampgrid.formats.recovery import KeptFile, Recovery
    from ampgrid.node.config import NodeConfig
    from ampgrid.node.directory import NodeDirectory
    from ampgrid.node.recovery import Known
    from ampgrid.ports import Connection


@click.group()
def recovery() -> None:
    """Bring a lost node back: its key, secrets and kept list in a file.

    Shares that the node kept for others are not part of it; the grid repairs them.
    """


@recovery.command("export")
@click.argument("file", metavar="FILE")
@passphrase_option
@json_option
@click.pass_obj
def export(session: Session, *, file: str, passphrase_file: str | None, as_json: bool) -> None:
    """Write FILE, from which this node can be made again.

    It holds the node's key and secrets, its node.toml, the peers it knows and the list of the
    files it keeps, under a passphrase that is asked for twice. The node may be running. Keep
    FILE on another machine; without the passphrase nobody can open it. FILE may be - for the
    standard output, as long as that is no terminal.
    """
    from ampgrid.crypto.identity import node_id_text
    from ampgrid.node.recovery import export_to, gather, note_export, sealed_export
    from ampgrid.storage.output import output_target

    directory = session.directory
    directory.require()
    # Before a passphrase is asked for.
    to_stdout = file == "-"
    if to_stdout:
        _check_stdout(as_json=as_json)
    else:
        output_target(Path(file))
    passphrase = passphrase_of(passphrase_file, twice=True)
    # Before the lists are read: what is put meanwhile is put since.
    now = time.time()
    gathered = gather(directory, _known(session, directory), int(now))
    if to_stdout:
        sys.stdout.flush()
        sys.stdout.buffer.write(sealed_export(gathered, passphrase))
        sys.stdout.buffer.flush()
    else:
        export_to(Path(file), gathered, passphrase)
    note_export(directory, now)
    facts = {
        "file": str(Path(file).absolute()),
        "node_id": node_id_text(directory.identity().node_id),
        **_counts(gathered),
    }
    if as_json:
        console.print_json(facts)
    else:
        click.echo(
            f"Wrote {'it' if to_stdout else file}: node {facts['node_id']}, "
            f"{_numbers(gathered)}.\n"
            "Keep it on another machine. Who has it and the passphrase is this node.",
            err=to_stdout,
        )


def _check_stdout(*, as_json: bool) -> None:
    """Return if the standard output can take a recovery file.

    Raises:
        BadArgumentValueError: it cannot.
    """
    if as_json:
        raise BadArgumentValueError("The standard output is for the file or for JSON, not both.")
    if sys.stdout.isatty():
        raise BadArgumentValueError("The file is not for a terminal; name it, or redirect it.")


@recovery.command("import")
@click.argument("file", metavar="FILE")
@passphrase_option
@json_option
@click.pass_obj
def import_(session: Session, *, file: str, passphrase_file: str | None, as_json: bool) -> None:
    """Make the node of FILE again, in DIR (-d).

    DIR must be missing or empty. The node has the same node id as before, so the old one must
    not run any more.
    """
    from ampgrid.crypto.identity import node_id_text
    from ampgrid.node.recovery import read_export, restore

    passphrase = passphrase_of(passphrase_file, twice=False)
    found = read_export(Path(file), passphrase)
    directory = restore(session.directory_path, found)
    node_id = node_id_text(directory.identity().node_id)
    if as_json:
        console.print_json({"dir": str(directory.path), "node_id": node_id, **_counts(found)})
    else:
        click.echo(f"Made node {node_id} again in {directory.path}: {_numbers(found)}.")
        click.echo("Shares that it kept for others are not part of it; the grid repairs them.")
        click.echo(f"Start it with: ampgrid -d {directory.path} run")
    console.note(
        "ampgrid: note: the old node must not run at the same time: two of one key displace each "
        "other on every connection."
    )
    if found.others:
        console.note(
            "ampgrid: note: this ampgrid does not know, and only keeps, these parts of the file: "
            f"{', '.join(found.others)}."
        )


def _counts(found: Recovery) -> dict[str, Any]:
    return {
        "exported_at": found.exported_at,
        "kept_files": len(found.kept),
        "known_peers": len(found.announcements),
        "unknown_sections": list(found.others),
    }


def _numbers(found: Recovery) -> str:
    from ampgrid.node.sizes import format_count

    kept = format_count(len(found.kept), "kept file")
    return f"{kept}, {format_count(len(found.announcements), 'known peer')}"


def _known(session: Session, directory: NodeDirectory) -> Known:
    """Return what is in the node's databases."""
    from ampgrid.cli.control import ask
    from ampgrid.node.recovery import known_at_rest

    config = directory.load_config()
    try:
        lock = directory.lock()
    except ConfigError as locked:
        try:
            return ask(session, lambda connection: _ask_known(connection, config))
        except NotRunningError:
            # No node has the lock, but another command that works on the directory.
            raise locked from None
    try:
        return known_at_rest(directory)
    finally:
        lock.release()


async def _ask_known(connection: Connection, config: NodeConfig) -> Known:
    """Ask a running node for what only it can read."""
    from ampgrid.node.recovery import Known

    announcements = await _announcements(connection)
    if config.kind == "introducer":
        return Known(announcements)
    return Known(announcements, await _advice(connection, config), await _kept(connection))


async def _advice(connection: Connection, config: NodeConfig) -> tuple[int, int, int] | None:
    """Ask a running node how it spreads files, where its settings do not say so."""
    from ampgrid.commands.control import Status
    from ampgrid.node.config import EncodingParameters

    if config.shares is not None:
        return None
    answer = await connection.call(Status)
    try:
        found = EncodingParameters.parse(json.loads(answer["status"])["shares"])
    except (ValueError, KeyError, TypeError, AttributeError, UsageError):
        raise _unreadable() from None
    return found.needed, found.happy, found.total


async def _announcements(connection: Connection) -> tuple[bytes, ...]:
    """Ask a running node for the announcements of its peers."""
    from ampgrid.commands.control import ListPeers

    peers = await _pages(connection, ListPeers, "peers")
    try:
        packed = [peer.get("announcement") for peer in peers]
        return tuple(base64.b64decode(each, validate=True) for each in packed if each)
    except (ValueError, TypeError, AttributeError):
        raise _unreadable() from None


async def _kept(connection: Connection) -> tuple[KeptFile, ...]:
    """Ask a running node for the files that it keeps."""
    from ampgrid.caps import ChkVerifierCap, parse_file_cap
    from ampgrid.commands.control import ListKept
    from ampgrid.formats.recovery import KeptFile
    from ampgrid.node.config import EncodingParameters

    entries = await _pages(connection, ListKept, "kept")
    try:
        read = [
            (
                parse_file_cap(entry["cap"]),
                EncodingParameters.parse(entry["shares"]).happy,
                int(entry["put_at"]),
            )
            for entry in entries
        ]
    except (ValueError, KeyError, TypeError, AttributeError, UsageError):
        raise _unreadable() from None
    return tuple(
        KeptFile(cap, happy, at) for cap, happy, at in read if isinstance(cap, ChkVerifierCap)
    )


async def _pages(connection: Connection, command: Any, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    start = 0
    while True:
        page = await connection.call(command, start=start)
        try:
            found += json.loads(page[key])
        except (ValueError, TypeError):
            raise _unreadable() from None
        start = page["next"]
        if not start:
            return found


def _unreadable() -> FormatError:
    return FormatError("The node's lists cannot be read; is it of another version?")
