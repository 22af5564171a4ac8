"""What brings a lost node back: its key, its secrets, its settings, whom it knew, what it keeps.

Layout, integers big-endian::

    8   magic "AMPRECO1"
        sections, each of them once and in any order:
            1   length of its name, then the name: a-z, 0-9 and "-"
            8   length of its content, then the content

A section whose name is not known here was written by a later version (indexes of blobs get
theirs): it is kept as it is and told of, and it goes into the next export.
The whole is written to a file only sealed (`ampgrid.crypto.sealed`).

Source: `docs/specs/recovery.md`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping

from attrs import field, frozen

from ampgrid.caps import ChkVerifierCap
from ampgrid.crypto.sealed import MAX_SEALED_BYTES
from ampgrid.errors import BadArgumentValueError, BadCapError, FormatError
from ampgrid.formats.announcement import MAX_ANNOUNCEMENT_BYTES

#: What is sealed, for `ampgrid.crypto.sealed`.
PURPOSE = b"recovery"

#: Bounds of what the sections hold; sizes in bytes.
MAX_SECTIONS = 64
MAX_KEY_BYTES = 4096
MAX_SETTINGS_BYTES = 256 * 1024
MAX_ANNOUNCEMENTS = 10_000
MAX_CAP_BYTES = 300
MAX_ALIASES_BYTES = 4 * 1024 * 1024

_MAGIC = b"AMPRECO1"
_NAME = re.compile(rb"[a-z][a-z0-9-]{0,31}")
_LENGTH = struct.Struct(">Q")
_SHORT = struct.Struct(">H")
_ADVICE = struct.Struct(">HHH")
_KEPT = struct.Struct(">16s32sHHHQQ")

_GRID_SECRET_SIZE = 16
_OWN_SECRET_SIZE = 32


@frozen
class KeptFile:
    """A file that the node keeps: whose leases it renews, and which it repairs.

    Attributes:
        cap: its verify cap.
        happy: servers of happiness to which it is repaired, 1 to n.
        added_at: when it was put, seconds since 1970.
    """

    cap: ChkVerifierCap
    happy: int
    added_at: int


@frozen
class Recovery:
    """All that a node needs to be the same node again.

    Attributes:
        exported_at: when this was gathered, seconds since 1970.
        node_key: the node's private key, PEM.
        settings: the text of its ``node.toml``.
        grid_secret: the grid's secret, 16 bytes; None for an open grid, or one whose secret
            stands in the settings.
        convergence: its convergence secret, 32 bytes; None for an introducer.
        lease_secret: the root of its lease secrets, 32 bytes; None for an introducer.
        listen_port: the port that its first run picked, None if there was none.
        advice: k, happiness and n that the introducers advised last, None if they did not.
        announcements: of the peers that it knew, each as it was signed.
        kept: the files that it keeps.
        private_root: the text of the write cap of its private root, None if it had none yet.
        public_root: the text of the cap of the grid's public root, None if it knew none.
        aliases: the text of its file of aliases, None if it had none.
        others: sections of later versions, by name.
    """

    exported_at: int
    node_key: bytes = field(repr=False)
    settings: str
    grid_secret: bytes | None = field(default=None, repr=False)
    convergence: bytes | None = field(default=None, repr=False)
    lease_secret: bytes | None = field(default=None, repr=False)
    listen_port: int | None = None
    advice: tuple[int, int, int] | None = None
    announcements: tuple[bytes, ...] = field(default=(), repr=False)
    kept: tuple[KeptFile, ...] = field(default=(), repr=False)
    private_root: str | None = field(default=None, repr=False)
    public_root: str | None = field(default=None, repr=False)
    aliases: bytes | None = field(default=None, repr=False)
    others: Mapping[str, bytes] = field(factory=dict, repr=False)

    def pack(self) -> bytes:
        """Spell it.

        Raises:
            BadArgumentValueError: something is out of bounds, or all together are too long.
        """
        sections: dict[str, bytes | None] = {
            "exported-at": _LENGTH.pack(self.exported_at),
            "node-key": self.node_key,
            "settings": self.settings.encode("utf-8"),
            "grid-secret": self.grid_secret,
            "convergence": self.convergence,
            "lease-secret": self.lease_secret,
            "listen-port": None if self.listen_port is None else _SHORT.pack(self.listen_port),
            "advice": None if self.advice is None else _pack_advice(self.advice),
            "announcements": _pack_announcements(self.announcements),
            "kept-files": _pack_kept(self.kept),
            "private-root": _pack_text(self.private_root),
            "public-root": _pack_text(self.public_root),
            "aliases": self.aliases,
        }
        if not sections.keys().isdisjoint(self.others):
            raise BadArgumentValueError("A section of a later version has a known name.")
        sections.update(self.others)
        packed = b"".join(
            [_MAGIC, *(_pack_section(n, c) for n, c in sections.items() if c is not None)]
        )
        # What could not be read back is never written.
        try:
            if Recovery.unpack(packed) != self:
                raise BadArgumentValueError("The recovery file would not read back as it is.")
        except FormatError as error:
            raise BadArgumentValueError(f"The recovery file cannot be made: {error}") from error
        return packed

    @classmethod
    def unpack(cls, data: bytes) -> Recovery:
        """Read what `pack` wrote, or a later version of it.

        Raises:
            FormatError: it is malformed, out of bounds, or lacks what no node can do without.
        """
        if len(data) > MAX_SEALED_BYTES:
            raise FormatError("The recovery file is too large.")
        sections = _sections_of(data)
        try:
            settings = _taken(sections, "settings", 1, MAX_SETTINGS_BYTES).decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError("The settings in the recovery file are no UTF-8.") from None
        (exported_at,) = _LENGTH.unpack(_taken(sections, "exported-at", 8, 8))
        port = _optional(sections, "listen-port", 2)
        advice = _optional(sections, "advice", _ADVICE.size)
        return cls(
            exported_at=_bounded(exported_at),
            node_key=_taken(sections, "node-key", 1, MAX_KEY_BYTES),
            settings=settings,
            grid_secret=_optional(sections, "grid-secret", _GRID_SECRET_SIZE),
            convergence=_optional(sections, "convergence", _OWN_SECRET_SIZE),
            lease_secret=_optional(sections, "lease-secret", _OWN_SECRET_SIZE),
            listen_port=None if port is None else _port(port),
            advice=None if advice is None else _unpack_advice(advice),
            announcements=_unpack_announcements(sections.pop("announcements", b"")),
            kept=_unpack_kept(sections.pop("kept-files", b"")),
            private_root=_optional_cap(sections, "private-root"),
            public_root=_optional_cap(sections, "public-root"),
            aliases=_taken(sections, "aliases", 0, MAX_ALIASES_BYTES)
            if "aliases" in sections
            else None,
            others=sections,
        )


def is_section_name(name: str) -> bool:
    """Tell whether a section can have this name."""
    return _NAME.fullmatch(name.encode("utf-8", "replace")) is not None


def _pack_section(name: str, content: bytes) -> bytes:
    return bytes([len(name)]) + name.encode("ascii") + _LENGTH.pack(len(content)) + content


def _sections_of(data: bytes) -> dict[str, bytes]:
    """Return {name: content}, each name once.

    Raises:
        FormatError: malformed.
    """
    if not data.startswith(_MAGIC):
        raise FormatError("What was sealed is no recovery file of a version that is known.")
    sections: dict[str, bytes] = {}
    position = len(_MAGIC)
    while position < len(data):
        end = position + 1 + data[position]
        name = data[position + 1 : end]
        length = data[end : end + _LENGTH.size]
        if not _NAME.fullmatch(name) or len(length) != _LENGTH.size:
            raise FormatError("The recovery file has a malformed section.")
        begin = end + _LENGTH.size
        position = begin + _LENGTH.unpack(length)[0]
        if position > len(data):
            raise FormatError("The recovery file is cut short.")
        text = name.decode("ascii")
        if text in sections or len(sections) == MAX_SECTIONS:
            raise FormatError("The recovery file has a section twice, or too many.")
        sections[text] = data[begin:position]
    return sections


def _taken(sections: dict[str, bytes], name: str, least: int, most: int) -> bytes:
    content = sections.pop(name, None)
    if content is None:
        raise FormatError(f"The recovery file lacks the section {name}.")
    if not least <= len(content) <= most:
        raise FormatError(f"The section {name} of the recovery file is too short or too long.")
    return content


def _optional(sections: dict[str, bytes], name: str, size: int) -> bytes | None:
    return _taken(sections, name, size, size) if name in sections else None


def _pack_text(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8")


def _optional_cap(sections: dict[str, bytes], name: str) -> str | None:
    """Return the text of a cap; whether it is one is seen where it is used."""
    if name not in sections:
        return None
    try:
        return _taken(sections, name, 1, MAX_CAP_BYTES).decode("ascii")
    except UnicodeDecodeError:
        raise FormatError(f"The section {name} of the recovery file is no cap.") from None


def _bounded(seconds: int) -> int:
    if seconds >= 2**63:
        raise FormatError("A time in the recovery file is out of bounds.")
    return seconds


def _port(content: bytes) -> int:
    (port,) = _SHORT.unpack(content)
    if not port:
        raise FormatError("The port in the recovery file is 0.")
    return int(port)


def _pack_advice(advice: tuple[int, int, int]) -> bytes:
    try:
        return _ADVICE.pack(*advice)
    except struct.error:
        raise BadArgumentValueError("The advice of the introducers is out of bounds.") from None


def _unpack_advice(content: bytes) -> tuple[int, int, int]:
    needed, happy, total = _ADVICE.unpack(content)
    if not 1 <= needed <= total <= 256 or not 1 <= happy <= total:
        raise FormatError("The advice of the introducers in the recovery file cannot be.")
    return needed, happy, total


def _pack_announcements(announcements: Iterable[bytes]) -> bytes:
    try:
        return b"".join(_SHORT.pack(len(each)) + each for each in announcements)
    except struct.error:
        raise BadArgumentValueError("An announcement is too long.") from None


def _unpack_announcements(content: bytes) -> tuple[bytes, ...]:
    """Return the announcements; whether they hold is seen when they are used."""
    found: list[bytes] = []
    position = 0
    while position < len(content):
        length = int.from_bytes(content[position : position + _SHORT.size], "big")
        position += _SHORT.size + length
        if position > len(content) or not 1 <= length <= MAX_ANNOUNCEMENT_BYTES:
            raise FormatError("The announcements in the recovery file are malformed.")
        found.append(content[position - length : position])
        if len(found) > MAX_ANNOUNCEMENTS:
            raise FormatError("The recovery file holds too many announcements.")
    return tuple(found)


def _pack_kept(kept: Iterable[KeptFile]) -> bytes:
    try:
        records = [
            _KEPT.pack(
                each.cap.storage_index,
                each.cap.ueb_hash,
                each.cap.needed,
                each.cap.total,
                each.happy,
                each.cap.size,
                each.added_at,
            )
            for each in kept
        ]
    except struct.error:
        raise BadArgumentValueError("A kept file is out of bounds.") from None
    return _SHORT.pack(_KEPT.size) + b"".join(records)


def _unpack_kept(content: bytes) -> tuple[KeptFile, ...]:
    """Return the kept files; of longer records, as later versions may have, what is known."""
    if not content:
        return ()
    size = int.from_bytes(content[: _SHORT.size], "big")
    records = content[_SHORT.size :]
    if size < _KEPT.size or len(records) % size:
        raise FormatError("The kept list in the recovery file is malformed.")
    found = []
    for position in range(0, len(records), size):
        index, ueb_hash, needed, total, happy, length, added_at = _KEPT.unpack_from(
            records, position
        )
        try:
            cap = ChkVerifierCap(index, ueb_hash, needed, total, length)
        except BadCapError as error:
            raise FormatError(f"The kept list holds what cannot be: {error}") from None
        if not 1 <= happy <= total:
            raise FormatError("The kept list asks for a happiness that cannot be.")
        found.append(KeptFile(cap, happy, _bounded(added_at)))
    return tuple(found)
