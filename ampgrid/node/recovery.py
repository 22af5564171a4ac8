"""Recovery files: gathered from a node directory, written, and made into a new one.

Shares kept for others are not part of it: they are many, and the grid repairs them. The kept
list and the announcements of peers are passed in, since a running node has their databases.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from attrs import field, frozen

from ampgrid.crypto.identity import Identity
from ampgrid.crypto.keyfile import read_secret_file, write_secret_file
from ampgrid.crypto.sealed import DEFAULT_COST, MAGIC, OVERHEAD, Cost, open_sealed, seal
from ampgrid.errors import (
    BadArgumentValueError,
    BadCapError,
    ConfigError,
    FileError,
    FormatError,
    IntegrityError,
)
from ampgrid.formats.announcement import unpack as unpack_announcement
from ampgrid.formats.recovery import (
    MAX_KEY_BYTES,
    MAX_SETTINGS_BYTES,
    PURPOSE,
    KeptFile,
    Recovery,
    is_section_name,
)
from ampgrid.node.aliases import pack_aliases, read_aliases, unpack_aliases
from ampgrid.node.config import parse_config
from ampgrid.node.directory import (
    SECTION_PREFIX,
    NodeDirectory,
    write_whole,
)
from ampgrid.node.newdirectory import OwnSecrets, write_directory
from ampgrid.node.roots import RootFile, parse_root
from ampgrid.node.sections import adopt_sections, adopted_sections
from ampgrid.peers import ADVICE_KEY, GridParameters
from ampgrid.storage.output import output_target
from ampgrid.store.keptdb import FilePut, KeptDatabase
from ampgrid.store.peerdb import PeerDatabase

#: The fewest characters of a passphrase that a recovery file is exported under.
LEAST_PASSPHRASE = 8
#: The largest recovery file, bytes.
MAX_FILE_BYTES = 256 * 1024 * 1024 + OVERHEAD

#: What a file may ask of who opens it: four times what an export does. Memory, KiB, and the
#: product of it and the passes.
MOST_MEMORY_KIB = 4 * DEFAULT_COST.memory_kib
MOST_WORK_KIB = 4 * DEFAULT_COST.memory_kib * DEFAULT_COST.passes

#: Kept files read or written at a time.
_PAGE = 1000
_MAX_SECTION_BYTES = 64 * 1024 * 1024


@frozen
class Known:
    """What is in a node's databases, which only one process can read.

    Attributes:
        announcements: of the peers that it knows, each as it was signed.
        advice: k, happiness and n that its introducers advised last, None if they did not.
        kept: the files that it keeps.
    """

    announcements: tuple[bytes, ...] = field(default=(), repr=False)
    advice: tuple[int, int, int] | None = None
    kept: tuple[KeptFile, ...] = field(default=(), repr=False)


def gather(directory: NodeDirectory, known: Known, now: int) -> Recovery:
    """Return what brings the node in ``directory`` back.

    Args:
        directory: of the node, which may be running.
        known: what is in its databases.
        now: the time, seconds since 1970, before these were read.

    Raises:
        ConfigError: the directory cannot be used as it is.
    """
    config = directory.load_config()
    is_node = config.kind == "node"
    # Reads the key as a node does, with all its checks.
    directory.identity()
    adopt_sections(directory)
    has_own_secret = directory.grid_secret_path.exists()
    try:
        settings = directory.config_path.read_bytes()[: MAX_SETTINGS_BYTES + 1].decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{directory.config_path} could not be read: {error}.") from error
    return Recovery(
        exported_at=now,
        node_key=read_secret_file(directory.key_path, MAX_KEY_BYTES),
        settings=settings,
        grid_secret=directory.grid_secret(config) if has_own_secret else None,
        convergence=directory.convergence_secret() if is_node else None,
        lease_secret=directory.lease_secret() if is_node else None,
        listen_port=directory.listen_port(),
        advice=known.advice,
        announcements=known.announcements,
        kept=known.kept,
        private_root=_cap_text(directory.root_path),
        public_root=_cap_text(directory.public_root_path),
        aliases=pack_aliases(found) if (found := read_aliases(directory.aliases_path)) else None,
        others=_unknown_sections(directory),
    )


def _cap_text(path: Path) -> str | None:
    """Return the text of a root's cap, None if there is none."""
    cap = RootFile(path).read()
    return None if cap is None else cap.to_string()


