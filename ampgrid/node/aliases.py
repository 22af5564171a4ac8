"""Aliases: names that a node has for directories, so that ``friends:list`` is a path.

They are in ``private/aliases``, one line each, ``NAME: CAP``. The file is written anew, whole,
at each change, after it was read again: a line put in by hand is not lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from ampgrid.crypto.keyfile import read_secret_file
from ampgrid.errors import (
    BadArgumentValueError,
    BadCapError,
    BadNameError,
    ChildExistsError,
    ConfigError,
    NoRootError,
)
from ampgrid.node.directory import write_whole
from ampgrid.node.roots import RootCap, parse_root
from ampgrid.ports import Threads
from ampgrid.vdrive.paths import checked_alias

_log = Logger()

T = TypeVar("T")

#: The most aliases of a node, and the largest file of them, bytes.
MOST_ALIASES = 10_000
MAX_FILE_BYTES = 4 * 1024 * 1024


def unpack_aliases(data: bytes, name: str) -> dict[str, RootCap]:
    """Read the text of a file of aliases.

    Args:
        data: its content.
        name: how messages call it.

    Raises:
        ConfigError: a line is none; the message has its number.
    """
    found, error = _sound_lines(data, name)
    if error:
        raise ConfigError(error)
    return found


def _sound_lines(data: bytes, name: str) -> tuple[dict[str, RootCap], str]:
    """Return the aliases of the lines that are sound, and what the first other one is."""
    found: dict[str, RootCap] = {}
    first = ""
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        alias, _, cap = text.partition(":")
        try:
            checked_alias(alias)
            if alias in found:
                raise BadNameError("the name stands there twice")
            found[alias] = parse_root(cap)
        except (BadNameError, BadCapError) as error:
            first = first or f"{name}, line {number}: {error}."
    return found, first


def pack_aliases(aliases: Mapping[str, RootCap]) -> bytes:
    """Return the text of a file of aliases, in the order of their names."""
    lines = [f"{name}: {cap.to_string()}\n" for name, cap in sorted(aliases.items())]
    return "".join(lines).encode("ascii")


def read_aliases(path: Path) -> dict[str, RootCap]:
    """Read a file of aliases, which may be missing (blocking).

    Raises:
        ConfigError: it cannot be used.
    """
    if not path.exists() and not path.is_symlink():
        return {}
    return unpack_aliases(read_secret_file(path, MAX_FILE_BYTES), str(path))


def _read_sound(path: Path) -> dict[str, RootCap]:
    """Return what can be read of a damaged file of aliases (blocking)."""
    try:
        return _sound_lines(read_secret_file(path, MAX_FILE_BYTES), str(path))[0]
    except ConfigError:
        return {}


class Aliases:
    """The aliases of a running node.

    Args:
        path: of their file; None to keep them in memory alone.
        threads: where the file is read and written.

    Attributes:
        error: why the file cannot be used; empty if it can.
    """

    def __init__(self, path: Path | None, threads: Threads) -> None:
        self.error = ""
        self._path = path
        self._threads = threads
        self._turn = DeferredLock()
        self._caps: dict[str, RootCap] = {}
        #: Of a file that cannot be used, what can be read of it.
        self._sound: dict[str, RootCap] = {}

    async def start(self) -> None:
        """Read the file. One that cannot be used is told of when an alias is asked for."""
        try:
            await self._read()
        except ConfigError as error:
            self.error = str(error)
            _log.error("{error}", error=self.error)
            assert self._path is not None
            self._sound = await self._threads.run(_read_sound, self._path)

    async def _read(self) -> None:
        if self._path is not None:
            self._caps = await self._threads.run(read_aliases, self._path)
            self.error = ""

    def get(self, name: str) -> RootCap | None:
        """Return the cap of an alias, None if there is none.

        Raises:
            ConfigError: the file cannot be used.
        """
        self.check()
        return self._caps.get(name)

    def check(self) -> None:
        """Refuse to go on with a file that cannot be used.

        Raises:
            ConfigError: it cannot.
        """
        if self.error:
            raise ConfigError(self.error)

    def all(self) -> list[tuple[str, RootCap]]:
        """Return (name, cap) of all, in the order of their names (see `get`)."""
        self.check()
        return sorted(self._caps.items())

    def sound(self) -> list[tuple[str, RootCap]]:
        """Return (name, cap) of all that can be read, even if the file cannot be used.

        What is kept alive is not to end because a line of the file is damaged.
        """
        return sorted((self._sound if self.error else self._caps).items())

    def __len__(self) -> int:
        return len(self._caps)

    async def add(self, name: str, cap: RootCap) -> None:
        """Add an alias; it is on the disk when this returns.

        Raises:
            BadNameError: no alias can have this name.
            ChildExistsError: it stands for another directory.
            BadArgumentValueError: there are too many.
            ConfigError: the file cannot be used.
        """
        checked_alias(name)

        async def add() -> None:
            await self._read()
            known = self._caps.get(name)
            if known == cap:
                return
            if known is not None:
                raise ChildExistsError(
                    f"the alias {name} stands for another directory; remove it first"
                )
            if len(self._caps) >= MOST_ALIASES:
                raise BadArgumentValueError(f"there are {MOST_ALIASES} aliases already")
            await self._write({**self._caps, name: cap})

        await self._turn.run(add)

    async def remove(self, name: str) -> RootCap:
        """Forget an alias; returns the cap that it stood for.

        Raises:
            NoRootError: there is none of this name.
            ConfigError: the file cannot be used.
        """

        async def remove() -> RootCap:
            await self._read()
            if name not in self._caps:
                raise NoRootError(f"there is no alias {name}")
            left = dict(self._caps)
            cap = left.pop(name)
            await self._write(left)
            return cap

        return await self._turn.run(remove)

    async def _write(self, caps: dict[str, RootCap]) -> None:
        if self._path is not None:
            await self._threads.run(write_whole, self._path, pack_aliases(caps))
        self._caps = caps
