"""A node directory: what lies where, and how it is read.

::

    DIR/                0700
      node.toml         the settings (`ampgrid.node.config`); written last, so that a directory
                        without it is unfinished
      private/          0700, each file 0600
        node.pem        the node's Ed25519 key: its identity
        grid-secret     the grid's secret, 16 bytes in base32
        convergence     convergence secret, 32 bytes in base32 (as Tahoe-LAFS keeps it)
        lease-secret    root of the lease secrets, 32 bytes in base32
        root.cap        the write cap of the node's private root, made at its first use
        root.cap.new    the same while the root is being made
        public-root.cap the cap of the grid's public root
        aliases         names of other directories, NAME: CAP in each line
        backup.sqlite   what 'ampgrid backup' has uploaded, with its caps
        web-token       what a browser needs to change anything, 32 bytes in base32
        open-web.html   what 'ampgrid web' gives a browser to open
        section-NAME    what a recovery file of a later version held beyond what is known here
      storage/          the shares kept for others, their database, and the file
                        this-is-the-store, which an empty mount point lacks
        directories.sqlite  the directories kept for others
        blobs/          the blobs kept for others
      storage-opened    says that the store was opened here before
      spool/            uploads from a stream, enciphered, while they are under way
      peers.sqlite      the announcements of the peers it has met
      kept.sqlite       the files that it keeps
      remembered.sqlite the last version seen of each directory
      root-made         says that there is a private root, by its verify cap
      listen-port       the port picked at the first run, when node.toml says port 0
      recovery-exported when the last recovery file was exported
      webport           where the web gateway listens, outranking node.toml, if you write it
      webpassword       NAME:PASSWORD that the web gateway asks for, if you write it
      webport_allow_localfile  lets the web gateway read and write files, if you make it
      node.url          where the web gateway is, while it runs
      node.pid          locked while a node runs here
      ampgrid.sock      the control socket
      node.log          the output of a node that 'ampgrid grid' runs
"""

from __future__ import annotations

import os
import shlex
import stat
import tempfile
from pathlib import Path

from attrs import frozen

from ampgrid.crypto.base32 import a2b, b2a
from ampgrid.crypto.identity import Identity
from ampgrid.crypto.keyfile import read_secret_file, sync_directory, write_secret_file
from ampgrid.errors import BadArgumentValueError, ConfigError, FormatError
from ampgrid.node.config import NodeConfig, common_secret, load_config, parse_web_port
from ampgrid.node.lock import DirectoryLock
from ampgrid.ports import Entropy

#: Lengths of the secrets, bytes.
GRID_SECRET_BYTES = 16
OWN_SECRET_BYTES = 32

#: How the files in ``private/`` begin that hold unknown sections of a recovery file.
SECTION_PREFIX = "section-"

_MAX_SECRET_FILE = 4096


