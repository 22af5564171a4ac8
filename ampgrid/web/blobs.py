"""``/blobs``: the blobs that this node keeps for users with a token, over HTTP.

The paths, arguments, headers and statuses are those of the seed's blobs server, with what it
lacked beside them: pages of a listing, and putting a large blob in parts. Who asks has a user
and a token of this node, shown before the body of a request is taken; the gateway's own password
plays no part here.

Spec: ``docs/specs/blobs.md#http``.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

from ampgrid.blobs.port import TAG_SIZE, Stat
from ampgrid.blobs.receiving import Receiving
from ampgrid.blobs.service import BlobService
from ampgrid.errors import (
    BadArgumentValueError,
    BlobNotFoundError,
    BlobQuotaError,
    BlobRefusedError,
    InvalidBlobError,
    InvalidFlagsError,
)
from ampgrid.formats.blobname import (
    DEFAULT_NAMESPACE,
    BlobName,
    Flag,
    checked_flags,
    checked_namespace,
    flags_of_bits,
)
from ampgrid.formats.blobuser import account_of_user
from ampgrid.immutable import Data, Operation, Uploadable
from ampgrid.store.servedblobs import SMALL_BYTES, Row, Selection
from ampgrid.web import answers
from ampgrid.web.answers import Answer
from ampgrid.web.bodies import A_FILE, A_TEXT, FileBody, TextBody
from ampgrid.web.call import Call
from ampgrid.web.errors import BadRequestError, ForbiddenError, NotFoundError, WebError
from ampgrid.web.headers import STORED_POLICY, UNKNOWN_TYPE
from ampgrid.web.outflow import Outflow
from ampgrid.web.ranges import RangeError, read_range
from ampgrid.web.routing import Route, Target, chosen
from ampgrid.web.streaming import stream

if TYPE_CHECKING:
    from ampgrid.web.request import GatewayRequest

#: So many bytes go from the spool to the store at once, and from the store to a client.
_PIECE_BYTES = 512 * 1024
_READ_BYTES = 65_000
_MOST_LIMIT = 1000
_ORDERS = {"": 0, "date": 1, "+date": 1, "-date": 2}
_PART = re.compile(r"bytes (?:([0-9]{1,13})-([0-9]{1,13})|\*)/([0-9]{1,13})")
#: On every answer about a blob: parts of it may be put.
_PARTS = {"Accept-Parts": "bytes"}


class Blobs:
    """The section: ``/blobs/USER/BLOB_ID`` and ``/blobs/USER/``."""

    def route(self, target: Target) -> Route:
        """Return how a request is answered."""
        names = target.names[1:]
        if len(names) != 2 or not names[0]:
            raise NotFoundError("blobs are at blobs/USER/ and blobs/USER/BLOB_ID")
        knows = partial(_check_token, names[0])
        if not names[1]:
            return chosen({"GET": Route(_list, credentials=knows)}, target.method)
        routes = {
            "GET": Route(_get, credentials=knows),
            "PUT": Route(_put, A_FILE, credentials=knows, most=_most_bytes),
            "DELETE": Route(_delete, credentials=knows),
            "POST": Route(_set_flags, A_TEXT, credentials=knows),
        }
        return chosen(routes, target.method)


# Who, and which blob.


def _check_token(user: str, request: GatewayRequest) -> None:
    """Let in who has the token of the user in the path.

    Raises:
        WebError: this is not so.
    """
    service = request.gateway.core.blobs
    if service is None:
        raise NotFoundError("this node keeps no blobs; see [blobs] in its node.toml")
    said, token = credentials_of(request.getHeader("Authorization") or "")
    try:
        service.account(None, said, token)
    except (BlobRefusedError, BadArgumentValueError):
        refused = WebError(
            "a user and a token of this node are asked for",
            401,
            WWW_Authenticate='Token realm="ampgrid blobs"',
        )
        refused.guessed = token is not None
        raise refused from None
    if said != user:
        raise ForbiddenError("these are the blobs of another user")


def _most_bytes(request: GatewayRequest) -> int | None:
    """Return what a user may put at most: what is never stored is not spooled either.

    Raises:
        BlobQuotaError: the body is longer.
    """
    service = request.gateway.core.blobs
    most = None if service is None else service.account_quota
    if most is not None and (request.length or 0) > most:
        raise BlobQuotaError("There is no room left for this user's blobs.")
    return most


def credentials_of(header: str) -> tuple[str | None, str | None]:
    """Return (user, token) of an Authorization header, None for both if it has none."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "token":
        return None, None
    try:
        text = urlsafe_b64decode(rest.strip().replace("+", "-").replace("/", "_")).decode("ascii")
    except (Base64Error, ValueError):
        return None, None
    user, colon, token = text.partition(":")
    return (user, token) if colon else (None, None)