def _unknown_sections(directory: NodeDirectory) -> dict[str, bytes]:
    """Return the sections that an import did not know and kept."""
    found = {}
    known = adopted_sections(directory)
    for path in sorted(directory.private.glob(SECTION_PREFIX + "*")):
        name = path.name.removeprefix(SECTION_PREFIX)
        if is_section_name(name) and name not in known:
            found[name] = read_secret_file(path, _MAX_SECTION_BYTES)
    return found


def known_at_rest(directory: NodeDirectory) -> Known:
    """Return what is in the databases of a node that does not run; hold its lock.

    Raises:
        ConfigError: a database cannot be opened.
        FormatError: one is none, or damaged.
    """
    announcements, advice = _read_peers(directory)
    return Known(announcements, advice, _read_kept(directory))


def advice_at_rest(directory: NodeDirectory) -> tuple[int, int, int] | None:
    """Return k, happiness and n that the introducers of a node at rest advised last, if any.

    Raises:
        ConfigError: the database cannot be opened.
        FormatError: it is none, or damaged.
    """
    return _read_peers(directory)[1]


def _read_peers(
    directory: NodeDirectory,
) -> tuple[tuple[bytes, ...], tuple[int, int, int] | None]:
    if not directory.peers_path.exists():
        return (), None
    database = PeerDatabase(directory.peers_path)
    try:
        packed_advice = database.get_meta(ADVICE_KEY)
        announcements = tuple(packed for _, _, packed, _, _ in database.load())
    finally:
        database.close()
    if packed_advice is None:
        return announcements, None
    needed, happy, total = GridParameters.unpack(packed_advice)
    return announcements, (needed, happy, total)


def _read_kept(directory: NodeDirectory) -> tuple[KeptFile, ...]:
    if not directory.kept_path.exists():
        return ()
    database = KeptDatabase(directory.kept_path)
    found: list[KeptFile] = []
    try:
        last = 0
        while page := database.page(last, _PAGE):
            last = page[-1].number
            found += [KeptFile(each.cap, each.happy, int(each.put_at)) for each in page]
    finally:
        database.close()
    return tuple(found)


def export_to(path: Path, recovery: Recovery, passphrase: str, cost: Cost = DEFAULT_COST) -> None:
    """Write a recovery file, whole or not at all, readable by its owner alone.

    Args:
        path: where; a file that is there is replaced, nothing else is.
        recovery: what goes in.
        passphrase: at least `LEAST_PASSPHRASE` characters.
        cost: of a guess at it.

    Raises:
        BadArgumentValueError: the passphrase is too short or too long, or the whole too large.
        FileError: it cannot be written.
    """
    # Before the work of sealing.
    target = output_target(path)
    sealed = sealed_export(recovery, passphrase, cost)
    try:
        write_whole(target, sealed)
    except ConfigError as error:
        raise FileError(str(error)) from error


def sealed_export(recovery: Recovery, passphrase: str, cost: Cost = DEFAULT_COST) -> bytes:
    """Return the bytes of a recovery file.

    Raises:
        BadArgumentValueError: the passphrase is too short or too long, or the whole too large.
    """
    if len(passphrase) < LEAST_PASSPHRASE:
        raise BadArgumentValueError(
            f"The passphrase has fewer than {LEAST_PASSPHRASE} characters; it is all that "
            "protects the node's key, so take several words."
        )
    return seal(recovery.pack(), passphrase, PURPOSE, cost=cost)


def read_export(path: Path, passphrase: str) -> Recovery:
    """Read a recovery file.

    Raises:
        FileError: it cannot be read.
        IntegrityError: it does not open: the passphrase is wrong, or the file damaged, or it
            asks for more work than any export.
        FormatError: it holds what this version cannot read.
    """
    try:
        with path.open("rb") as file:
            sealed = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise FileError(f"{path} could not be read: {error.strerror}.") from error
    if not sealed:
        raise FormatError(f"{path} is empty, and no recovery file.")
    passes, memory_kib = _asked_work(sealed)
    if memory_kib > MOST_MEMORY_KIB or passes * memory_kib > MOST_WORK_KIB:
        raise IntegrityError(
            f"{path} asks for {passes} passes over {memory_kib // 1024} MiB of memory, more than "
            "any export does, and was not opened; look where it comes from."
        )
    try:
        return Recovery.unpack(open_sealed(sealed, passphrase, PURPOSE))
    except IntegrityError as error:
        raise IntegrityError(f"{path}: {error}") from None


