"""The remote of blobs that is a peer: its blob service, called over an AMP connection.

Bytes go in pieces with several unanswered, so that the latency of the network does not decide
the pace; no more of them are held here than that. Nothing that the peer says is believed beyond
its bounds: lengths, names and places are checked, and what does not fit is no blob.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.protocols.amp import Command

from ampgrid.blobs.adapting import (
    check_listing,
    check_source,
    deleted,
    missing,
    read_source,
    taken,
)
from ampgrid.blobs.port import (
    MAX_NAMESPACES,
    MAX_PAGE_IDS,
    TAG_SIZE,
    OrderBy,
    Page,
    Query,
    SealedSource,
    Stat,
)
from ampgrid.commands import blobs as commands
from ampgrid.commands import errors as e
from ampgrid.errors import (
    BadArgumentValueError,
    BlobError,
    BlobQuotaError,
    BlobRefusedError,
    InvalidBlobError,
    PeerError,
    RemoteUnavailableError,
)
from ampgrid.formats.blobname import (
    BlobName,
    Flag,
    checked_flags,
    checked_namespace,
    flag_bits,
    flags_of_bits,
)
from ampgrid.formats.blobuser import checked_user
from ampgrid.ports import Connection, Patience

PIECE = commands.MAX_PIECE_BYTES
#: The most unanswered writes of a put, and reads of a stream.
WINDOW = 12
#: Seconds for an answer, and for one that waits for the disk of the peer.
ASK_SECONDS = 30.0
CLOSE_SECONDS = 120.0
#: Seconds that a put which failed waits for the peer to know.
LEAVE_SECONDS = 10.0

_DATES: dict[OrderBy, int] = {None: 0, "date": 1, "+date": 1, "-date": 2}


@frozen
class Credentials:
    """Whom the peer takes the caller for.

    Attributes:
        user: the name under which a token was issued.
        token: the token. Secret.
    """

    user: str
    token: str = field(repr=False)


class PeerRemote:
    """A peer that keeps blobs: an `ampgrid.blobs.port.Remote`.

    Args:
        connection: returns the connection to the peer, None while there is none.
        credentials: a user and a token; None to be known as the node that this is.

    Raises:
        BadArgumentValueError: no user, or no token, is such.
    """

    def __init__(
        self,
        connection: Callable[[], Connection | None],
        credentials: Credentials | None = None,
    ) -> None:
        self._connection = connection
        self._account: dict[str, Any] = {}
        if credentials is not None:
            checked_user(credentials.user)
            token = credentials.token.encode()
            if len(token) > commands.MAX_TOKEN_BYTES:
                raise BadArgumentValueError("The token is longer than one can be.")
            self._account = {"user": credentials.user, "token": token}
        self._numbers = count(1)
        self._closed = False

    # Putting.

    async def put(self, name: BlobName, source: SealedSource) -> None:
        """Store a blob (see `ampgrid.blobs.port.Remote`)."""
        check_source(source, commands.MAX_BLOB_BYTES)
        size, tag = source.size, source.tag
        if size <= PIECE:
            data = await read_source(source, 0, size)
            await self._begin(self._connected(), name, size, tag, data)
            return
        connection = self._connected()
        number, have, done = await self._begin(connection, name, size, tag)
        if not done:
            await _Putting(self, connection, number).run(name, source, have)

    async def _begin(
        self,
        connection: Connection,
        name: BlobName,
        size: int,
        tag: bytes,
        data: bytes | None = None,
    ) -> tuple[int, int, bool]:
        """Announce a blob; return (number of the put, bytes that are there, whether it is)."""
        number = next(self._numbers) % 2**32
        answer = await self.call(
            commands.PutBlob,
            name,
            connection=connection,
            deadline=CLOSE_SECONDS,
            **self.named(name),
            size=size,
            tag=tag,
            put=number,
            data=data,
        )
        if answer["have"] > size or (data is not None and not answer["done"]):
            raise RemoteUnavailableError("The peer gave an answer that makes no sense.")
        return number, answer["have"], answer["done"]

    # Getting.

    async def get(self, name: BlobName, offset: int = 0) -> PeerStream:
        """Return the bytes of a blob (see `ampgrid.blobs.port.Remote`)."""
        if not 0 <= offset <= commands.MAX_BLOB_BYTES:
            raise BadArgumentValueError("No blob has so many bytes.")
        stream = PeerStream(self, self._connected(), name, offset)
        await stream.begin()
        return stream

    async def stat(self, name: BlobName) -> Stat:
        """Return what is known of a blob (see `ampgrid.blobs.port.Remote`)."""
        told = await self.call(commands.StatBlob, name, **self.named(name))
        return Stat(
            told["size"], told["tag"], told["stored_at"] / 1e6, flags_of_bits(told["flags"])
        )

    async def get_flags(self, name: BlobName) -> tuple[Flag, ...]:
        """Return the flags of a blob (see `ampgrid.blobs.port.Remote`)."""
        return (await self.stat(name)).flags

    async def set_flags(self, name: BlobName, flags: Iterable[Flag]) -> None:
        """Set the flags of a blob (see `ampgrid.blobs.port.Remote`)."""
        bits = flag_bits(checked_flags(flags))
        await self.call(commands.SetBlobFlags, name, **self.named(name), flags=bits)

    async def delete(self, name: BlobName) -> None:
        """Delete a blob (see `ampgrid.blobs.port.Remote`)."""
        await self.call(commands.DeleteBlob, name, deadline=CLOSE_SECONDS, **self.named(name))

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
        if after is not None and (len(after) > 300 or not after.isascii()):
            raise BadArgumentValueError("That is no place in a listing.")
        told = await self.call(
            commands.ListBlobs,
            **self._queried(query),
            order=_DATES[order_by],
            after=after,
            most=most,
        )
        ids = tuple(_checked_id(raw) for raw in told["blob_ids"][:most])
        following = told["next"] if ids else None
        if following is not None and (not following.isascii() or following == after):
            raise RemoteUnavailableError("The peer gave an answer that makes no sense.")
        return Page(ids, following)

    async def count(self, query: Query) -> int:
        """Return the number of blobs (see `ampgrid.blobs.port.Remote`)."""
        told = await self.call(commands.CountBlobs, **self._queried(query))
        number: int = told["count"]
        return number

    async def namespaces(self) -> Sequence[str]:
        """Return the namespaces (see `ampgrid.blobs.port.Remote`)."""
        found: list[str] = []
        while len(found) <= MAX_NAMESPACES:
            after = found[-1] if found else None
            told = await self.call(commands.ListNamespaces, **self._account, after=after)
            page = [_checked_namespace(raw) for raw in told["namespaces"]]
            if not page:
                return found
            if sorted({*page, *found[-1:]}) != [*found[-1:], *page]:
                break
            found += page
        raise RemoteUnavailableError("The peer gave an answer that makes no sense.")

    async def space(self) -> tuple[int, int]:
        """Return (bytes that the account takes, bytes that it may take)."""
        told = await self.call(commands.GetBlobSpace, **self._account)
        return told["used"], told["quota"]

    async def close(self) -> None:
        """Let go; what is under way fails at its next step."""
        self._closed = True

    # How it is done.

    def _connected(self) -> Connection:
        connection = None if self._closed else self._connection()
        if connection is None or not connection.connected:
            raise RemoteUnavailableError("There is no connection to the peer.")
        return connection

    def named(self, name: BlobName) -> dict[str, Any]:
        """Return the arguments that every Command about a blob has."""
        return {**self._account, "namespace": name.namespace, "blob_id": name.blob_id}

    def _queried(self, query: Query) -> dict[str, Any]:
        flag = query.filter_flag
        return {
            **self._account,
            "namespace": query.namespace,
            "flag": None if flag is None else flag_bits([flag]),
            "deleted": query.deleted,
        }

    async def call(
        self,
        command: type[Command],
        name: BlobName | None = None,
        /,
        *,
        connection: Connection | None = None,
        operation: object = None,
        deadline: float | Patience = ASK_SECONDS,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Call the peer.

        Args:
            command: what is asked.
            name: of the blob that it is about, for the words of an error.
            connection: to the peer; None for the one that there is now.
            operation: see `ampgrid.ports.Connection.call`.
            deadline: see there.
            arguments: of the Command.

        Raises:
            BlobError: what the peer answered.
            BadArgumentValueError: the peer found an argument to be out of bounds.
            RemoteUnavailableError: there was no answer.
        """
        if connection is None:
            connection = self._connected()
        with _errors(name):
            if self._closed:
                raise RemoteUnavailableError("The remote was closed.")
            return await connection.call(
                command, operation=operation, deadline=deadline, **arguments
            )


