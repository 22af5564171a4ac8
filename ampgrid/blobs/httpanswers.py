"""What a server of blobs says over HTTP, checked: heads of answers, listings, streams, statuses.

Spec: ``docs/specs/blobs.md#http``.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectingCancelledError
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse

from ampgrid.blobs.adapting import deleted, missing
from ampgrid.blobs.httpbody import AnswerBody
from ampgrid.blobs.port import MOST_BLOB_BYTES, TAG_SIZE, Page, Query
from ampgrid.errors import (
    BadArgumentValueError,
    BlobQuotaError,
    BlobRefusedError,
    InvalidBlobError,
    InvalidFlagsError,
    RemoteUnavailableError,
)
from ampgrid.formats.blobname import BlobName, Flag, checked_flags

#: What marks a place in the listing of a server that has no pages: a number of ids.
SKIP = re.compile(r"skip ([0-9]{1,9})")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@frozen
class HttpAnswer:
    """The head of an answer, and its body.

    Attributes:
        status: of HTTP.
        headers: by name in small letters; the first of each.
        size: of the body, bytes; None if it is not told.
        body: what is read of it.
    """

    status: int
    headers: Mapping[str, str]
    size: int | None
    body: AnswerBody


class HttpStream:
    """The bytes of a blob on their way here: an `ampgrid.blobs.port.SealedStream`.

    Args:
        body: of the answer.
        size: of the whole blob, bytes.
        tag: its last bytes, as the server says.
        offset: of the first byte in the body.
        skip: bytes of the body that were not asked for, from its beginning.
    """

    def __init__(self, body: AnswerBody, size: int, tag: bytes, offset: int, skip: int) -> None:
        self.size = size
        self.tag = tag
        self._body = body
        self._offset = offset
        self._skip = skip

    async def read(self) -> bytes:
        """Return the next bytes, none at the end."""
        while True:
            piece = await self._body.read()
            self._offset += len(piece)
            if self._offset > self.size:
                raise InvalidBlobError("The server gave more bytes of the blob than it said.")
            if not piece:
                if self._offset != self.size:
                    raise RemoteUnavailableError("The server broke off in the middle of a blob.")
                return b""
            cut = min(self._skip, len(piece))
            self._skip -= cut
            if piece[cut:]:
                return piece[cut:]

    async def close(self) -> None:
        """End it."""
        self._body.close()


# What a server says.


def answer_of(response: IResponse, body: AnswerBody) -> HttpAnswer:
    """Return the answer of which a response is the head; its body begins to come into ``body``."""
    told = {
        key.decode("latin-1").lower(): values[0].decode("latin-1")
        for key, values in response.headers.getAllRawHeaders()
    }
    size = None if response.length is UNKNOWN_LENGTH else int(response.length)
    response.deliverBody(body)
    return HttpAnswer(response.code, told, size, body)


def stream_of(answer: HttpAnswer, name: BlobName, offset: int) -> HttpStream:
    """Return the stream of an answer to a GET.

    Args:
        answer: of the server.
        name: of the blob.
        offset: that was asked for, bytes of the sealed blob.

    Raises:
        BadArgumentValueError: the blob ends before the offset.
        InvalidBlobError: what is given is no such part of a sealed blob.
        RemoteUnavailableError: the server does not tell how large the blob is.
        AmpgridError: what the status means (`refuse`).
    """
    if answer.status == 416:
        size = number_of((answer.headers.get("content-range") or "").removeprefix("bytes */"))
        if size is None or offset < size:
            raise nonsense()
        if offset > size:
            raise BadArgumentValueError("The blob has fewer bytes than that.")
        answer.body.close()
        return HttpStream(_Nothing(), size, tag_of(answer), offset, 0)
    if answer.status not in {200, 206}:
        refuse(answer.status, name)
    if answer.size is None:
        raise RemoteUnavailableError("The server does not tell the size of the blob.")
    if answer.status == 200:
        if offset > answer.size:
            raise BadArgumentValueError("The blob has fewer bytes than that.")
        size, begin, skip = answer.size, 0, offset
    else:
        size, begin, skip = offset + answer.size, offset, 0
        if answer.headers.get("content-range") != f"bytes {offset}-{size - 1}/{size}":
            raise InvalidBlobError("The server gave other bytes of the blob than were asked for.")
    if not TAG_SIZE <= size <= MOST_BLOB_BYTES:
        raise InvalidBlobError("No sealed blob is of such a size.")
    return HttpStream(answer.body, size, tag_of(answer), begin, skip)


class _Nothing(AnswerBody):
    """The body of no bytes."""

    def __init__(self) -> None:
        pass

    async def read(self) -> bytes:
        return b""

    def close(self) -> None:
        pass


def page_of(
    found: Any, following: str | None, after: str | None, most: int, *, by_id: bool
) -> Page:
    """Check a listing, and cut it if the server knows no pages.

    Args:
        found: what the server told.
        following: where it says that the next page begins.
        after: where this page begins.
        most: ids in it.
        by_id: whether it is to be in the order of ids. A server of the seed tells those in any.
    """
    if not isinstance(found, list):
        raise nonsense()
    skip = SKIP.fullmatch(after or "")
    first = int(skip[1]) if skip else 0
    try:
        if by_id and following is None:
            found = sorted({each for each in found if after is None or each > after})
        ids = tuple(BlobName.of(blob_id).blob_id for blob_id in found[first : first + most])
    except (BadArgumentValueError, TypeError) as error:
        raise nonsense() from error
    if following is not None:
        if not following.isascii() or len(following) > 300 or following == after or not ids:
            raise nonsense()
        return Page(ids, following)
    if len(found) <= first + most:
        return Page(ids)
    return Page(ids, ids[-1] if by_id else f"skip {first + most}")


def flags_of(found: Iterable[object]) -> tuple[Flag, ...]:
    """Return the flags that a server names; raises `RemoteUnavailableError`."""
    try:
        return checked_flags(flag for flag in found if flag != "")
    except InvalidFlagsError as error:
        raise nonsense() from error


def tag_text(tag: bytes) -> str:
    """Return a tag as it stands in a header."""
    return urlsafe_b64encode(tag).decode("ascii")


def tag_of(answer: HttpAnswer) -> bytes:
    """Return the tag in the head of an answer; raises `InvalidBlobError`."""
    try:
        tag = urlsafe_b64decode(answer.headers.get("tag", ""))
    except (Base64Error, ValueError):
        tag = b""
    if len(tag) != TAG_SIZE:
        raise InvalidBlobError("The server does not tell the tag of the blob.")
    return tag


def number_of(text: str | None) -> int | None:
    """Return a number of bytes of a blob, None if it is none."""
    if text is None or not (text.isascii() and text.isdecimal() and len(text) < 14):
        return None
    return int(text)


def moment_of(text: str | None) -> float:
    """Return a moment, seconds since 1970; 0 if the server tells none."""
    match = re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text or "")
    return 0.0 if match is None else float(match[0])


def offset_of(answer: HttpAnswer, least: int, size: int) -> int:
    """Return how much of a blob the server has, which grows with each part."""
    offset = number_of(answer.headers.get("upload-offset"))
    if offset is None or not least <= offset < size:
        raise nonsense()
    return offset


def params_of(query: Query) -> dict[str, str]:
    """Return the arguments that stand for a query."""
    params = {"namespace": query.namespace}
    if query.filter_flag is not None:
        params["filter_flag"] = query.filter_flag
    if query.deleted:
        params["deleted"] = "true"
    return params


def nonsense() -> RemoteUnavailableError:
    """Return the error for what no server says."""
    return RemoteUnavailableError("The server gave an answer that makes no sense.")


def refuse(status: int, name: BlobName | None) -> NoReturn:
    """Raise what a status means."""
    if status == 404 and name is not None:
        raise missing(name)
    if status == 410:
        raise deleted(name)
    if status in {413, 507}:
        raise BlobQuotaError("The server has no room for this blob.")
    if status in {401, 403, 404, 405}:
        raise BlobRefusedError("The server keeps no blobs for this user and token.")
    if status == 406:
        raise InvalidFlagsError(f"A flag of a blob is one of {', '.join(Flag)}.")
    if status == 422:
        raise InvalidBlobError("The server has, or got, other bytes of the blob than it should.")
    if status in {400, 416}:
        raise BadArgumentValueError("The server refused an argument.")
    raise RemoteUnavailableError(f"The server answered with the status {status}.")


def was_cancelled(error: BaseException) -> bool:
    """Tell whether a request failed since somebody cancelled it; Twisted wraps that at times."""
    if isinstance(error, CancelledError | ConnectingCancelledError):
        return True
    return any(was_cancelled(reason.value) for reason in getattr(error, "reasons", ()))


def checked_url(url: str, *, over_network: bool) -> str:
    """Return the address of a server, which ends in a slash.

    Args:
        url: the address.
        over_network: whether it may be one without TLS on another machine.

    Raises:
        BadArgumentValueError: it is none, holds a user, or would send the token in clear.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _port = parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise BadArgumentValueError(
            "A server of blobs has an address such as https://HOST/blobs/."
        )
    if parts.username is not None:
        raise BadArgumentValueError("Give user and token beside the address, and not in it.")
    if parts.scheme == "http" and host not in _LOOPBACK and not over_network:
        raise BadArgumentValueError(
            "Without TLS the token could be read on its way: use an https:// address."
        )
    return url if url.endswith("/") else f"{url}/"
