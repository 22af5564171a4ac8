"""``ampgrid import-tahoe`` and ``ampgrid export-share``: shares into and out of this node's store.

Both work with the node running, through it, and stopped, in its place.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ampgrid.cli import console, exits
from ampgrid.cli.params import SHARE_NUMBER, json_option
from ampgrid.cli.session import Session, require_storage
from ampgrid.errors import BadArgumentValueError, ConfigError, FormatError, NotRunningError

if TYPE_CHECKING:
    from ampgrid.cli.reactor import Stop
    from ampgrid.node.directory import NodeDirectory
    from ampgrid.store import Store

T = TypeVar("T")

#: Seconds between two looks of a progress bar.
_LOOK = 0.1


class _Shown:
    """Progress of an import in this process, on a bar."""

    def __init__(self, bar: console.ProgressBar) -> None:
        self.done = 0
        self._bar = bar
        self._phase = ""
        self._total = 0
        self._shown_at = 0.0

    def enter(self, phase: str, total: int | None = None) -> None:
        """Begin a phase."""
        self._phase, self.done = phase, 0
        self._total = self._total if total is None else total

    def check(self) -> None:
        """Show how far it is, now and then."""
        now = time.monotonic()
        if now - self._shown_at >= _LOOK:
            self._shown_at = now
            self._bar.show(self._phase, self.done, self._total)


@contextmanager
def _opened_store(directory: NodeDirectory) -> Iterator[Store]:
    """Open the store of a node whose lock is held."""
    from ampgrid.store.shares import ShareStore

    config = directory.load_config()
    # As a node does: on a disk that is not mounted there must be no second store.
    directory.require_store()
    directory.make_rooms()
    store = ShareStore.open(
        directory.storage, wall=time.time, quota=config.quota, reserve=config.reserve
    )
    try:
        directory.remember_store()
        yield store
    finally:
        store.close()


def _with_store(session: Session, here: Callable[[Store], T], through_node: Callable[[], T]) -> T:
    """Do it on the store, or through the node if that runs."""
    directory = session.directory
    require_storage(session)
    try:
        lock = directory.lock()
    except ConfigError as locked:
        try:
            return through_node()
        except NotRunningError:
            # No node has the lock, but another command that works on the directory.
            raise locked from None
    try:
        with _opened_store(directory) as store:
            return here(store)
    finally:
        lock.release()


@click.command("import-tahoe")
@click.argument("storage_dir", metavar="STORAGE_DIR")
@click.option("--dry-run", is_flag=True, help="Only tell what is there; change nothing.")
@json_option
@click.pass_context
def import_tahoe(
    context: click.Context, *, storage_dir: str, dry_run: bool, as_json: bool
) -> None:
    """Take the shares of a Tahoe-LAFS storage directory into this node's store.

    STORAGE_DIR is Tahoe's storage directory, or the 'shares' in it; it is only read. Immutable
    shares are taken with their leases, mutable ones passed over. What is here already is passed
    over too, so an import that was interrupted is simply done again. The exit status is 10 if a
    container was damaged, or has another share in its place here.
    """
    session = context.find_object(Session)
    assert session is not None
    source = Path(os.path.abspath(storage_dir))  # noqa: PTH100 - a symbolic link may be meant
    with console.ProgressBar() as bar:
        if dry_run and not _has_store(session):
            from ampgrid.storage.tahoe_import import import_shares

            report = import_shares(None, source, wall=time.time, progress=_Shown(bar)).to_json()
        else:
            report = _imported(session, source, bar, dry_run=dry_run)
    if as_json:
        console.print_json({"dry_run": dry_run, **report})
    else:
        _print_report(report, dry_run=dry_run)
    context.exit(end_of_import(report).status)


def end_of_import(report: dict[str, Any]) -> exits.Exit:
    """Return how the command ends that shows the report of an import."""
    return exits.UNHEALTHY if report["damaged"] or report["differing"] else exits.DONE


def _has_store(session: Session) -> bool:
    """Tell whether there may be shares here already, with which those to come are compared."""
    directory = session.directory
    if not directory.config_path.exists() or not directory.load_config().storage_enabled:
        return False
    directory.require_store()
    return any(directory.storage.glob("store.db*"))


def _imported(
    session: Session, source: Path, bar: console.ProgressBar, *, dry_run: bool
) -> dict[str, Any]:
    from ampgrid.storage.tahoe_import import import_shares

    def here(store: Store) -> dict[str, Any]:
        # By the store's own time, as all of its leases: this machine's clock may be wrong.
        now = store.upkeep.beginning.now
        done = import_shares(store, source, wall=lambda: now, progress=_Shown(bar), dry=dry_run)
        return done.to_json()

    def through_node() -> dict[str, Any]:
        from ampgrid.cli.control import call_watched, connect
        from ampgrid.cli.reactor import run_with_reactor
        from ampgrid.commands.control import ImportTahoe

        async def work(reactor: Any, stop: Stop) -> dict[str, Any]:
            connection = await connect(reactor, session)
            words = {"path": _text(source), "dry_run": dry_run}
            return await call_watched(reactor, connection, stop, bar, ImportTahoe, **words)

        try:
            report: dict[str, Any] = json.loads(run_with_reactor(work)["report"])
        except ValueError:
            raise FormatError(
                "The node's report cannot be read; is it of another version?"
            ) from None
        return report

    return _with_store(session, here, through_node)


def _text(path: Path) -> str:
    """Return a path as the node takes it.

    Raises:
        BadArgumentValueError: it is no text.
    """
    text = str(path)
    if not text.isprintable():
        raise BadArgumentValueError("Stop the node first: it cannot be told this path.")
    return text


def _print_report(report: dict[str, Any], *, dry_run: bool) -> None:
    from ampgrid.node.sizes import format_count, format_size

    def counted(count: int, what: str, more: str) -> str:
        return f"{format_count(count, what)}{more}"

    taken = f"{format_count(report['taken'], 'share')} ({format_size(report['taken_bytes'])})"
    here = report["here_already"]
    click.echo(
        f"{'Would take' if dry_run else 'Took'} {taken} with "
        f"{format_count(report['leases'], 'lease')}; "
        f"{format_count(here, 'share')} {'was' if here == 1 else 'were'} here already."
    )
    for problem in report["problems"]:
        console.note(f"ampgrid: note: {problem}")
    passed_over = [
        (report["mutable"], "mutable share", ", kept by no ampgrid"),
        (report["damaged"], "container", " not to be read"),
        (report["differing"], "share", " in whose place there is another"),
        (report["other"], "other file", ""),
    ]
    told = "; ".join(counted(*each) for each in passed_over if each[0])
    if told:
        console.note(f"ampgrid: note: passed over: {told}.")


@click.command("export-share")
@click.argument("storage_index", metavar="STORAGE_INDEX")
@click.argument("number", metavar="NUMBER", type=SHARE_NUMBER)
@click.argument("out", metavar="OUT")
@json_option
@click.pass_obj
def export_share(
    session: Session, *, storage_index: str, number: int, out: str, as_json: bool
) -> None:
    """Write the bytes of a share of this node's store to a file.

    STORAGE_INDEX is the 26 characters that 'ampgrid check' shows, and that stand in a verify
    cap. OUT is replaced only when all of the share is there; - is the standard output.
    """
    from ampgrid.cli.files import naming, target_of
    from ampgrid.crypto.base32 import a2b
    from ampgrid.storage import share_export

    if as_json and out == "-":
        raise BadArgumentValueError("The standard output is for the share or for JSON, not both.")
    try:
        index = a2b(storage_index, 16)
    except FormatError:
        raise BadArgumentValueError(
            "The storage index is not 26 characters of lower-case base32."
        ) from None

    def through_node(descriptor: int) -> int:
        from ampgrid.cli.control import ask
        from ampgrid.commands.control import ExportShare
        from ampgrid.ports import Connection

        async def work(connection: Connection) -> int:
            answer = await connection.call(
                ExportShare, storage_index=index, share=number, descriptor=descriptor
            )
            return int(answer["size"])

        with naming(out, "output"):
            return ask(session, work)

    require_storage(session)
    with target_of(out) as target:
        size = _with_store(
            session,
            lambda store: share_export.export_share(store, index, number, target),
            lambda: through_node(target),
        )
    if as_json:
        console.print_json({"out": os.path.abspath(out), "size": size})  # noqa: PTH100
