"""The root directories that a node knows: its own, and the grid's public one.

Each has its cap in a file in ``private/``. A root is made once and never again: its key is
drawn and on the disk, under a draft's name, before anything is made of it on the grid; only
when the directory is there is the draft renamed. Killed at any moment, the next start goes on
with the draft if its directory can be found. If not, it was never used, and since no key may be
used for two sets of replicas, another is drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from ampgrid.caps import DirCap, DirReadCap, parse_cap
from ampgrid.crypto.keyfile import read_secret_file, sync_directory, write_secret_file
from ampgrid.errors import BadCapError, ConfigError, IntegrityError
from ampgrid.node.directory import write_whole
from ampgrid.ports import Entropy, Threads

_log = Logger()

T = TypeVar("T")

#: A cap that a root can have.
RootCap: TypeAlias = DirCap | DirReadCap

_MAX_FILE = 4096


def parse_root(text: str) -> RootCap:
    """Read the cap of a root.

    Raises:
        BadCapError: it is no cap of a directory whose names can be read.
    """
    cap = parse_cap(text)
    if not isinstance(cap, DirCap | DirReadCap):
        raise BadCapError("this is no cap of a directory; a root is one")
    return cap


class RootFile:
    """The cap of one root, in its file; every call blocks.

    Args:
        path: of the file.
        mark: a file that tells that the root was made, so that the loss of the other is seen;
            None for a root that can be learnt again from others.
    """

    def __init__(self, path: Path, mark: Path | None = None) -> None:
        self.path = path
        self.draft_path = path.with_name(path.name + ".new")
        self._mark = mark

    def read(self) -> RootCap | None:
        """Return the cap, None if there is none yet.

        Raises:
            ConfigError: it cannot be read, or it was there and is missing now.
        """
        cap = self._read(self.path)
        if cap is not None:
            self._set_mark(cap)
            return cap
        if self._mark is not None and self._mark.exists() and not self._made_of_draft():
            raise ConfigError(
                f"{self.path} is missing, and there was a private root before; bring the file "
                f"back from a recovery file. If it is lost for good, remove {self._mark} to "
                "begin with an empty root."
            )
        return None

    def _made_of_draft(self) -> bool:
        """Tell whether the mark is that of the draft, which a kill kept from being renamed."""
        draft = self._read(self.draft_path)
        assert self._mark is not None
        with contextlib.suppress(OSError):
            return draft is not None and self._mark.read_bytes() == _mark_of(draft)
        return False

    def _read(self, path: Path) -> RootCap | None:
        if not path.exists() and not path.is_symlink():
            return None
        text = read_secret_file(path, _MAX_FILE).decode("utf-8", "replace")
        try:
            return parse_root(text)
        except BadCapError:
            raise ConfigError(
                f"{path} holds no cap of a directory; bring it back from a recovery file."
            ) from None

    def _set_mark(self, cap: RootCap) -> None:
        if self._mark is not None and not self._mark.exists():
            write_whole(self._mark, _mark_of(cap))

    def draft(self) -> DirCap | None:
        """Return the cap of a root that was about to be made.

        Raises:
            ConfigError: what is there is no draft.
        """
        cap = self._read(self.draft_path)
        if cap is not None and not isinstance(cap, DirCap):
            raise ConfigError(f"{self.draft_path} holds no write cap; remove it.")
        return cap

    def write_draft(self, cap: DirCap) -> None:
        """Put the cap of a root to be made on the disk, in the place of an earlier draft.

        Raises:
            ConfigError: the disk refused.
        """
        write_whole(self.draft_path, _line(cap))

    def finish(self, cap: DirCap) -> None:
        """Let the draft be the root: its directory is there.

        Raises:
            ConfigError: the disk refused.
        """
        self._set_mark(cap)
        try:
            # A node has its directory to itself, so nobody can have put another one there.
            self.draft_path.rename(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            raise ConfigError(f"{self.path} could not be written: {error.strerror}.") from error

    def write(self, cap: RootCap) -> None:
        """Take a cap that another has made; there must be none yet.

        Raises:
            ConfigError: there is one, or the disk refused.
        """
        write_secret_file(self.path, _line(cap))
        self._set_mark(cap)


def _line(cap: RootCap) -> bytes:
    return cap.to_string().encode("ascii") + b"\n"


def _mark_of(cap: RootCap) -> bytes:
    verify = cap.get_verify_cap()
    return verify.to_string().encode("ascii") + b"\n"


class Root:
    """One root of a running node.

    Args:
        file: where its cap is kept; None to keep it in memory alone.
        threads: where the file is read and written.
        entropy: for its key.

    Attributes:
        cap: what is known of it, None for nothing.
        error: why its file cannot be used; empty if it can.
    """

    def __init__(self, file: RootFile | None, threads: Threads, entropy: Entropy) -> None:
        self.cap: RootCap | None = None
        self.error = ""
        self._file = file
        self._threads = threads
        self._entropy = entropy
        self._turn = DeferredLock()
        #: Without a file: what was about to be made.
        self._drafted: DirCap | None = None

    async def start(self) -> None:
        """Read the file. One that cannot be used is told of when the root is asked for."""
        if self._file is None:
            return
        try:
            self.cap = await self._threads.run(self._file.read)
        except ConfigError as error:
            self.error = str(error)
            _log.error("{error}", error=self.error)

    def check(self) -> None:
        """Refuse to go on with a file that cannot be used.

        Raises:
            ConfigError: it cannot.
        """
        if self.error:
            raise ConfigError(self.error)

    async def made(
        self,
        create: Callable[[DirCap], Awaitable[Any]],
        exists: Callable[[DirCap], Awaitable[bool]],
    ) -> RootCap:
        """Return the cap, of a root that is made now if there is none.

        Args:
            create: makes an empty directory of this cap on the grid; called once for each cap.
            exists: tells whether a directory that was about to be made can be found.

        Raises:
            ConfigError: the file cannot be used.
            GridError: the directory could not be made; the next call tries again.
        """

        async def make() -> RootCap:
            if self.cap is not None:
                return self.cap
            self.check()
            cap = await self._draft()
            if cap is None or not await exists(cap):
                cap = DirCap.create(self._entropy)
                await self._write_draft(cap)
                await create(cap)
            if self._file is not None:
                await self._threads.run(self._file.finish, cap)
            self.cap = cap
            return cap

        return self.cap if self.cap is not None else await self._turn.run(make)

    async def _draft(self) -> DirCap | None:
        if self._file is None:
            return self._drafted
        return await self._threads.run(self._file.draft)

    async def _write_draft(self, cap: DirCap) -> None:
        self._drafted = cap
        if self._file is not None:
            await self._threads.run(self._file.write_draft, cap)

    async def take(self, cap: RootCap) -> bool:
        """Take a root that another has made; tell if it is a new one.

        Raises:
            ConfigError: the file cannot be used.
            IntegrityError: another root is known already, and it stays.
        """

        async def take() -> bool:
            if self.cap is None:
                self.check()
                if self._file is not None:
                    await self._threads.run(self._file.write, cap)
                self.cap = cap
                return True
            if self.cap != cap:
                raise IntegrityError("another root than the known one was told; it is refused")
            return False

        return await self._turn.run(take)
