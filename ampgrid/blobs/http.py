"""The remote of blobs that is an HTTP server: that of a node's gateway, or one as the seed's.

It speaks as the seed's client does: paths, arguments, headers and statuses. Where the server
says that it takes parts of blobs (a gateway of ampgrid does), large blobs go in parts, so that
a put that broke off goes on; to any other they go as a whole.

Nothing that the server says is believed beyond its bounds.

Spec: ``docs/specs/blobs.md#http``.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent

from ampgrid.blobs.adapting import check_listing, check_source, taken
from ampgrid.blobs.httpanswers import (
    SKIP,
    HttpAnswer,
    HttpStream,
    answer_of,
    checked_url,
    flags_of,
    moment_of,
    nonsense,
    number_of,
    offset_of,
    page_of,
    params_of,
    refuse,
    stream_of,
    tag_of,
    tag_text,
    was_cancelled,
)
from ampgrid.blobs.httpbody import AnswerBody, BytesBody, SourceBody, Stall, first_line
from ampgrid.blobs.port import (
    MAX_NAMESPACES,
    MAX_PAGE_IDS,
    MOST_BLOB_BYTES,
    TAG_SIZE,
    OrderBy,
    Page,
    Query,
    SealedSource,
    Stat,
)
from ampgrid.errors import (
    AmpgridError,
    BadArgumentValueError,
    BlobError,
    BlobNotFoundError,
    BlobRefusedError,
    InvalidBlobError,
    RemoteUnavailableError,
)
from ampgrid.formats.blobname import BlobName, Flag, checked_flags, checked_namespace
from ampgrid.formats.blobuser import checked_user
from ampgrid.ports import Clock

#: A large blob goes in parts of this size, bytes.
PART_BYTES = 8 * 2**20
#: Seconds in which a byte has to move, or an answer to begin.
STALL_SECONDS = 60.0
#: The longest answers that are read: of a listing, which a seed's server gives whole; of others.
MOST_LISTING_BYTES = 64 * 2**20
MOST_TEXT_BYTES = 64 * 1024


class HttpRemote:
    """A server of blobs: an `ampgrid.blobs.port.Remote`.

    Args:
        url: where it is: what comes before ``USER/BLOB_ID``.
        user: whose blobs.
        token: that proves it. Secret.
        agent: sends requests (Twisted's ``Agent``).
        clock: of deadlines.
        part_bytes: in parts of which size large blobs go.
        over_network: whether the token may go over a network without TLS.
        closing: closes the connections that the agent keeps.
        stall_seconds: in which a byte has to move, or an answer to begin.
        explains: whether the server is the user's own, and what it gives as the reason of a
            refusal is to be shown.

    Raises:
        BadArgumentValueError: the address or the user cannot be used.
    """

    def __init__(
        self,
        url: str,
        user: str,
        token: str,
        *,
        agent: IAgent,
        clock: Clock,
        part_bytes: int = PART_BYTES,
        over_network: bool = False,
        closing: Callable[[], Awaitable[Any]] | None = None,
        stall_seconds: float = STALL_SECONDS,
        explains: bool = False,
    ) -> None:
        self._base = f"{checked_url(url, over_network=over_network)}{checked_user(user)}/"
        said = urlsafe_b64encode(f"{user}:{token}".encode()).decode("ascii")
        self._authorization = f"Token {said}"
        self._client = HTTPClient(agent)
        self._clock = clock
        self._part_bytes = part_bytes
        self._closing = closing
        self._stall_seconds = stall_seconds
        self._explains = explains
        self._under_way: set[Deferred[Any]] = set()
        self._closed = False

    # Putting.

    async def put(self, name: BlobName, source: SealedSource) -> None:
        """Store a blob (see `ampgrid.blobs.port.Remote`)."""
        check_source(source, MOST_BLOB_BYTES)
        size = source.size
        if size > self._part_bytes:
            answer = await self._ask("HEAD", name)
            await answer.body.drain()
            if answer.status == 404 and answer.headers.get("accept-parts") == "bytes":
                await self._put_parts(name, source)
                return
        answer = await self._send(name, source, 0, size, {})
        if answer.status != 200:
            await self._refuse_put(answer, name, source)

    async def _put_parts(self, name: BlobName, source: SealedSource) -> None:
        least, size = 0, source.size
        asking = {"Content-Range": f"bytes */{size}"}
        answer = await self._send(name, source, 0, 0, asking)
        try:
            while answer.status == 202:
                # It has more with each part.
                have = offset_of(answer, least, size)
                length = min(self._part_bytes, size - have)
                told = {"Content-Range": f"bytes {have}-{have + length - 1}/{size}"}
                answer = await self._send(name, source, have, length, told)
                least = have + 1
        except Exception as error:
            # So that the name is free for others at once.
            how = "drop" if isinstance(error, InvalidBlobError) else "leave"
            with suppress(BlobError):
                await self._send(name, source, 0, 0, asking, **{how: "true"})
            raise
        if answer.status != 200:
            await self._refuse_put(answer, name, source)

    async def _send(
        self,
        name: BlobName,
        source: SealedSource,
        start: int,
        length: int,
        headers: Mapping[str, str],
        **params: str,
    ) -> HttpAnswer:
        """Put bytes of a source; returns the answer, whose body was thrown away."""
        headers = {"Tag": tag_text(source.tag), **headers}
        answer = await self._ask("PUT", name, params, headers, (source, start, length))
        await answer.body.drain()
        return answer

    async def _refuse_put(self, answer: HttpAnswer, name: BlobName, source: SealedSource) -> None:
        """Raise what the status of a put means; return if the very blob is there."""
        if answer.status == 409:
            try:
                there = await self.stat(name)
            except BlobNotFoundError as error:
                raise RemoteUnavailableError("The blob of that name is gone again.") from error
            if (there.size, there.tag) == (source.size, source.tag):
                return
            raise taken(name)
        if answer.status == 404:
            raise BlobRefusedError("The server keeps no blobs at that address.")
        if answer.status == 416:
            raise RemoteUnavailableError("Somebody else is putting a blob of that name.")
        refuse(answer.status, name)

    # Getting.

    async def get(self, name: BlobName, offset: int = 0) -> HttpStream:
        """Return the bytes of a blob (see `ampgrid.blobs.port.Remote`)."""
        if not 0 <= offset <= MOST_BLOB_BYTES:
            raise BadArgumentValueError("No blob has so many bytes.")
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        answer = await self._ask("GET", name, headers=headers)
        try:
            return stream_of(answer, name, offset)
        except Exception:
            await answer.body.drain()
            raise

    async def stat(self, name: BlobName) -> Stat:
        """Return what is known of a blob (see `ampgrid.blobs.port.Remote`)."""
        answer = await self._ask("HEAD", name)
        await answer.body.drain()
        if answer.status == 403 and self._explains:
            # The answer to a HEAD gives no reason.
            await self.get_flags(name)
        if answer.status != 200:
            refuse(answer.status, name)
        size = number_of(answer.headers.get("content-length"))
        if size is None or size < TAG_SIZE:
            raise RemoteUnavailableError("The server does not tell the size of the blob.")
        said = answer.headers.get("flags")
        flags = await self.get_flags(name) if said is None else flags_of(said.split(","))
        return Stat(size, tag_of(answer), moment_of(answer.headers.get("stored-at")), flags)

    async def get_flags(self, name: BlobName) -> tuple[Flag, ...]:
        """Return the flags of a blob (see `ampgrid.blobs.port.Remote`)."""
        answer = await self._ask("GET", name, {"only_flags": "true"})
        found = await self._json(answer, name, MOST_TEXT_BYTES)
        if not isinstance(found, list):
            raise nonsense()
        return flags_of(found)

    async def set_flags(self, name: BlobName, flags: Iterable[Flag]) -> None:
        """Set the flags of a blob (see `ampgrid.blobs.port.Remote`)."""
        body = json.dumps(checked_flags(flags)).encode("ascii")
        answer = await self._ask("POST", name, body=body)
        await answer.body.drain()
        if answer.status != 200:
            refuse(answer.status, name)

    async def delete(self, name: BlobName) -> None:
        """Delete a blob (see `ampgrid.blobs.port.Remote`)."""
        answer = await self._ask("DELETE", name)
        await answer.body.drain()
        if answer.status != 200:
            refuse(answer.status, name)

    # Listing.

    async def page(
        self,
        query: Query,
        order_by: OrderBy = None,
        after: str | None = None,
        most: int = MAX_PAGE_IDS,
    ) -> Page:
        """Return a page of ids (see `ampgrid.blobs.port.Remote`)."""
        check_listing(order_by, most)
        params = {**params_of(query), "limit": str(most)}
        if order_by is not None:
            params["order_by"] = order_by
        if after is not None and not SKIP.fullmatch(after):
            params["after"] = after
        answer = await self._ask("GET", None, params)
        found = await self._json(answer, None, MOST_LISTING_BYTES)
        following = answer.headers.get("next")
        return page_of(found, following, after, most, by_id=order_by is None)

    async def count(self, query: Query) -> int:
        """Return the number of blobs (see `ampgrid.blobs.port.Remote`)."""
        answer = await self._ask("GET", None, {**params_of(query), "only_count": "true"})
        found = await self._json(answer, None, MOST_TEXT_BYTES)
        number = found.get("count") if isinstance(found, dict) else None
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise nonsense()
        return number

    async def namespaces(self) -> Sequence[str]:
        """Return the namespaces (see `ampgrid.blobs.port.Remote`)."""
        answer = await self._ask("GET", None, {"namespaces": "true"})
        found = await self._json(answer, None, 128 * MAX_NAMESPACES)
        if not isinstance(found, list) or len(found) > MAX_NAMESPACES:
            raise nonsense()
        try:
            return [checked_namespace(each) for each in found]
        except (BadArgumentValueError, TypeError) as error:
            raise nonsense() from error

    async def close(self) -> None:
        """Let go of what it holds; calls that are under way fail."""
        self._closed = True
        for request in list(self._under_way):
            request.cancel()
        if self._closing is not None:
            await self._closing()

    # Requests.

    async def _ask(
        self,
        method: str,
        name: BlobName | None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | tuple[SealedSource, int, int] | None = None,
    ) -> HttpAnswer:
        """Send a request and return the head of the answer, whose body is still to be read.

        Args:
            method: of HTTP.
            name: of the blob; None for the listing.
            params: behind the question mark; that of the namespace is added.
            headers: beside those of the user.
            body: of the request, or (source, where it begins, length).

        Raises:
            RemoteUnavailableError: there was no answer.
            BlobRefusedError: a server of the user's own said why it refused.
            CancelledError: the caller does not wait for it any more.
            Exception: what the source failed with.
        """
        params = dict(params or {})
        if name is not None:
            params["namespace"] = name.namespace
        response = await self._response(method, name, params, headers or {}, body)
        answer = answer_of(response, AnswerBody(self._clock, self._stall_seconds))
        if answer.status == 403 and self._explains:
            reason = await first_line(answer.body)
            if reason:
                raise BlobRefusedError(reason)
        return answer

    async def _response(
        self,
        method: str,
        name: BlobName | None,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | tuple[SealedSource, int, int] | None,
    ) -> Any:
        """Return Twisted's response to a request; see `_ask`."""
        if self._closed:
            raise RemoteUnavailableError("The remote was closed.")
        gave_up = False

        def give_up() -> None:
            nonlocal gave_up
            gave_up = True
            request.cancel()

        stall = Stall(self._clock, self._stall_seconds, give_up)
        data: Any = None
        if isinstance(body, bytes):
            data = BytesBody(body)
        elif body is not None:
            data = SourceBody(*body, stall.moved)
        request: Deferred[Any] = Deferred.fromCoroutine(
            self._request(method, name, params, headers, data)
        )
        self._under_way.add(request)
        try:
            return await request
        except Exception as error:
            if isinstance(data, SourceBody) and data.error is not None:
                raise data.error from None
            if isinstance(error, AmpgridError):
                raise
            if was_cancelled(error) and not (gave_up or self._closed):
                # By who waits for it, which is no fault of the server's.
                raise CancelledError from error
            raise RemoteUnavailableError(
                f"The server could not be asked: {type(error).__name__}."
            ) from error
        finally:
            stall.stop()
            self._under_way.discard(request)

    async def _request(
        self,
        method: str,
        name: BlobName | None,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        data: Any,
    ) -> Any:
        told = Headers({"Authorization": [self._authorization]})
        for key, value in headers.items():
            told.addRawHeader(key, value)
        return await self._client.request(
            method,
            self._base + ("" if name is None else name.blob_id),
            params=params,
            headers=told,
            data=data,
            allow_redirects=False,
            unbuffered=True,
        )

    async def _json(self, answer: HttpAnswer, name: BlobName | None, most: int) -> Any:
        """Return the JSON of an answer of at most so many bytes."""
        try:
            if answer.status != 200:
                await answer.body.drain()
                refuse(answer.status, name)
            pieces, size = [], 0
            while piece := await answer.body.read():
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise RemoteUnavailableError("The server's answer has no end.")
        finally:
            answer.body.close()
        try:
            return json.loads(b"".join(pieces))
        except (ValueError, RecursionError) as error:
            raise nonsense() from error
