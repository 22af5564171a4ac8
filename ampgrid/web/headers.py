"""Headers that every answer carries, and those that tell of a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

#: On every answer. ``no-store``: caps and what they open stay out of the browser's disk.
ALWAYS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "ampgrid",
}
#: Of the gateway's own pages: nothing from elsewhere, no script but those that it serves.
OWN_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; frame-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'self'"
)
#: Of what is stored: an origin of its own, no scripts, no forms, nothing fetched.
STORED_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
UNKNOWN_TYPE = "application/octet-stream"

#: What may stand in a header as it is; the rest of a name is escaped beside it.
_PLAIN = re.compile(r"[^A-Za-z0-9 ._()+,=@-]")


def content_type(name: str | None) -> str:
    """Return the content type of a stored file by its name.

    >>> content_type("notes.txt"), content_type(None)
    ('text/plain; charset=utf-8', 'application/octet-stream')
    """
    from ampgrid.vdrive.metadata import guess_type

    guessed = guess_type(name) if name else None
    if guessed is None:
        return UNKNOWN_TYPE
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed


def disposition(kind: str, name: str) -> str:
    """Return a Content-Disposition (RFC 6266): a plain name for all, the whole one beside it.

    Args:
        kind: ``attachment`` or ``inline``.
        name: of the file, any text.
    """
    plain = _PLAIN.sub("_", name)
    told = f'{kind}; filename="{plain}"'
    if plain != name:
        told += f"; filename*=UTF-8''{quote(name.encode('utf-8', 'replace'), safe='')}"
    return told