def _service(call: Call) -> BlobService:
    service = call.gateway.core.blobs
    assert service is not None, "its route was refused"
    return service


def _account(call: Call) -> str:
    return account_of_user(call.target.names[1])


def namespace_of(call: Call) -> str:
    """Return the namespace that a request names; raises `BadArgumentValueError`."""
    return checked_namespace(call.target.arguments.get("namespace") or DEFAULT_NAMESPACE)


def _name(call: Call) -> BlobName:
    return BlobName(namespace_of(call), call.target.names[2])


def tag_text(tag: bytes) -> str:
    """Return a tag as it stands in a header."""
    return urlsafe_b64encode(tag).decode("ascii")


def announced_tag(call: Call) -> bytes | None:
    """Return the tag that a request announces; raises `BadRequestError`."""
    said = call.request.getHeader("Tag")
    if said is None:
        return None
    try:
        tag = urlsafe_b64decode(said)
    except (Base64Error, ValueError):
        tag = b""
    if len(tag) != TAG_SIZE:
        raise BadRequestError("the header Tag holds no 16 bytes in base64")
    return tag


# Putting.


def announced_flags(call: Call) -> tuple[Flag, ...]:
    """Return the flags that a body lists; raises `BadRequestError` and `InvalidFlagsError`."""
    text = call.body.text if isinstance(call.body, TextBody) else ""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequestError("the body is no JSON list of flags") from None
    if not isinstance(said, list):
        raise InvalidFlagsError("The flags of a blob are a list of names.")
    return checked_flags(said)


async def _put(call: Call) -> Answer:
    source = call.body.source if isinstance(call.body, FileBody) else Data(b"")
    part = call.request.getHeader("Content-Range")
    if part is not None:
        return await _put_part(call, source, part)
    size, tag = source.get_size(), announced_tag(call)
    if size < TAG_SIZE:
        raise InvalidBlobError("no sealed blob is as short as this")
    end = await _read(call, source, size - TAG_SIZE, TAG_SIZE)
    if tag is not None and tag != end:
        raise InvalidBlobError("the body does not end with the tag")
    service, account, name = _service(call), _account(call), _name(call)
    if size <= SMALL_BYTES:
        await service.put_at_once(account, name, await _read(call, source, 0, size))
        return _done()
    receiving = await service.begin(account, name, size, end)
    if receiving is not None:
        async with _Held(receiving):
            await _fill(call, receiving, source, 0)
            await receiving.finish()
    return _done()


async def _put_part(call: Call, source: Uploadable, said: str) -> Answer:
    """Put some bytes of a large blob: those behind what is there.

    With ``leave=true`` the put ends for now instead, and somebody else may put that name; with
    ``drop=true`` what is there is forgotten too.
    """
    start, size = _part(said, source.get_size())
    tag = announced_tag(call)
    if tag is None:
        raise BadRequestError("a part of a blob comes with the header Tag")
    if size <= SMALL_BYTES:
        raise BadRequestError(f"a blob of up to {SMALL_BYTES} bytes comes as a whole")
    receiving = await _service(call).begin(_account(call), _name(call), size, tag)
    if receiving is None:
        return _done()
    async with _Held(receiving):
        if call.flag("drop", default=False) or call.flag("leave", default=False):
            await receiving.leave(keep=not call.flag("drop", default=False))
            return _done()
        if start is None and receiving.have < size:
            return _goes_on(call, receiving)
        if start is not None and start != receiving.have:
            raise RangeError(
                f"the next byte is {receiving.have}",
                Upload_Offset=str(receiving.have),
                Accept_Parts="bytes",
            )
        await _fill(call, receiving, source, start or 0)
        if receiving.have < size:
            return _goes_on(call, receiving)
        await receiving.finish()
        return _done()


