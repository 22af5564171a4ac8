"""What all ``ampgrid blob`` commands take alike, and running one with the blobs of a user."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import frozen

from ampgrid.cli import console
from ampgrid.cli.blob_through import SCHEMES, Way, way_through_node
from ampgrid.cli.params import SIZE, json_option
from ampgrid.cli.passphrase import passphrase_of
from ampgrid.cli.session import Session
from ampgrid.errors import BadArgumentValueError, FileError, FormatError, WrongKeyError

if TYPE_CHECKING:
    from ampgrid.blobs import BlobManager, Moved
    from ampgrid.cli.reactor import Stop

T = TypeVar("T")

#: Where scripts may put what stands in no command line.
SECRET_VARIABLE = "AMPGRID_BLOB_SECRET"  # noqa: S105 - a name
TOKEN_VARIABLE = "AMPGRID_BLOB_TOKEN"  # noqa: S105 - a name

_MAX_SECRET_TEXT = 16 * 1024


@frozen
class BlobOptions:
    """What was said about whose blobs they are, and where.

    Attributes:
        remote: address of the remote, None for none.
        path: directory of the local store.
        user: name of the user.
        namespace: None for the default.
        cert_file: certificates for the remote, None for those of the system.
        secret_file: where the secret is, None for its usual place.
        token_file: where the token is, None for the environment's, or none.
        passphrase_file: where the passphrase of the local store is; None for the node's key,
            or else for the environment's or what is typed.
        attempts: how often the remote is tried.
        external_quota: what blobs of other schemes may take of the local store, bytes.
    """

    remote: str | None
    path: Path
    user: str
    namespace: str | None
    cert_file: Path | None
    secret_file: Path | None
    token_file: Path | None
    passphrase_file: str | None
    attempts: int
    external_quota: int


#: The options that `BlobOptions` is made of, as help shows them: where and whose the blobs are,
#: what proves and opens it, and the bounds.
_WHERE = (
    click.option(
        "--remote",
        metavar="URL",
        envvar="AMPGRID_BLOB_REMOTE",
        help="Where the remote is: https://HOST/blobs/, grid:PATH or amp:NODEID.",
    ),
    click.option(
        "--path",
        "blob_path",
        metavar="DIR",
        envvar="AMPGRID_BLOB_PATH",
        type=click.Path(path_type=Path),
        help="Directory of the local store; the node's, or ~/.ampgrid-blobs, if not said.",
    ),
    click.option(
        "--user",
        metavar="NAME",
        envvar="AMPGRID_BLOB_USER",
        default="me",
        show_default=True,
        help="Whose blobs they are, at the remote and here.",
    ),
    click.option("--namespace", metavar="NAME", help="In which namespace they are."),
)
_MEANS = (
    click.option(
        "--cert-file",
        metavar="FILE",
        envvar="AMPGRID_BLOB_CERT_FILE",
        type=click.Path(path_type=Path),
        help="Certificates that the remote's must chain to, PEM; else the system's.",
    ),
    click.option(
        "--secret-file",
        metavar="FILE",
        envvar="AMPGRID_BLOB_SECRET_FILE",
        type=click.Path(path_type=Path),
        help=f"The secret (see 'blob secret'); else {SECRET_VARIABLE}, or DIR/secret.",
    ),
    click.option(
        "--token-file",
        metavar="FILE",
        envvar="AMPGRID_BLOB_TOKEN_FILE",
        type=click.Path(path_type=Path),
        help=f"The token for the remote; else {TOKEN_VARIABLE}.",
    ),
    click.option(
        "--passphrase-file",
        metavar="FILE",
        help="Its first line opens the local store; else the node's key, AMPGRID_PASSPHRASE, "
        "or it is asked for.",
    ),
)
_BOUNDS = (
    click.option(
        "--attempts",
        metavar="N",
        default=8,
        show_default=True,
        type=click.IntRange(1, 1000),
        help="Tries of what the remote does not answer.",
    ),
    click.option(
        "--external-quota",
        metavar="SIZE",
        default="1GiB",
        show_default=True,
        type=SIZE,
        envvar="AMPGRID_BLOB_EXTERNAL_QUOTA",
        help="What blobs of other schemes may take of the local store, all together.",
    ),
)


def blob_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that `BlobOptions` is made of."""
    for option in reversed((*_WHERE, *_MEANS, *_BOUNDS, json_option)):
        function = option(function)
    return function


def options_of(session: Session, said: dict[str, Any]) -> BlobOptions:
    """Take the options out of the keyword arguments of a command."""
    path = said.pop("blob_path") or _usual_path(session)
    names = (
        "remote",
        "user",
        "namespace",
        "cert_file",
        "secret_file",
        "token_file",
        "passphrase_file",
        "attempts",
        "external_quota",
    )
    said.pop("as_json", None)
    return BlobOptions(path=path, **{name: said.pop(name) for name in names})


def _usual_path(session: Session) -> Path:
    """Return where the local store is if nothing was said: beside the node, where there is one."""
    directory = session.directory
    if directory.config_path.exists():
        return directory.path / "blobs"
    return Path("~/.ampgrid-blobs").expanduser()