@frozen
class NodeDirectory:
    """The paths of one node directory and the small files in it.

    Attributes:
        path: the directory, absolute.
    """

    path: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> NodeDirectory:
        """Return the node directory at ``path``, which need not exist."""
        return cls(Path(os.path.abspath(Path(path).expanduser())))  # noqa: PTH100 - no symlinks

    @property
    def config_path(self) -> Path:
        """``node.toml``."""
        return self.path / "node.toml"

    @property
    def private(self) -> Path:
        """The directory of the secrets."""
        return self.path / "private"

    @property
    def key_path(self) -> Path:
        """The node's key, PEM."""
        return self.private / "node.pem"

    @property
    def grid_secret_path(self) -> Path:
        """The grid's secret."""
        return self.private / "grid-secret"

    @property
    def convergence_path(self) -> Path:
        """The convergence secret."""
        return self.private / "convergence"

    @property
    def lease_secret_path(self) -> Path:
        """The root of the lease secrets."""
        return self.private / "lease-secret"

    @property
    def root_path(self) -> Path:
        """The cap of the private root."""
        return self.private / "root.cap"

    @property
    def public_root_path(self) -> Path:
        """The cap of the grid's public root."""
        return self.private / "public-root.cap"

    @property
    def aliases_path(self) -> Path:
        """The aliases."""
        return self.private / "aliases"

    @property
    def backup_path(self) -> Path:
        """The database of backups."""
        return self.private / "backup.sqlite"

    @property
    def root_mark_path(self) -> Path:
        """Says that there is a private root."""
        return self.path / "root-made"

    @property
    def remembered_path(self) -> Path:
        """The database of the last version seen of each directory."""
        return self.path / "remembered.sqlite"

    @property
    def storage(self) -> Path:
        """Where the store of shares is."""
        return self.path / "storage"

    @property
    def directories_path(self) -> Path:
        """The database of the directories that it keeps for others."""
        return self.storage / "directories.sqlite"

    @property
    def blobs_path(self) -> Path:
        """The blobs that it keeps for others."""
        return self.storage / "blobs"

    @property
    def store_mark_path(self) -> Path:
        """What tells the store from the empty directory that a missing disk leaves."""
        return self.storage / "this-is-the-store"

    @property
    def opened_path(self) -> Path:
        """Says that the store was opened before."""
        return self.path / "storage-opened"

    @property
    def spool(self) -> Path:
        """Where uploads from a stream wait, enciphered."""
        return self.path / "spool"

    @property
    def peers_path(self) -> Path:
        """The database of known peers."""
        return self.path / "peers.sqlite"

    @property
    def kept_path(self) -> Path:
        """The database of kept files."""
        return self.path / "kept.sqlite"

    @property
    def listen_port_path(self) -> Path:
        """The port that was picked at the first run."""
        return self.path / "listen-port"

    @property
    def exported_path(self) -> Path:
        """When the last recovery file was exported."""
        return self.path / "recovery-exported"

    @property
    def pid_path(self) -> Path:
        """The locked pid file."""
        return self.path / "node.pid"

    @property
    def socket_path(self) -> Path:
        """The control socket."""
        return self.path / "ampgrid.sock"

    @property
    def web_token_path(self) -> Path:
        """What a browser needs to change anything."""
        return self.private / "web-token"

    @property
    def open_web_path(self) -> Path:
        """What ``ampgrid web`` gives a browser to open."""
        return self.private / "open-web.html"

    @property
    def web_port_path(self) -> Path:
        """Where the web gateway listens, outranking ``node.toml``."""
        return self.path / "webport"

    @property
    def web_password_path(self) -> Path:
        """What the web gateway asks for."""
        return self.path / "webpassword"

    @property
    def allow_localfile_path(self) -> Path:
        """Lets the web gateway read and write files of this machine."""
        return self.path / "webport_allow_localfile"

    @property
    def node_url_path(self) -> Path:
        """Where the web gateway is, while it runs."""
        return self.path / "node.url"

    @property
    def log_path(self) -> Path:
        """Where a local grid sends the output of the node."""
        return self.path / "node.log"

    def require(self) -> None:
        """Check that a complete node directory is there.

        Raises:
            ConfigError: there is none; the message says how to make one.
        """
        try:
            self.path.lstat()
            self.config_path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise ConfigError(f"{self.path} could not be read: {error.strerror}.") from error
        if self.config_path.exists():
            return
        if not self.path.is_dir():
            raise ConfigError(
                f"There is no node directory {self.path}; make one with ampgrid create-node, "
                "or name another with -d."
            )
        if self.private.exists():
            raise ConfigError(
                f"{self.path} is unfinished or has lost its node.toml; "
                "if it never ran, make it again with ampgrid create-node."
            )
        raise ConfigError(f"{self.path} is no node directory: there is no node.toml in it.")

    def load_config(self) -> NodeConfig:
        """Read ``node.toml``.

        Raises:
            ConfigError: no node directory, or the file cannot be used as it is.
        """
        self.require()
        return load_config(self.config_path)

    def make_rooms(self) -> None:
        """Make ``storage/`` and ``spool/`` where they are missing.

        Raises:
            ConfigError: the disk refused.
        """
        for room in (self.storage, self.spool):
            try:
                room.mkdir(mode=0o700, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"{room} could not be made: {error.strerror}.") from error

    def require_store(self) -> None:
        """Check that the store is still there, if it ever was.

        Without this a disk that is not mounted would be an empty store, to which peers give
        again what it holds already.

        Raises:
            ConfigError: it was opened before, and is gone now.
        """
        try:
            if not self.opened_path.exists() or self.store_mark_path.exists():
                return
        except OSError as error:
            raise ConfigError(f"{error.filename} could not be read: {error.strerror}.") from error
        storage = shlex.quote(str(self.storage))
        mark = shlex.quote(str(self.store_mark_path))
        raise ConfigError(
            f"{self.storage}: the store is missing, and shares were here before; mount it, or, "
            f"if they are lost, run: mkdir -p {storage} && touch {mark}"
        )

    def remember_store(self) -> None:
        """Note that the store was opened, durably.

        Raises:
            ConfigError: the disk refused, as a full one may; the next start tries again.
        """
        # The mark first: without it the note would say that the store is missing.
        for path in (self.store_mark_path, self.opened_path):
            if not path.exists():
                write_whole(path, b"")

    def lock(self) -> DirectoryLock:
        """Take the right to run a node here.

        Raises:
            ConfigError: no node directory, or a node runs here already.
        """
        self.require()
        return DirectoryLock(self.pid_path)

    def is_running(self) -> bool:
        """Tell whether a node runs here.

        Raises:
            ConfigError: no node directory.
        """
        self.require()
        try:
            DirectoryLock(self.pid_path).release()
        except ConfigError:
            return True
        return False

    def identity(self) -> Identity:
        """Read the node's key.

        Raises:
            ConfigError: it is missing, open to others, or no key.
        """
        self._check_private()
        pem = read_secret_file(self.key_path, _MAX_SECRET_FILE)
        try:
            return Identity.from_pem(pem)
        except ConfigError as error:
            raise ConfigError(f"{self.key_path}: {error}") from None

    def grid_secret(self, config: NodeConfig) -> bytes | None:
        """Return the grid's secret: the file's, or that in an introducer's address.

        Returns:
            16 bytes, or None for an open grid without one.

        Raises:
            ConfigError: there is none though the grid is closed, or the two contradict.
        """
        try:
            spoken = common_secret(config.introducers)
        except BadArgumentValueError as error:
            raise ConfigError(f"{self.config_path}: {error}") from None
        self._check_private()
        if not self.grid_secret_path.exists():
            if spoken is None and not config.is_open:
                raise ConfigError(
                    f"{self.grid_secret_path} is missing; copy it from another member of the "
                    "grid, or give the introducer's whole address, with its secret, in node.toml."
                )
            return spoken
        kept = self._read_secret(self.grid_secret_path, GRID_SECRET_BYTES)
        if spoken is not None and spoken != kept:
            raise ConfigError(
                f"{self.grid_secret_path} and the introducer's address in node.toml hold "
                "different secrets; take one of them away."
            )
        return kept

    def convergence_secret(self) -> bytes:
        """Return the convergence secret, 32 bytes.

        Raises:
            ConfigError: it is missing, open to others, or malformed.
        """
        return self._read_secret(self.convergence_path, OWN_SECRET_BYTES)

    def lease_secret(self) -> bytes:
        """Return the root of the lease secrets, 32 bytes.

        Raises:
            ConfigError: it is missing, open to others, or malformed.
        """
        return self._read_secret(self.lease_secret_path, OWN_SECRET_BYTES)

    def listen_port(self) -> int | None:
        """Return the port that was picked at the first run, None before it.

        Raises:
            ConfigError: the file holds no port.
        """
        try:
            text = self.listen_port_path.read_text("ascii", "replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(
                f"{self.listen_port_path} could not be read: {error.strerror}."
            ) from error
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 65_535):
            raise ConfigError(f"{self.listen_port_path} holds no port; remove it to pick one.")
        return int(text)

    def keep_listen_port(self, port: int) -> None:
        """Remember the port that was picked, durably.

        Raises:
            ConfigError: the disk refused.
        """
        write_whole(self.listen_port_path, b"%d\n" % port)

    def web_token(self, entropy: Entropy) -> bytes:
        """Return what a browser needs to change anything, 32 bytes; made if it is missing.

        Raises:
            ConfigError: it is open to others, malformed, or cannot be made.
        """
        self._check_private()
        if not self.web_token_path.exists():
            write_secret_file(self.web_token_path, b2a(entropy(OWN_SECRET_BYTES)).encode() + b"\n")
        return self._read_secret(self.web_token_path, OWN_SECRET_BYTES)

    def node_url(self) -> str | None:
        """Return where the web gateway is, None if it does not run.

        Raises:
            ConfigError: the file could not be read.
        """
        try:
            text = self.node_url_path.read_text("ascii", "replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(
                f"{self.node_url_path} could not be read: {error.strerror}."
            ) from error
        return text or None

    def web_port(self) -> str | None:
        """Return what the file ``webport`` says, None if there is none.

        Raises:
            ConfigError: it cannot be read, or says something else.
        """
        try:
            text = self.web_port_path.read_text("ascii", "replace")[:1_000]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(
                f"{self.web_port_path} could not be read: {error.strerror}."
            ) from error
        try:
            return parse_web_port(text)
        except BadArgumentValueError as error:
            raise ConfigError(f"{self.web_port_path}: {error}") from None

    def _check_private(self) -> None:
        try:
            status = self.private.lstat()
        except OSError as error:
            raise ConfigError(f"{self.private} could not be read: {error.strerror}.") from error
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"{self.private} is no directory.")
        if status.st_mode & 0o077:
            raise ConfigError(
                f"{self.private} is open to other users; run: chmod 700 {self.private}"
            )
        if not os.access(self.private, os.R_OK | os.X_OK):
            raise ConfigError(
                f"{self.private} could not be read: Permission denied; "
                f"run: chmod 700 {self.private}"
            )

    def _read_secret(self, path: Path, length: int) -> bytes:
        self._check_private()
        data = read_secret_file(path, _MAX_SECRET_FILE)
        try:
            return a2b(data.decode("ascii", "replace").strip(), length)
        except FormatError:
            raise ConfigError(
                f"{path} does not hold {length} bytes in lower-case base32."
            ) from None


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put ``data`` at ``path``, whole or not at all, and on the disk when this returns.

    Raises:
        ConfigError: the disk refused.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - it is a descriptor
                os.fchmod(descriptor, mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(f"{path} could not be written: {error.strerror}.") from error
