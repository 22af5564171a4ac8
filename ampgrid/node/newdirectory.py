"""Writing a new node directory, so that a crash at any moment leaves none that looks complete.

Keys come first and ``node.toml`` last. A directory in which an earlier attempt was cut short is
recognised (nothing in it but what this module writes first, so no node can have run there) and
written again from the start.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from attrs import field, frozen

from ampgrid.crypto.base32 import b2a
from ampgrid.crypto.keyfile import sync_directory, write_secret_file
from ampgrid.errors import ConfigError
from ampgrid.node.config import Kind
from ampgrid.node.directory import SECTION_PREFIX, NodeDirectory, write_whole

_SECRET_NAMES = frozenset({"node.pem", "grid-secret", "convergence", "lease-secret"})
#: What an import may have written there beside.
_ROOT_NAMES = frozenset({"root.cap", "public-root.cap", "aliases"})
_TEMPORARY = ".new-"
#: Says that more than secrets and empty rooms may be there though the directory is unfinished.
_MARK = ".new-import"


@frozen
class OwnSecrets:
    """What is in ``private/``.

    Attributes:
        node_key: the node's private key, PEM.
        grid: the grid's secret, None if it has no file.
        convergence: the convergence secret, None for an introducer.
        lease: the root of the lease secrets, None for an introducer.
    """

    node_key: bytes = field(repr=False)
    grid: bytes | None = field(repr=False)
    convergence: bytes | None = field(repr=False)
    lease: bytes | None = field(repr=False)


def write_directory(
    path: str | os.PathLike[str],
    kind: Kind,
    settings: str,
    secrets: OwnSecrets,
    more: Callable[[NodeDirectory], None] | None = None,
) -> NodeDirectory:
    """Write a new node directory, ``node.toml`` last.

    Args:
        path: where; missing, empty, or left unfinished by an earlier attempt.
        kind: what the settings say it is.
        settings: the text of ``node.toml``.
        secrets: what is in ``private/``.
        more: writes what else belongs there, before ``node.toml``.

    Raises:
        ConfigError: something is there already, or the disk refused.
    """
    directory = NodeDirectory.at(path)
    try:
        _make_empty(directory)
        if more is not None:
            write_secret_file(directory.path / _MARK, b"")
        directory.private.mkdir(mode=0o700)
        write_secret_file(directory.key_path, secrets.node_key)
        for secret_path, value in (
            (directory.grid_secret_path, secrets.grid),
            (directory.convergence_path, secrets.convergence),
            (directory.lease_secret_path, secrets.lease),
        ):
            if value is not None:
                write_secret_file(secret_path, b2a(value).encode("ascii") + b"\n")
        if kind == "node":
            directory.make_rooms()
        if more is not None:
            more(directory)
        write_whole(directory.config_path, settings.encode("utf-8"))
        (directory.path / _MARK).unlink(missing_ok=True)
        sync_directory(directory.path.parent)
    except OSError as error:
        where = error.filename or directory.path
        raise ConfigError(f"{where} could not be written: {error.strerror}.") from error
    return directory


def _make_empty(directory: NodeDirectory) -> None:
    """Make the directory, or take over one that is empty or was left unfinished."""
    path = directory.path
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is there already and is no directory.")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.config_path.exists():
        raise ConfigError(f"{path} is a node directory already; it was left as it is.")
    if not _is_unfinished(directory):
        raise ConfigError(f"{path} is not empty; name a new or an empty directory.")
    _clear(directory)
    path.chmod(0o700)


def _is_unfinished(directory: NodeDirectory) -> bool:
    """Tell whether nothing is there but what `write_directory` writes before ``node.toml``.

    A node that ever ran left its pid file, which is none of that.
    """
    names: set[str] = set()
    secret_names = _SECRET_NAMES
    beginnings: tuple[str, ...] = (_TEMPORARY,)
    if (directory.path / _MARK).exists():
        names, beginnings = _names_of_more(directory), (_TEMPORARY, SECTION_PREFIX)
        secret_names |= _ROOT_NAMES
    for entry in directory.path.iterdir():
        if entry == directory.private:
            if not _is_directory(entry) or not all(
                inner.name in secret_names or inner.name.startswith(beginnings)
                for inner in entry.iterdir()
            ):
                return False
        elif entry in {directory.storage, directory.spool}:
            if not _is_directory(entry) or any(entry.iterdir()):
                return False
        elif not entry.is_file() or not (entry.name.startswith(_TEMPORARY) or entry.name in names):
            return False
    return True


def _names_of_more(directory: NodeDirectory) -> set[str]:
    """Return the names of the files beside ``private/`` that an import may have written."""
    databases = {directory.peers_path.name, directory.kept_path.name}
    journals = {name + end for name in databases for end in ("-wal", "-shm", "-journal")}
    return databases | journals | {directory.listen_port_path.name, directory.exported_path.name}


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _clear(directory: NodeDirectory) -> None:
    mark = directory.path / _MARK
    for entry in directory.path.iterdir():
        if entry.is_dir():
            for inner in entry.iterdir():
                inner.unlink()
            entry.rmdir()
        elif entry != mark:
            entry.unlink()
    # Last, so that clearing can be cut short as well.
    mark.unlink(missing_ok=True)