def _asked_work(sealed: bytes) -> tuple[int, int]:
    """Return the passes and the memory (KiB) that opening would take, 0 of what is none.

    Source: ``docs/specs/recovery.md``, "The sealed file".
    """
    if len(sealed) < OVERHEAD or not sealed.startswith(MAGIC):
        return 0, 0
    return int.from_bytes(sealed[10:14], "big"), int.from_bytes(sealed[14:18], "big")


def restore(path: str | os.PathLike[str], recovery: Recovery) -> NodeDirectory:
    """Make the directory of the node that a recovery file is of.

    Args:
        path: where; missing or empty.
        recovery: the content of the file.

    Raises:
        ConfigError: something is there already, or the disk refused, or the settings are none.
        FormatError: the content contradicts itself.
    """
    config = parse_config(recovery.settings, "the node.toml in the recovery file")
    own_id = Identity.from_pem(recovery.node_key).node_id
    if config.kind == "node" and (recovery.convergence is None or recovery.lease_secret is None):
        raise FormatError("The recovery file is of a node but lacks its secrets.")

    def write_more(directory: NodeDirectory) -> None:
        for name, content in recovery.others.items():
            write_secret_file(directory.private / f"{SECTION_PREFIX}{name}", content)
        _write_roots(directory, recovery)
        _write_peers(directory, recovery, own_id)
        _write_kept(directory, recovery)
        if recovery.listen_port is not None:
            directory.keep_listen_port(recovery.listen_port)
        note_export(directory, recovery.exported_at)

    secrets = OwnSecrets(
        node_key=recovery.node_key,
        grid=recovery.grid_secret,
        convergence=recovery.convergence,
        lease=recovery.lease_secret,
    )
    return write_directory(path, config.kind, recovery.settings, secrets, write_more)


def _write_roots(directory: NodeDirectory, recovery: Recovery) -> None:
    """Let the node know its roots and aliases.

    Raises:
        FormatError: one of them is no cap of a directory.
    """
    try:
        for path, text in (
            (directory.root_path, recovery.private_root),
            (directory.public_root_path, recovery.public_root),
        ):
            if text is not None:
                RootFile(path).write(parse_root(text))
        if recovery.aliases is not None:
            aliases = unpack_aliases(recovery.aliases, "the aliases in the recovery file")
            write_secret_file(directory.aliases_path, pack_aliases(aliases))
    except BadCapError as error:
        raise FormatError(f"A root in the recovery file is none: {error}") from None


def _write_peers(directory: NodeDirectory, recovery: Recovery, own_id: bytes) -> None:
    """Let the node know whom it knew, and what was advised; what does not hold is left out."""
    database = PeerDatabase(directory.peers_path)
    try:
        for packed in recovery.announcements:
            try:
                announcement = unpack_announcement(packed)
            except (FormatError, IntegrityError):
                continue
            if announcement.node_id != own_id:
                seen = float(recovery.exported_at)
                database.put(announcement.node_id, announcement.sequence, packed, seen)
        if recovery.advice is not None:
            database.set_meta(ADVICE_KEY, GridParameters(*recovery.advice).pack())
    finally:
        database.close()


def _write_kept(directory: NodeDirectory, recovery: Recovery) -> None:
    """Let the node keep what it kept; all of it is due, its leases may be about to run out."""
    if not recovery.kept:
        return
    database = KeptDatabase(directory.kept_path)
    due = float(recovery.exported_at)
    try:
        for begin in range(0, len(recovery.kept), _PAGE):
            page = recovery.kept[begin : begin + _PAGE]
            puts = [FilePut(each.cap, each.happy, float(each.added_at), due) for each in page]
            for outcome in database.record_all(puts):
                outcome.get()
    finally:
        database.close()


def note_export(directory: NodeDirectory, moment: float) -> None:
    """Remember when a recovery file was exported, seconds since 1970.

    Raises:
        ConfigError: the disk refused.
    """
    text = json.dumps({"exported_at": moment})
    write_whole(directory.exported_path, text.encode("ascii") + b"\n")
