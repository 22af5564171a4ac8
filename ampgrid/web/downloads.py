"""Sending a file: whole or a range of it, if the client does not have it already."""

from __future__ import annotations

from attrs import frozen

from ampgrid.caps import ChkCap, LitCap
from ampgrid.immutable import FileNode
from ampgrid.vdrive.dirnode import Child
from ampgrid.web.answers import TEXT, Answer
from ampgrid.web.call import Call
from ampgrid.web.errors import ForbiddenError
from ampgrid.web.headers import STORED_POLICY, content_type, disposition
from ampgrid.web.outflow import Outflow, ToClient
from ampgrid.web.ranges import (
    Range,
    etag_of,
    http_date,
    is_unchanged,
    range_holds,
    read_range,
)

#: The last second of the year 9999: no date of HTTP is later.
_LAST_SECOND = 253_402_300_799
#: As what a page of this gateway may show what is stored (Sec-Fetch-Dest): never as a script or a
#: style of its own, though its policy lets it load those from this origin.
_SHOWN_AS = frozenset({"", "document", "empty", "iframe", "image", "audio", "video", "track"})


@frozen
class Stored:
    """A file as it is sent.

    Attributes:
        cap: what gives it.
        etag: of it.
        name: from which its type is derived; None if nothing tells one.
        changed: when it was linked, seconds since 1970; None if that is not known.
        attachment: whether a browser shall save it.
    """

    cap: ChkCap | LitCap
    etag: str
    name: str | None
    changed: float | None
    attachment: bool


def stored(call: Call, node: FileNode, child: Child | None) -> Stored:
    """Return how a file is sent to who asks.

    Args:
        call: what was asked.
        node: the file.
        child: what its directory tells of it; None if it was named by its cap.
    """
    return Stored(
        node.cap,
        etag_of(node.get_uri()),
        call.arg("filename") or (None if child is None else child.name),
        None if child is None else _moment(child.metadata.get("changed")),
        call.flag("save", default=False),
    )


def _moment(said: object) -> float | None:
    """Return seconds since 1970; None for what is no date of HTTP: a stranger may have said it."""
    if isinstance(said, int | float) and 0 <= said <= _LAST_SECOND:
        return float(said)
    return None


async def send_file(call: Call, file: Stored) -> Answer | None:
    """Send a file.

    Raises:
        ForbiddenError: a page would run it as a script, or take it as a style.
        RangeError: no byte of the file is in the range that was asked for.
        NotEnoughSharesError: the file cannot be read.
    """
    request = call.request

    def value(name: str) -> str:
        return request.getHeader(name) or ""

    if value("Sec-Fetch-Dest") not in _SHOWN_AS:
        raise ForbiddenError("what is stored is no part of a page")
    if is_unchanged(value, file.etag, file.changed):
        return Answer(b"", 304, TEXT, _about(file))
    size = file.cap.get_size()
    wanted = None
    if range_holds(value, file.etag, file.changed):
        wanted = read_range(value("Range"), size)
    if call.target.method == "HEAD":
        _head(call, file, wanted)
        request.finish()
        return None
    await _send(call, file, wanted)
    return None


async def _send(call: Call, file: Stored, wanted: Range | None) -> None:
    core = call.gateway.core
    start, end = (wanted.start, wanted.end) if wanted else (0, file.cap.get_size())
    with call.under_way("download", end - start) as job:
        call.request.cancels(job.operation)

        def begin() -> Outflow:
            _head(call, file, wanted)
            return Outflow(call.request, core.clock, job.operation)

        if isinstance(file.cap, ChkCap):
            await core.settle(file.cap.needed, job.operation.check)
        await core.downloader.download(
            file.cap, ToClient(begin), job.operation, start, end - start
        )


def _about(file: Stored) -> dict[str, str]:
    told = {"ETag": file.etag, "Accept-Ranges": "bytes"}
    if file.changed is not None:
        told["Last-Modified"] = http_date(file.changed)
    return told


def _head(call: Call, file: Stored, wanted: Range | None) -> None:
    """Set the head of the answer."""
    request, size = call.request, file.cap.get_size()
    request.begin(206 if wanted else 200, content_type(file.name), STORED_POLICY)
    for name, value in _about(file).items():
        request.setHeader(name, value)
    start, end = (wanted.start, wanted.end) if wanted else (0, size)
    request.setHeader("Content-Length", str(end - start))
    if wanted:
        request.setHeader("Content-Range", f"bytes {start}-{end - 1}/{size}")
    if file.attachment or file.name is not None:
        kind = "attachment" if file.attachment else "inline"
        request.setHeader("Content-Disposition", disposition(kind, file.name or "file"))
