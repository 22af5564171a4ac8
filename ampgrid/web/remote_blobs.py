"""``/remote-blobs``: the remotes of blobs that this node can reach, for programs of its own user.

A program outside a node reaches no peer and no directory of the grid. Through here it does, with
the client that it has for HTTP: the path is ``/remote-blobs/REMOTE/USER/BLOB_ID``, where REMOTE
is ``grid:PATH`` (a directory of the grid) or ``amp:NODEID`` (a peer), and the rest is as below
``/blobs``, without parts. Who asks knows the token of the gateway, which is in the node's
``private/``; behind it, after a dot, stands the user's token at a peer, if there is one.

Spec: ``docs/specs/blobs.md#http``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ampgrid.blobs.grid import GridRemote
from ampgrid.blobs.listing import MOST_IDS
from ampgrid.blobs.peer import Credentials
from ampgrid.blobs.port import (
    MAX_PAGE_IDS,
    TAG_SIZE,
    OrderBy,
    Query,
    Remote,
    SealedStream,
    Stat,
)
from ampgrid.crypto.identity import parse_node_id
from ampgrid.errors import (
    BadArgumentValueError,
    BlobRefusedError,
    FormatError,
    InvalidBlobError,
    NoRootError,
    NotDirectoryError,
    NotMutableError,
    RemoteUnavailableError,
    UsageError,
)
from ampgrid.formats.blobname import BlobName
from ampgrid.immutable import Data, Operation, Uploadable
from ampgrid.node.blobs import blobs_root, grid_blobs
from ampgrid.web import answers
from ampgrid.web.answers import Answer
from ampgrid.web.blobs import (
    announced_flags,
    announced_tag,
    begin_blob,
    credentials_of,
    namespace_of,
    selection_of,
    tag_text,
)
from ampgrid.web.bodies import A_FILE, A_TEXT, FileBody
from ampgrid.web.call import Call
from ampgrid.web.errors import BadRequestError, NotFoundError, WebError
from ampgrid.web.outflow import Outflow
from ampgrid.web.ranges import RangeError, read_range
from ampgrid.web.routing import Route, Target, chosen
from ampgrid.web.streaming import stream

if TYPE_CHECKING:
    from ampgrid.web.request import GatewayRequest

#: Directories of the grid whose listings are remembered.
_MOST_REMEMBERED = 16
_ORDERS: dict[int, OrderBy] = {0: None, 1: "date", 2: "-date"}


class RemoteBlobs:
    """The section."""

    def __init__(self) -> None:
        self._grids: OrderedDict[str, tuple[str, GridRemote]] = OrderedDict()

    def route(self, target: Target) -> Route:
        """Return how a request is answered."""
        names = target.names[1:]
        if len(names) != 3 or not names[0] or not names[1]:
            raise NotFoundError("remotes are at remote-blobs/REMOTE/USER/BLOB_ID")
        if not names[2]:
            return chosen({"GET": Route(self._list, credentials=_check_token)}, target.method)
        routes = {
            "GET": Route(self._get, credentials=_check_token),
            "PUT": Route(self._put, A_FILE, credentials=_check_token),
            "DELETE": Route(self._delete, credentials=_check_token),
            "POST": Route(self._set_flags, A_TEXT, credentials=_check_token),
        }
        return chosen(routes, target.method)

    # Which remote.

    async def _remote(self, call: Call) -> Remote:
        """Return the remote that a path names.

        Raises:
            BlobRefusedError: it names none. (It is no fault of a blob, and no blob is missing.)
            GridError: the directory cannot be reached now.
        """
        try:
            return await self._named(call)
        except (UsageError, FormatError, NoRootError, NotDirectoryError, NotMutableError) as error:
            raise BlobRefusedError(str(error)) from error

    async def _named(self, call: Call) -> Remote:
        kind, _, rest = call.target.names[1].partition(":")
        if kind == "grid":
            return await self._grid(call, rest)
        if kind != "amp":
            raise BadArgumentValueError("A remote is grid:PATH or amp:NODEID.")
        node_id = parse_node_id(rest.removeprefix("//"))
        _user, said = credentials_of(call.request.getHeader("Authorization") or "")
        token = (said or "").partition(".")[2]
        credentials = Credentials(call.target.names[2], token) if token else None
        return call.gateway.core.blob_peers.remote(node_id, credentials)

    async def _grid(self, call: Call, path: str) -> GridRemote:
        """Return the remote that a directory is.

        Its listings are remembered, but what is at the path is looked up each time: what went
        into a directory that was taken away nobody would look after.
        """
        core = call.gateway.core
        await core.settle_directories(lambda: None)
        root = await blobs_root(core, path)
        cap, known = self._grids.get(path, ("", None))
        if known is None or cap != root.get_uri():
            known = await grid_blobs(core, path, root)
            self._grids[path] = (root.get_uri(), known)
            if len(self._grids) > _MOST_REMEMBERED:
                self._grids.popitem(last=False)
        else:
            self._grids.move_to_end(path)
        return known

    # What is done there.

    async def _put(self, call: Call) -> Answer:
        if call.request.getHeader("Content-Range") is not None:
            raise BadRequestError("a blob comes as a whole here")
        body = call.body.source if isinstance(call.body, FileBody) else Data(b"")
        source = await _Source.of(call, body)
        tag = announced_tag(call)
        if tag is not None and tag != source.tag:
            raise InvalidBlobError("the body does not end with the tag")
        await (await self._remote(call)).put(_name(call), source)
        return answers.text("")

    async def _get(self, call: Call) -> Answer | None:
        remote, name = await self._remote(call), _name(call)
        if call.flag("only_flags", default=False):
            return answers.as_json(list(await remote.get_flags(name)))
        stat = await remote.stat(name)
        try:
            wanted = read_range(call.request.getHeader("Range") or "", stat.size)
        except RangeError as error:
            error.headers["Tag"] = tag_text(stat.tag)
            raise
        start, end = (wanted.start, wanted.end) if wanted else (0, stat.size)
        if call.target.method == "HEAD":
            begin_blob(call, stat, start, end, ranged=wanted is not None)
            call.request.finish()
            return None
        opened = await remote.get(name, start)
        try:
            await _send(call, stat, opened, start, end, ranged=wanted is not None)
        finally:
            await opened.close()
        return None

    async def _delete(self, call: Call) -> Answer:
        await (await self._remote(call)).delete(_name(call))
        return answers.text("")

    async def _set_flags(self, call: Call) -> Answer:
        await (await self._remote(call)).set_flags(_name(call), announced_flags(call))
        return answers.text("")

    async def _list(self, call: Call) -> Answer | None:
        remote = await self._remote(call)
        if call.flag("namespaces", default=False):
            return answers.as_json(list(await remote.namespaces()))
        said = selection_of(call)
        query = Query(said.namespace, said.flag, said.deleted)
        if call.flag("only_count", default=False):
            return answers.as_json({"count": await remote.count(query)})
        order, after, limit = _ORDERS[said.order], call.arg("after"), call.arg("limit")
        if limit is None:
            await stream(call, answers.JSON, _all(remote, query, order, after))
            return None
        if not (limit.isascii() and limit.isdecimal() and len(limit) < 6):
            raise BadRequestError(f"limit= is 1 to {MAX_PAGE_IDS}")
        page = await remote.page(query, order, after, int(limit))
        headers = {} if page.after is None else {"Next": page.after}
        told = answers.as_json(list(page.blob_ids))
        return Answer(told.body, 200, answers.JSON, headers)


def _check_token(request: GatewayRequest) -> None:
    """Let in who knows the token of the gateway.

    Raises:
        WebError: this is not so.
    """
    _user, said = credentials_of(request.getHeader("Authorization") or "")
    if not request.gateway.tokens.allows((said or "").partition(".")[0]):
        refused = WebError(
            "the token of this gateway is asked for",
            401,
            WWW_Authenticate='Token realm="ampgrid remotes"',
        )
        refused.guessed = said is not None
        raise refused


def _name(call: Call) -> BlobName:
    return BlobName(namespace_of(call), call.target.names[3])


async def _send(
    call: Call, stat: Stat, opened: SealedStream, start: int, end: int, *, ranged: bool
) -> None:
    """Send bytes of a blob; what fails before the first gets a status of its own."""
    if (opened.size, opened.tag) != (stat.size, stat.tag):
        raise InvalidBlobError("the remote says one thing and another of the blob")
    piece = await opened.read()
    begin_blob(call, stat, start, end, ranged=ranged)
    operation = Operation()
    out = Outflow(call.request, call.gateway.core.clock, operation)
    try:
        while start < end:
            if not piece:
                raise InvalidBlobError("the remote gave fewer bytes than it said")
            await out.send(piece[: end - start])
            start += len(piece)
            if start < end:
                piece = await opened.read()
                operation.check()
    except BaseException:
        out.leave()
        raise
    out.end()


async def _all(
    remote: Remote, query: Query, order: OrderBy, after: str | None
) -> AsyncIterator[str]:
    """Yield the JSON of a whole listing."""
    before, total = "[", 0
    while True:
        # Asked before anything is sent, so that a refusal gets a status of its own.
        page = await remote.page(query, order, after)
        total += len(page.blob_ids)
        if total > MOST_IDS:
            raise RemoteUnavailableError("The remote's listing has no end.")
        yield before + ", ".join(f'"{blob_id}"' for blob_id in page.blob_ids)
        before, after = ", ", page.after
        if after is None:
            break
    yield "]\n"


class _Source:
    """A body as a source (`ampgrid.blobs.port.SealedSource`)."""

    def __init__(self, call: Call, body: Uploadable, tag: bytes) -> None:
        self._threads = call.gateway.spool.threads
        self._body = body
        self.size = body.get_size()
        self.tag = tag

    @classmethod
    async def of(cls, call: Call, body: Uploadable) -> _Source:
        """Return the source that a body is; raises `InvalidBlobError` if it is too short."""
        size = body.get_size()
        if size < TAG_SIZE:
            raise InvalidBlobError("no sealed blob is as short as this")
        reading = call.gateway.spool.threads.run(body.read_at, size - TAG_SIZE, TAG_SIZE)
        return cls(call, body, await reading)

    async def read(self, offset: int, length: int) -> bytes:
        """Return bytes."""
        return await self._threads.run(self._body.read_at, offset, min(length, self.size - offset))
