"""Looks for secrets on disks: in every byte of every file, in each shape that they can have."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ampgrid.caps import ChkCap, DirCap, DirReadCap, parse_cap
from ampgrid.crypto.directory_keys import ReadKeys, WriteKeys

#: Parts of plaintext of so many bytes are looked for.
_PART = 24
_ZEROS = re.compile(rb"\0{1024,}")


class Secrets:
    """What must not be found, {bytes as they would lie there: what that is}."""

    def __init__(self) -> None:
        self.needles: dict[bytes, str] = {}

    def add_text(self, text: str) -> None:
        """Add a name, or a value of metadata."""
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            self.needles[text.encode(encoding)] = f"{text!r} in {encoding}"
        self.add_bytes(text.encode(), repr(text))

    def add_bytes(self, secret: bytes, what: str) -> None:
        """Add a key, or a part of a plaintext: as it is, and in the usual spellings."""
        assert len(secret) >= 8, "so little is found anywhere"
        base32 = base64.b32encode(secret).rstrip(b"=")
        self.needles |= {
            secret: what,
            base32: f"{what} in base32",
            base32.lower(): f"{what} in base32",
            binascii.hexlify(secret): f"{what} in hexadecimal",
            # The first whole groups, whatever follows.
            base64.b64encode(secret[: len(secret) // 3 * 3]): f"{what} in base64",
        }

    def add_plaintext(self, data: bytes, what: str) -> None:
        """Add the beginning, the middle and the end of a file."""
        for start in (0, len(data) // 2, len(data) - _PART):
            self.add_bytes(data[start : start + _PART], f"{what}, from byte {start}")

    def add_cap(self, text: str) -> None:
        """Add a cap that reads or writes, its keys, and all that is made of these."""
        cap = parse_cap(text)
        self.needles[text.encode()] = "a cap"
        if isinstance(cap, DirCap):
            self._add_write_keys(cap.keys)
            self.needles[cap.get_readonly().to_string().encode()] = "a read cap"
        elif isinstance(cap, DirReadCap):
            self._add_read_keys(cap.keys)
        else:
            assert isinstance(cap, ChkCap)
            self.add_bytes(cap.key, "the key of a file")

    def _add_write_keys(self, keys: WriteKeys) -> None:
        self.add_bytes(keys.write_key, "a write key")
        self.add_bytes(keys.write_slot_key, "a write slot key")
        self.add_bytes(keys._signing_key.private_bytes_raw(), "a signing seed")
        self._add_read_keys(keys.read)

    def _add_read_keys(self, keys: ReadKeys) -> None:
        self.add_bytes(keys.read_key, "a read key")
        self.add_bytes(keys.read_slot_key, "a read slot key")
        self.add_bytes(keys.name_key, "a name key")

    def found_in(self, data: bytes) -> Iterator[str]:
        """Yield what is in some bytes."""
        # Nothing that is looked for holds so many zeros; ballast and empty pages are soon done.
        dense = _ZEROS.sub(bytes(1024), data)
        for needle, what in self.needles.items():
            if needle in dense:
                yield f"{what} at byte {data.find(needle)}"


def scan(folder: Path, secrets: Secrets) -> tuple[list[str], int]:
    """Return what is found under a folder, and how many bytes were looked at.

    File names are looked at as well.
    """
    found: list[str] = []
    size = 0
    for path in sorted(folder.rglob("*")):
        where = path.relative_to(folder)
        found += [f"the name of {where}: {what}" for what in secrets.found_in(bytes(where))]
        if path.is_file():
            data = path.read_bytes()
            size += len(data)
            found += [f"{where}: {what}" for what in secrets.found_in(data)]
    return found, size


def dump(tables: Mapping[str, list[tuple[object, ...]]]) -> bytes:
    """Return all values of some tables, one after the other."""
    values = [value for rows in tables.values() for row in rows for value in row]
    return b"\0".join(
        value if isinstance(value, bytes) else str(value).encode() for value in values
    )