class _Putting:
    """One large blob on its way to the peer."""

    def __init__(self, remote: PeerRemote, connection: Connection, number: int) -> None:
        self._remote = remote
        self._connection = connection
        self._number = number
        self._patience = Patience(ASK_SECONDS, CLOSE_SECONDS)
        self._window: deque[Deferred[Any]] = deque()

    async def run(self, name: BlobName, source: SealedSource, have: int) -> None:
        """Send what the peer has not, from ``have`` on; returns once all of it is durable."""
        try:
            await self._send(source, have)
            await self._call(
                commands.FinishBlob, name, deadline=Patience(CLOSE_SECONDS, 5 * CLOSE_SECONDS)
            )
        except Exception as error:
            # Waited for, so that the next put of that name does not find this one.
            keep = not isinstance(error, InvalidBlobError)
            with suppress(BlobError):
                await self._call(commands.LeaveBlob, keep=keep, deadline=LEAVE_SECONDS)
            raise
        finally:
            for writing in self._window:
                _unawaited(writing)

    async def _send(self, source: SealedSource, offset: int) -> None:
        while offset < source.size:
            length = min(PIECE, source.size - offset)
            piece = await read_source(source, offset, length)
            while len(self._window) >= WINDOW:
                await self._window.popleft()
            writing = self._call(
                commands.WriteBlob, deadline=self._patience, offset=offset, data=piece
            )
            self._window.append(Deferred.fromCoroutine(writing))
            offset += length
        # The last ones are waited for by the end of the put, which is asked behind them.

    async def _call(
        self, command: type[Command], name: BlobName | None = None, **arguments: Any
    ) -> dict[str, Any]:
        return await self._remote.call(
            command,
            name,
            connection=self._connection,
            operation=(self, "put"),
            put=self._number,
            **arguments,
        )