def _part(said: str, length: int) -> tuple[int | None, int]:
    """Read a Content-Range; return (where the part begins, size of the whole blob).

    None for the beginning asks how far the blob has come.
    """
    match = _PART.fullmatch(said.strip())
    if match is None:
        raise BadRequestError("Content-Range is 'bytes FIRST-LAST/SIZE' or 'bytes */SIZE'")
    first, last, size = match.groups()
    if first is None:
        if length:
            raise BadRequestError("a body has a place in the blob")
        return None, int(size)
    if not int(first) <= int(last) < int(size) or int(last) + 1 - int(first) != length:
        raise BadRequestError("Content-Range and the body do not fit each other")
    return int(first), int(size)


class _Held:
    """Keeps what came of a blob, unless it was finished."""

    def __init__(self, receiving: Receiving) -> None:
        self._receiving = receiving

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        await self._receiving.leave(keep=True)


async def _fill(call: Call, receiving: Receiving, source: Uploadable, start: int) -> None:
    """Write what is still to come, of a source that begins at ``start``."""
    end = start + source.get_size()
    while receiving.have < end:
        offset = receiving.have
        length = min(_PIECE_BYTES, end - offset)
        await receiving.write(offset, await _read(call, source, offset - start, length))


async def _read(call: Call, source: Uploadable, offset: int, length: int) -> bytes:
    return await call.gateway.spool.threads.run(source.read_at, offset, length)


def _done() -> Answer:
    return answers.text("", 200, **_PARTS)


def _goes_on(call: Call, receiving: Receiving) -> Answer:
    _service(call).park(receiving)
    return answers.text("", 202, **{"Upload-Offset": str(receiving.have)}, **_PARTS)


# Getting.


async def _get(call: Call) -> Answer | None:
    service, account, name = _service(call), _account(call), _name(call)
    try:
        row = await service.stat(account, name)
    except BlobNotFoundError as error:
        raise NotFoundError(str(error), Accept_Parts="bytes") from error
    if call.flag("only_flags", default=False):
        return answers.as_json(list(flags_of_bits(row.flags)))
    try:
        wanted = read_range(call.request.getHeader("Range") or "", row.size)
    except RangeError as error:
        error.headers["Tag"] = tag_text(row.tag)
        raise
    start, end = (wanted.start, wanted.end) if wanted else (0, row.size)
    first = b""
    if call.target.method != "HEAD":
        first = await _piece(call, row, start, end)
    _head(call, row, start, end, ranged=wanted is not None)
    if call.target.method == "HEAD":
        call.request.finish()
        return None
    await _send(call, row, start, end, first)
    return None


def _head(call: Call, row: Row, start: int, end: int, *, ranged: bool) -> None:
    stat = Stat(row.size, row.tag, row.stored_at / 10**6, flags_of_bits(row.flags))
    begin_blob(call, stat, start, end, ranged=ranged, **_PARTS)


