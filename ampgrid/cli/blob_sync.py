"""``ampgrid blob list`` and what else is about all blobs: syncing, flags, status, keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console
from ampgrid.cli.blob_options import blob_options, options_of, run_blobs
from ampgrid.cli.session import Session
from ampgrid.errors import BlobError, BlobNotFoundError, IntegrityError

if TYPE_CHECKING:
    from ampgrid.blobs import BlobManager, SyncReport

_FLAGS = ("PENDING", "PROCESSING", "PROCESSED", "FAILED")
_flag_type = click.Choice(_FLAGS, case_sensitive=False)


@click.command("list")
@click.option(
    "--order-by",
    type=click.Choice(["date", "+date", "-date"]),
    help="Older first (date, +date) or newer first; by id if not said.",
)
@click.option("--filter-flag", type=_flag_type, help="Those alone that have it at the remote.")
@click.option("--deleted", is_flag=True, help="Those that were deleted at the remote lately.")
@blob_options
@click.pass_obj
def list_(
    session: Session,
    /,
    *,
    order_by: str | None,
    filter_flag: str | None,
    deleted: bool,
    **said: Any,
) -> None:
    """List the blobs of both sides, and how those here stand to the remote."""
    options = options_of(session, said)

    async def work(blobs: BlobManager) -> tuple[dict[str, str], list[str]]:
        here = {
            blob_id: status.name
            for blob_id, status in (await blobs.local_statuses(options.namespace)).items()
        }
        there: list[str] = []
        if options.remote:
            there = await blobs.remote_list(
                options.namespace,
                order_by,  # type: ignore[arg-type]
                filter_flag,
                deleted=deleted,
            )
        return here, there

    here, there = run_blobs(session, options, work, remote=bool(deleted or filter_flag))
    if session.as_json:
        console.print_json({"local": here, "remote": there})
        return
    only_there = deleted or filter_flag is not None
    for line in _lines(here, there, only_there=only_there, gone=deleted):
        click.echo(line)


def _lines(
    here: dict[str, str], there: list[str], *, only_there: bool, gone: bool = False
) -> list[str]:
    """Return a line a blob: where it is, its id, how it stands.

    Args:
        here: ids of the local store, and their status.
        there: ids that the remote lists.
        only_there: leave out what the remote does not list.
        gone: the remote lists those that were deleted.
    """
    at_remote = "gone" if gone else "there"
    remote = set(there)
    ids = there + ([] if only_there else [i for i in here if i not in remote])
    return [
        f"{'here' if here.get(i) not in (None, 'PENDING_DOWNLOAD', 'PENDING_DELETE') else '-':4}  "
        f"{at_remote if i in remote else '-':5}  {i}  {here.get(i, '')}".rstrip()
        for i in ids
    ]


def _syncing(name: str, method: str, help_text: str) -> click.Command:
    @click.command(name, help=help_text)
    @click.option("--again", is_flag=True, help="Also what failed before.")
    @blob_options
    @click.pass_obj
    def command(session: Session, /, *, again: bool, **said: Any) -> None:
        options = options_of(session, said)

        async def work(blobs: BlobManager) -> SyncReport:
            if again:
                for namespace in await _namespaces(blobs, options.namespace):
                    await blobs.ask_again(namespace)
            report: SyncReport = await getattr(blobs, method)(options.namespace)
            return report

        _report(session, run_blobs(session, options, work))

    return command


async def _namespaces(blobs: BlobManager, named: str | None) -> list[str]:
    return [named] if named else await blobs.namespaces()


def _report(session: Session, report: SyncReport) -> None:
    """Print what a sync did.

    Raises:
        BlobError: a blob could not be moved.
    """
    if session.as_json:
        console.print_json(report.to_json())
    else:
        words = [f"{report.sent} sent", f"{report.fetched} fetched"]
        if report.deleted_there:
            words.append(f"{report.deleted_there} deleted there")
        if report.deleted_here:
            words.append(f"{report.deleted_here} deleted here")
        click.echo(", ".join(words) + ".")
        for name, why in report.failed:
            console.note(f"{name}: {why}")
    if report.failed:
        count = len(report.failed)
        raise BlobError(
            f"{count} blob{'s' if count > 1 else ''} could not be moved; look with 'ampgrid blob "
            "status', and try again with --again."
        )


@click.command("flags")
@click.argument("blob_id")
@click.option(
    "--set", "flags", type=_flag_type, multiple=True, help="Let it have this flag; repeatable."
)
@click.option("--clear", is_flag=True, help="Let it have no flag but those of --set.")
@blob_options
@click.pass_obj
def flags_(
    session: Session, /, *, blob_id: str, flags: tuple[str, ...], clear: bool, **said: Any
) -> None:
    """Print the flags of a blob at the remote, or set them: all those named and no others."""
    options = options_of(session, said)

    async def work(blobs: BlobManager) -> list[str]:
        if flags or clear:
            await blobs.set_flags(blob_id, flags, options.namespace)
        found = await blobs.get_flags(blob_id, options.namespace)
        if found is None:
            raise BlobNotFoundError(f"The remote has no blob {blob_id}.")
        return [str(flag) for flag in found]

    found = run_blobs(session, options, work, local=False)
    if session.as_json:
        console.print_json({"blob_id": blob_id, "flags": found})
    elif found:
        click.echo("\n".join(found))


@click.command("status")
@click.argument("blob_id", required=False)
@click.option("--check", is_flag=True, help="Look at every page of the local store.")
@blob_options
@click.pass_obj
def status_(session: Session, /, *, blob_id: str | None, check: bool, **said: Any) -> None:
    """Tell how the local store stands to the remote, or one blob of it."""
    options = options_of(session, said)

    async def work(blobs: BlobManager) -> dict[str, Any]:
        if blob_id is not None:
            found = await blobs.status(blob_id, options.namespace)
            if found is None:
                raise BlobNotFoundError(f"There is no blob {blob_id} here.")
            return {"blob_id": blob_id, "status": found.name}
        answer: dict[str, Any] = {"progress": await blobs.sync_progress(options.namespace)}
        if check:
            answer["problems"] = await blobs.check()
        return answer

    _tell_status(session, blob_id, run_blobs(session, options, work, remote=False))


def _tell_status(session: Session, blob_id: str | None, answer: dict[str, Any]) -> None:
    """Print how the store fares.

    Raises:
        IntegrityError: it is damaged.
    """
    if session.as_json:
        console.print_json(answer)
    elif blob_id is not None:
        click.echo(answer["status"])
    else:
        for name, count in answer["progress"].items():
            click.echo(f"{count:8}  {name}")
        for problem in answer.get("problems", ()):
            click.echo(console.one_line(problem))
    if answer.get("problems"):
        raise IntegrityError("The local store is damaged: bring its blobs to a new one.")


@click.command("rekey")
@click.option(
    "--new-passphrase-file",
    metavar="FILE",
    required=True,
    help="Its first line is what opens the local store from now on.",
)
@blob_options
@click.pass_obj
def rekey(session: Session, /, *, new_passphrase_file: str, **said: Any) -> None:
    """Give the local store another passphrase; all of it is enciphered anew."""
    from ampgrid.cli.passphrase import passphrase_of

    options = options_of(session, said)
    passphrase = passphrase_of(new_passphrase_file, twice=True)
    run_blobs(session, options, lambda blobs: blobs.rekey(passphrase), remote=False)
    if session.as_json:
        console.print_json({"path": str(options.path)})


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--new-passphrase-file", metavar="FILE", required=True, help="Its first line opens the copy."
)
@click.option(
    "--cipher-format",
    type=click.Choice(["3", "4"]),
    help="Of SQLCipher: 3 for pysqlcipher3, 4 for sqlcipher3; the driver's if not said.",
)
@blob_options
@click.pass_obj
def export(
    session: Session,
    /,
    *,
    file: Path,
    new_passphrase_file: str,
    cipher_format: str | None,
    **said: Any,
) -> None:
    """Write all of the local store to a new one, FILE, and its key file beside it."""
    from ampgrid.cli.passphrase import passphrase_of

    options = options_of(session, said)
    passphrase = passphrase_of(new_passphrase_file, twice=True)
    number = None if cipher_format is None else int(cipher_format)
    run_blobs(session, options, lambda blobs: blobs.export(file, passphrase, number), remote=False)
    if session.as_json:
        console.print_json({"file": str(file)})


#: What the group gets from here, in the order of the page.
COMMANDS = (
    list_,
    _syncing("send-missing", "send_missing", "Put to the remote what it lacks."),
    _syncing("fetch-missing", "fetch_missing", "Bring what is missing here."),
    _syncing("sync", "sync", "Make both sides hold the same blobs, deletions first."),
    flags_,
    status_,
    rekey,
    export,
)
