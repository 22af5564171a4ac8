"""What may be in no log, temporary directory or process list, and how it is found there.

What is looked for is known by its shape (caps that read or write, private keys, the plaintext of
tests, which has `MARK` in it), or by its bytes (what the nodes of a test keep in ``private/``).
What is found is told by its kind and its place, never by itself.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import define, field, frozen

from ampgrid.crypto.base32 import a2b
from ampgrid.crypto.identity import Identity
from ampgrid.errors import AmpgridError, ConfigError
from tests.diskscan import Secrets

#: What tests store has this in it. No program or page of the project says these words.
MARK = b"plaintext-that-nobody-may-find."

#: The secrets that tests give to whole grids in memory, and to their gateways.
KNOWN = {b"c" * 32: "a convergence secret", b"t" * 32: "a token"}

#: Files of a node directory that hold the grid's secret, in the introducer's address.
_SETTINGS = {"node.toml", "ready.json"}
#: Files so large hold shares or tables: only what is known by its shape is looked for in them.
_SMALL = 256 * 1024

# Base32 in lower case; colons as they are, or as in an address of HTTP. A literal cap holds a
# file: a short one is in help texts, and shows no more than its file would.
_CAP = re.compile(
    rb"URI(:|%3A)"
    rb"(?:(?:CHK|DIR|DIR-RO)\1[a-z2-7]{26}\1[a-z2-7]{52}|LIT\1[a-z2-7]{40})",
)
_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:\s|\\[rn])+[A-Za-z0-9+/]{16}")


def marked(data: bytes) -> bytes:
    """Return bytes with `MARK` at the start of every 4 KiB where it has room."""
    written = bytearray(data)
    for start in range(0, len(data) - len(MARK) + 1, 4096):
        written[start : start + len(MARK)] = MARK
    return bytes(written)


@frozen
class Finding:
    """What was found.

    Attributes:
        kind: what it is.
        place: where: a file, a process, the output of a test.
    """

    kind: str
    place: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.place}"


@define
class Needles:
    """What is looked for by its bytes, beside what is known by its shape.

    Attributes:
        secrets: in every usual spelling.
    """

    secrets: Secrets = field(factory=Secrets)

    @classmethod
    def known(cls) -> Needles:
        """Return those that tests give to whole grids."""
        needles = cls()
        for secret, what in KNOWN.items():
            needles.secrets.add_bytes(secret, what)
        return needles

    def add_node(self, folder: Path) -> None:
        """Add what a node keeps in ``private/``."""
        for path in sorted((folder / "private").glob("*")):
            # A node that is ending, or another run of it, may remove something.
            with suppress(FileNotFoundError):
                if path.is_file() and path.suffix != ".sqlite":
                    self._add_private(path.name, path.read_bytes())

    def _add_private(self, name: str, data: bytes) -> None:
        if name == "node.pem":
            # Some tests write what is no key.
            with suppress(ConfigError):
                seed = Identity.from_pem(data).private_key.private_bytes_raw()
                self.secrets.add_bytes(seed, "a node's key")
            return
        for found in _CAP.finditer(data):
            self._add_cap(data[found.start() :].split()[0].decode("ascii", "replace"))
        text = data.strip()
        if re.fullmatch(rb"[a-z2-7]{26}|[a-z2-7]{52}", text):
            self.secrets.add_bytes(a2b(text.decode()), f"what {name} holds")
        elif name == "webpassword" and len(text.partition(b":")[2]) >= 8:
            self.secrets.add_bytes(text.partition(b":")[2], "a password")

    def _add_cap(self, text: str) -> None:
        with suppress(AmpgridError):
            self.secrets.add_cap(text)

    def kinds_in(self, data: bytes | mmap.mmap, *, small: bool = True) -> list[str]:
        """Return the kinds of what is in some bytes.

        Args:
            data: the bytes.
            small: whether to look for what is known by its bytes, too.
        """
        found = shapes_in(data)
        if small:
            raw = bytes(data)
            found |= {what for needle, what in self.secrets.needles.items() if needle in raw}
        return sorted(found)


def shapes_in(data: bytes | mmap.mmap) -> set[str]:
    """Return the kinds of what is in some bytes and is known by its shape."""
    found = set()
    if _CAP.search(data):
        found.add("a cap")
    if _KEY.search(data):
        found.add("a private key")
    if data.find(MARK) >= 0:
        found.add("plaintext")
    return found


def is_node(folder: Path) -> bool:
    """Tell whether a directory is a node's."""
    return (folder / "private").is_dir()


def is_log(path: Path) -> bool:
    """Tell whether a file is a log, by its name (``node.log``, ``x.log.1``)."""
    return ".log" in path.suffixes


def search_file(path: Path, place: str, needles: Needles) -> Iterator[Finding]:
    """Look into a file, whatever its size."""
    # What a process that is ending removes by itself, or nobody may read, is no finding.
    with suppress(FileNotFoundError, PermissionError), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for kind in needles.kinds_in(data, small=size <= _SMALL or is_log(path)):
                yield Finding(kind, place)


def everything_below(root: Path) -> Iterator[Path]:
    """Yield all that is in a directory, passing over what goes away meanwhile."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            yield Path(folder, name)


def search_tree(root: Path, known: Needles) -> list[Finding]:
    """Look into a directory of a test, before it is removed.

    Looked at are the logs, wherever they lie, and all that nodes leave on their disks but
    ``private/``. What else is there is the test's own, which may hold what it stores.

    Args:
        root: the directory.
        known: what is looked for beside what the nodes in it keep in ``private/``.
    """
    below = list(everything_below(root))
    paths = sorted(path for path in below if path.is_file() and not path.is_symlink())
    nodes = sorted({path for path in [root, *below] if is_node(path)})
    needles = Needles(Secrets())
    needles.secrets.needles |= known.secrets.needles
    for node in nodes:
        needles.add_node(node)
    return [
        finding
        for path in paths
        if is_log(path) or _is_of_a_node(path, nodes)
        for finding in search_file(path, f"{root.name}/{path.relative_to(root)}", needles)
    ]


def _is_of_a_node(path: Path, nodes: Sequence[Path]) -> bool:
    if path.name in _SETTINGS:
        return False
    return any(node in path.parents and node / "private" not in path.parents for node in nodes)
