"""``ampgrid blob``: the blobs of a user, here and at a remote."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from ampgrid.cli import console
from ampgrid.cli.blob_options import blob_options, options_of, run_blobs
from ampgrid.cli.blob_sync import COMMANDS
from ampgrid.cli.blob_tokens import token
from ampgrid.cli.files import source_of, target_of
from ampgrid.cli.params import LENGTH, json_option
from ampgrid.cli.session import Session
from ampgrid.errors import BadArgumentValueError, BlobNotFoundError, InvalidBlobError

if TYPE_CHECKING:
    from ampgrid.blobs import Blob, BlobManager, ExternalBlob

_PRIORITIES = ("low", "medium", "high", "urgent")

_size_option = click.option(
    "--size", type=LENGTH, metavar="N", help="How large FILE is, where that cannot be seen."
)
_priority_option = click.option(
    "--priority",
    type=click.Choice(_PRIORITIES, case_sensitive=False),
    default="medium",
    show_default=True,
    help="Which goes first when several wait.",
)
_output_option = click.option(
    "--output-file", metavar="OUT", help="Where it goes; the standard output if not said, or -."
)
_external_option = click.option(
    "--external", is_flag=True, help="Write a blob of another scheme too, as it is."
)


@click.group()
def blob() -> None:
    """Keep blobs here and, enciphered, at a remote.

    Blobs have ids, live in namespaces, and never change. The local store is a file of SQLCipher;
    the remote never sees a key. All stores of a user share a secret, which 'blob secret' makes.
    """


@blob.command("secret")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def secret(*, file: Path, as_json: bool) -> None:
    """Make a secret for a user and write it to FILE.

    All stores of that user need the same; who loses it loses all blobs.
    """
    import os

    from ampgrid.crypto import b2a, write_secret_file

    file.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    write_secret_file(file, b2a(os.urandom(32)).encode() + b"\n")
    if as_json:
        console.print_json({"secret_file": str(file)})
    else:
        console.note(f"The secret is in {file}: keep a copy of it in a safe place.")


@blob.command("upload")
@click.argument("file")
@click.argument("blob_id")
@_size_option
@blob_options
@click.pass_obj
def upload(session: Session, /, *, file: str, blob_id: str, size: int | None, **said: Any) -> None:
    """Put FILE to the remote under BLOB_ID, past the local store."""
    from ampgrid.blobs import BlobDoc

    options = options_of(session, said)
    with source_of(file) as descriptor, _opened(descriptor) as plain:
        run_blobs(
            session,
            options,
            lambda blobs: blobs.upload(BlobDoc(plain, blob_id), size, options.namespace),
            local=False,
        )
    _done(session, blob_id)


@blob.command("put")
@click.argument("file")
@click.argument("blob_id")
@_size_option
@click.option("--local-only", is_flag=True, help="The remote never hears of it.")
@_priority_option
@blob_options
@click.pass_obj
def put(
    session: Session,
    /,
    *,
    file: str,
    blob_id: str,
    size: int | None,
    local_only: bool,
    priority: str,
    **said: Any,
) -> None:
    """Put FILE into the local store under BLOB_ID, and from there to the remote.

    Without a remote it waits for 'blob sync'.
    """
    from ampgrid.blobs import BlobDoc, Priority

    options = options_of(session, said)
    with source_of(file) as descriptor, _opened(descriptor) as plain:
        run_blobs(
            session,
            options,
            lambda blobs: blobs.put(
                BlobDoc(plain, blob_id),
                size,
                options.namespace,
                local_only=local_only,
                priority=Priority[priority.upper()],
            ),
            remote=False,
        )
    _done(session, blob_id)


@blob.command("download")
@click.argument("blob_id")
@_output_option
@_external_option
@blob_options
@click.pass_obj
def download(
    session: Session, /, *, blob_id: str, output_file: str | None, external: bool, **said: Any
) -> None:
    """Write a blob from the remote to OUT, past the local store."""
    options = options_of(session, said)
    _check_output(session, output_file)
    with target_of(output_file) as descriptor:

        async def work(blobs: BlobManager) -> int:
            found = await blobs.download(blob_id, options.namespace)
            return await _save(blobs, found, blob_id, descriptor, external=external)

        size = run_blobs(session, options, work, local=False)
    _written(session, blob_id, size, output_file)


@blob.command("get")
@click.argument("blob_id")
@_output_option
@_external_option
@_priority_option
@blob_options
@click.pass_obj
def get(
    session: Session,
    /,
    *,
    blob_id: str,
    output_file: str | None,
    external: bool,
    priority: str,
    **said: Any,
) -> None:
    """Write a blob to OUT: from the local store, where it is brought if it is not there."""
    from ampgrid.blobs import Priority

    options = options_of(session, said)
    _check_output(session, output_file)
    with target_of(output_file) as descriptor:

        async def work(blobs: BlobManager) -> int:
            urgency = Priority[priority.upper()]
            found = await blobs.get(blob_id, options.namespace, urgency)
            return await _save(blobs, found, blob_id, descriptor, external=external)

        size = run_blobs(session, options, work, remote=False)
    _written(session, blob_id, size, output_file)


@blob.command("delete")
@click.argument("blob_ids", metavar="BLOB_ID...", nargs=-1, required=True)
@blob_options
@click.pass_obj
def delete(session: Session, /, *, blob_ids: tuple[str, ...], **said: Any) -> None:
    """Delete blobs here and at the remote; with their next sync, in all other stores."""
    options = options_of(session, said)

    async def work(blobs: BlobManager) -> None:
        for blob_id in blob_ids:
            await blobs.delete(blob_id, options.namespace)

    run_blobs(session, options, work, remote=False)
    if session.as_json:
        console.print_json({"deleted": list(blob_ids)})


async def _save(
    blobs: BlobManager,
    found: Blob | ExternalBlob | None,
    blob_id: str,
    descriptor: int,
    *,
    external: bool,
) -> int:
    """Write a blob to a descriptor; return the number of bytes.

    Raises:
        BlobNotFoundError: there is none.
        InvalidBlobError: it is of another scheme, which was not asked for.
    """
    from ampgrid.blobs import Blob

    if found is None:
        raise BlobNotFoundError(f"There is no blob {blob_id}.")
    try:
        with _opened(descriptor, "wb") as file:
            if isinstance(found, Blob):
                return await found.save(file, blobs.threads)
            if not external:
                raise InvalidBlobError(
                    f"The blob {blob_id} was not sealed by ampgrid but is of scheme "
                    f"{found.scheme}: nothing in it was checked. Say --external to have it as "
                    "it is."
                )
            return await found.save_raw(file, blobs.threads)
    finally:
        await found.close()


def _opened(descriptor: int, mode: str = "rb") -> IO[Any]:
    return open(descriptor, mode, closefd=False)


def _done(session: Session, blob_id: str) -> None:
    if session.as_json:
        console.print_json({"blob_id": blob_id})


def _check_output(session: Session, output_file: str | None) -> None:
    if session.as_json and output_file in (None, "-"):
        raise BadArgumentValueError("With --json the blob itself needs an --output-file.")


def _written(session: Session, blob_id: str, size: int, output_file: str | None) -> None:
    if session.as_json:
        console.print_json({"blob_id": blob_id, "size": size, "output_file": output_file})


for _command in (*COMMANDS, token):
    blob.add_command(_command)
