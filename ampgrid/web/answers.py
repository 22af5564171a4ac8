"""What an action returns: a status, a body that fits into memory, and headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
JSON = "application/json"


@frozen
class Answer:
    """An answer that is written whole.

    Attributes:
        body: bytes of it.
        status: of HTTP.
        content_type: of the body.
        headers: further ones, by name; of one that stands there twice, in two lines.
    """

    body: bytes = field(repr=False)
    status: int = 200
    content_type: str = TEXT
    headers: Mapping[str, str] = field(factory=dict, repr=False)


def text(body: str, status: int = 200, **headers: str) -> Answer:
    """Return an answer of plain text."""
    return Answer(body.encode("utf-8", "replace"), status, TEXT, headers)


def page(body: str, status: int = 200) -> Answer:
    """Return an answer of HTML."""
    return Answer(body.encode("utf-8", "replace"), status, HTML)


def spelled(value: Any) -> str:
    """Return a value as JSON that can stand in HTML too: ``<``, ``>`` and ``&`` are escaped."""
    told = json.dumps(value)
    return told.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def as_json(value: Any, status: int = 200) -> Answer:
    """Return an answer of JSON, in ASCII."""
    return Answer(spelled(value).encode("ascii") + b"\n", status, JSON)


def redirect(target: str, status: int = 303) -> Answer:
    """Return an answer that leads elsewhere on this gateway.

    Args:
        target: a path of this gateway, already checked or made here.
        status: 303 after a POST; 302 from one GET to another.
    """
    return Answer(b"", status, TEXT, {"Location": target})