def secret_of(options: BlobOptions) -> bytes:
    """Return the user's secret.

    Raises:
        BadArgumentValueError: there is none, or it is too short.
        ConfigError: its file cannot be used.
    """
    from ampgrid.crypto import read_secret_file
    from ampgrid.formats.blobcipher import checked_secret

    given = os.environ.get(SECRET_VARIABLE)
    usual = options.path / "secret"
    if options.secret_file is None and given:
        return checked_secret(_secret_in(given, SECRET_VARIABLE))
    if options.secret_file is None and not usual.exists():
        raise BadArgumentValueError(
            f"There is no secret in {usual}: make one with 'ampgrid blob secret', or bring the "
            "one that your other stores have."
        )
    file = options.secret_file or usual
    text = read_secret_file(file, _MAX_SECRET_TEXT).decode("ascii", "replace")
    return checked_secret(_secret_in(text, str(file)))


def _secret_in(text: str, where: str) -> bytes:
    from ampgrid.crypto import a2b

    try:
        return a2b(text.strip())
    except FormatError:
        raise BadArgumentValueError(
            f"{where} holds no secret: it is one line of base32, as 'ampgrid blob secret' writes."
        ) from None


def token_of(options: BlobOptions) -> str | None:
    """Return the token for the remote, None if there is none.

    Raises:
        ConfigError: its file cannot be used.
    """
    from ampgrid.crypto import read_secret_file

    if options.token_file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip() or None
    data = read_secret_file(options.token_file, _MAX_SECRET_TEXT)
    return data.decode("utf-8", "replace").strip()


def key_of(session: Session, options: BlobOptions) -> bytes | str:
    """Return what opens the local store: the node's key, or a passphrase."""
    if options.passphrase_file is None and session.directory.config_path.exists():
        from ampgrid.node.upkeep import local_blobs_key

        return local_blobs_key(session.directory.identity())
    exists = (options.path / f"{options.user}_blobs.db").exists()
    return passphrase_of(options.passphrase_file, twice=not exists)


def run_blobs(
    session: Session,
    options: BlobOptions,
    work: Callable[[BlobManager], Coroutine[Any, Any, T]],
    *,
    local: bool = True,
    remote: bool = True,
) -> T:
    """Run a coroutine with the blobs of the user, and a progress bar.

    Args:
        session: of the command.
        options: what was said.
        work: what is done with them.
        local: whether there is a local store.
        remote: whether there must be a remote.

    Raises:
        BadArgumentValueError: an option is missing, or wrong.
        KeyboardInterrupt: it was interrupted.
    """
    from ampgrid.cli.reactor import run_with_reactor

    if remote and not options.remote:
        raise BadArgumentValueError("Name the remote with --remote, or in AMPGRID_BLOB_REMOTE.")
    secret, token = secret_of(options), token_of(options)
    way = _way(session, options.remote, token) if options.remote else None
    key = key_of(session, options) if local else None
    if local:
        _make_directory(options.path)

    async def run(reactor: Any, stop: Stop) -> T:
        from ampgrid.blobs import BlobManager
        from ampgrid.blobs.bounds import Bounds

        address = options.remote if way is None else way.remote(reactor, options.user, token)
        with console.ProgressBar(shown=not session.as_json) as bar:
            blobs = BlobManager(
                options.path if local else None,
                address,
                key,
                secret,
                options.user,
                token,
                options.cert_file,
                attempts=options.attempts,
                bounds=Bounds(options.external_quota),
                watcher=lambda moved: _show(bar, moved),
                clock=reactor,
            )
            try:
                return await _unless_stopped(work(blobs), stop)
            finally:
                await blobs.close()

    try:
        return run_with_reactor(run)
    except WrongKeyError as error:
        raise wrong_key(error, session, key) from None


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, mode=0o700, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path} could not be made: {error.strerror}.") from error


async def _unless_stopped(work: Coroutine[Any, Any, T], stop: Stop) -> T:
    """Return what a coroutine returns.

    Raises:
        KeyboardInterrupt: the wish to stop came first; the work is given up.
    """
    from twisted.internet.defer import Deferred

    from ampgrid.cli.reactor import first_of

    working = Deferred.fromCoroutine(work)
    done = await first_of(working, stop.wait())
    if not done:
        working.cancel()
        raise KeyboardInterrupt
    return done[0]


def wrong_key(error: WrongKeyError, session: Session, key: bytes | str | None) -> WrongKeyError:
    """Return what to say of a key that opens no store: whose it was, if nobody typed it."""
    if not isinstance(key, bytes):
        return error
    return WrongKeyError(
        f"{error} It was tried with the key of the node in {session.directory.path}; if the "
        "store has a passphrase, give it with --passphrase-file."
    )


def _way(session: Session, remote: str, token: str | None) -> Way | None:
    """Return the way to a remote through the node here, None to one over HTTP.

    Raises:
        BadArgumentValueError: it is no address of a remote, or a token is missing.
        NotRunningError: the node does not run, or has no gateway.
    """
    if remote.startswith(SCHEMES):
        return way_through_node(session, remote)
    if not remote.startswith(("http://", "https://")):
        raise BadArgumentValueError(
            "A remote of blobs is https://HOST/blobs/, grid:PATH or amp:NODEID."
        )
    if token is None:
        raise BadArgumentValueError(
            "A remote over HTTP wants a token, which its operator issues: name its file with "
            f"--token-file, or set {TOKEN_VARIABLE}."
        )
    return None


def _show(bar: console.ProgressBar, moved: Moved) -> None:
    way = "sending" if moved.sending else "fetching"
    bar.show(f"{way} {moved.name.blob_id[:40]}", moved.done, moved.total)