class PeerStream:
    """The bytes of a blob on their way here: an `ampgrid.blobs.port.SealedStream`.

    Made by `PeerRemote.get`.
    """

    def __init__(
        self, remote: PeerRemote, connection: Connection, name: BlobName, offset: int
    ) -> None:
        self.size = 0
        self.tag = b""
        self._remote = remote
        self._connection = connection
        self._name = name
        self._offset = offset
        self._asked = offset
        self._patience = Patience(ASK_SECONDS, CLOSE_SECONDS)
        self._window: deque[Deferred[bytes]] = deque()
        self._first = b""
        self._closed = False

    async def begin(self) -> None:
        """Read the first piece, and learn with it what the blob is."""
        told = await self._call(self._asked, PIECE)
        self.size, self.tag = told["size"], told["tag"]
        if self._offset > self.size:
            raise BadArgumentValueError("The blob has fewer bytes than that.")
        if len(told["data"]) != min(PIECE, self.size - self._offset) or self.size < TAG_SIZE:
            raise InvalidBlobError("The peer gave another number of bytes than it said.")
        self._first = told["data"]
        self._asked += len(self._first)

    async def read(self) -> bytes:
        """Return the next bytes, none at the end."""
        if self._closed:
            raise RemoteUnavailableError("The stream was closed.")
        while len(self._window) < WINDOW and self._asked < self.size:
            length = min(PIECE, self.size - self._asked)
            self._window.append(Deferred.fromCoroutine(self._piece(self._asked, length)))
            self._asked += length
        piece, self._first = self._first, b""
        if not piece and self._window:
            piece = await self._window.popleft()
        self._offset += len(piece)
        return piece

    async def _piece(self, offset: int, length: int) -> bytes:
        told = await self._call(offset, length)
        data: bytes = told["data"]
        if (told["size"], told["tag"], len(data)) != (self.size, self.tag, length):
            raise InvalidBlobError("The peer gave other bytes of the blob than it said.")
        return data

    async def _call(self, offset: int, length: int) -> dict[str, Any]:
        return await self._remote.call(
            commands.ReadBlob,
            self._name,
            connection=self._connection,
            operation=(self, "get"),
            deadline=self._patience,
            **self._remote.named(self._name),
            offset=offset,
            length=length,
        )

    async def close(self) -> None:
        """End it."""
        self._closed = True
        window, self._window = self._window, deque()
        for reading in window:
            _unawaited(reading)


def _unawaited(work: Deferred[Any]) -> None:
    """Let nobody hear of the failure of what nobody waits for any more."""
    work.addErrback(lambda _failure: None)


def _checked_id(raw: bytes) -> str:
    try:
        return BlobName.of(raw.decode("ascii")).blob_id
    except (UnicodeDecodeError, BadArgumentValueError) as error:
        raise RemoteUnavailableError("The peer lists what is no id of a blob.") from error


def _checked_namespace(raw: bytes) -> str:
    try:
        return checked_namespace(raw.decode("ascii"))
    except (UnicodeDecodeError, BadArgumentValueError) as error:
        raise RemoteUnavailableError("The peer lists what is no namespace.") from error


@contextmanager
def _errors(name: BlobName | None) -> Iterator[None]:
    """Turn the errors of a connection into those of a remote."""
    try:
        yield
    except e.NoSuchBlobError as error:
        raise missing(name) from error
    except e.BlobExistsWireError as error:
        raise taken(name) from error
    except e.BlobDeletedWireError as error:
        raise deleted(name) from error
    except e.NoSpaceError as error:
        raise BlobQuotaError("The peer has no room for this blob.") from error
    except e.BadBlobError as error:
        raise InvalidBlobError("The peer did not get the blob as it was announced.") from error
    except e.BlobRefusedWireError as error:
        raise BlobRefusedError("The peer keeps no blobs for this user and token.") from error
    except e.NotAllowedError as error:
        raise BlobRefusedError("The peer keeps no blobs.") from error
    except e.BadArgumentError as error:
        raise BadArgumentValueError(f"The peer refused an argument: {error}.") from error
    except PeerError as error:
        raise RemoteUnavailableError(f"The peer could not be asked: {error}.") from error