def begin_blob(call: Call, stat: Stat, start: int, end: int, *, ranged: bool, **more: str) -> None:
    """Send the head of an answer with bytes of a blob.

    Args:
        call: what is answered.
        stat: of the blob.
        start: where the bytes begin.
        end: behind the last of them.
        ranged: whether they were asked for by their place.
        more: headers beside.
    """
    request = call.request
    request.begin(206 if ranged else 200, UNKNOWN_TYPE, STORED_POLICY)
    told = {
        **more,
        "Tag": tag_text(stat.tag),
        "Flags": ",".join(stat.flags),
        "Stored-At": f"{stat.stored_at:.6f}",
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
    }
    if ranged:
        # Both ends are of bytes that come.
        told["Content-Range"] = f"bytes {start}-{end - 1}/{stat.size}"
    for name, value in told.items():
        request.setHeader(name, value)


async def _send(call: Call, row: Row, start: int, end: int, piece: bytes) -> None:
    operation = Operation()
    out = Outflow(call.request, call.gateway.core.clock, operation)
    try:
        while True:
            await out.send(piece)
            start += len(piece)
            if start >= end:
                break
            piece = await _piece(call, row, start, end)
            operation.check()
    except BaseException:
        out.leave()
        raise
    out.end()


async def _piece(call: Call, row: Row, start: int, end: int) -> bytes:
    length = min(_READ_BYTES, end - start)
    found, data = await _service(call).read(_account(call), _name(call), start, length)
    if found.id != row.id or len(data) != length:
        raise BlobNotFoundError("the blob was deleted while it was being sent")
    return data


# Changing.


async def _delete(call: Call) -> Answer:
    await _service(call).delete(_account(call), _name(call))
    return _done()


async def _set_flags(call: Call) -> Answer:
    await _service(call).set_flags(_account(call), _name(call), announced_flags(call))
    return _done()


# Listing.


async def _list(call: Call) -> Answer | None:
    service, account = _service(call), _account(call)
    if call.flag("namespaces", default=False):
        return answers.as_json(await service.namespaces(account, "", _MOST_LIMIT))
    chosen_ = selection_of(call)
    if call.flag("only_count", default=False):
        return answers.as_json({"count": await service.count(account, chosen_)})
    limit = call.arg("limit")
    after = _place(chosen_, call.arg("after"))
    if limit is None:
        await stream(call, answers.JSON, _all(service, account, chosen_, after))
        return None
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:5]) <= _MOST_LIMIT):
        raise BadRequestError(f"limit= is 1 to {_MOST_LIMIT}")
    most = int(limit)
    found = await service.page(account, chosen_, after, most + 1)
    answer = answers.as_json([blob_id for blob_id, _place in found[:most]])
    if len(found) <= most:
        return answer
    last_id, last_place = found[most - 1]
    following = {"Next": str(last_place) if chosen_.order else last_id}
    return Answer(answer.body, 200, answers.JSON, following)


async def _all(
    service: BlobService, account: str, chosen_: Selection, after: str | int | None
) -> AsyncIterator[str]:
    """Yield the JSON of a whole listing."""
    before = "["
    # Asked before anything is sent, so that a failure gets a status of its own.
    while found := await service.page(account, chosen_, after, _MOST_LIMIT):
        yield before + ", ".join(f'"{blob_id}"' for blob_id, _number in found)
        before = ", "
        after = found[-1][1] if chosen_.order else found[-1][0]
    yield "[]\n" if before == "[" else "]\n"


def selection_of(call: Call) -> Selection:
    """Return which blobs a listing is about; raises `WebError` and `InvalidFlagsError`."""
    said = call.arg("filter_flag")
    if said and said not in Flag.__members__:
        raise InvalidFlagsError(f"A flag of a blob is one of {', '.join(Flag)}.")
    # A plus that nobody escaped comes as a space.
    order = _ORDERS.get((call.arg("order_by") or "").strip())
    if order is None:
        raise BadRequestError("order_by= is date, +date or -date")
    return Selection(
        namespace_of(call),
        Flag(said) if said else None,
        call.flag("deleted", default=False),
        order,
    )


def _place(chosen_: Selection, after: str | None) -> str | int | None:
    if after is None or not chosen_.order:
        return after
    if not (after.isascii() and after.isdecimal() and len(after) < 19):
        raise BadRequestError("after= is the Next of a page of the same order")
    return int(after)
