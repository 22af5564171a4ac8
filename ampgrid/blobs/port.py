"""The remote of blobs as a port: what keeps a user's sealed blobs for all of the user's stores.

A remote never sees a key or a plaintext: what it keeps of a blob is its sealed bytes (the format
is not its business), flags, and when it came. It is a peer, the grid or an HTTP server; an
adapter proves itself with the suite ``tests/contract/blob_remote_contract.py``.

Every method is a coroutine and may be called while others are under way. Besides the errors
that it names, each may raise

* `RemoteUnavailableError`: no connection, no answer, a server that is busy or broken. The caller
  tries again later; whatever it was is then as if it had not been asked, or done.
* `BlobRefusedError`: the remote does not accept this user. Trying again is of no use.

No other error is transient, and an adapter lets no error of its own transport out.

Source: `docs/specs/blobs.md#remotes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, TypeAlias

from attrs import field, frozen

from ampgrid.formats.blobname import DEFAULT_NAMESPACE, BlobName, Flag, checked_namespace

#: The most bytes that a stream or a source hands over at once.
MAX_PIECE_BYTES = 64 * 1024
#: The tag of a sealed blob: its last bytes. No sealed blob is shorter.
TAG_SIZE = 16
#: The largest sealed blob, of whatever scheme, bytes.
MOST_BLOB_BYTES = 2**42
#: The most ids in one page of a listing; a remote may give fewer.
MAX_PAGE_IDS = 1000
#: How long a remote remembers that a blob was deleted, seconds.
TOMBSTONE_SECONDS = 90 * 24 * 3600
#: The most namespaces that a user can have at a remote.
MAX_NAMESPACES = 1000

#: How a listing is ordered: by id, by when the blobs came (older first), or newer first.
OrderBy: TypeAlias = Literal["date", "+date", "-date"] | None
ORDERS: tuple[OrderBy, ...] = (None, "date", "+date", "-date")


@frozen
class Query:
    """Which blobs of a namespace a listing or a count is about.

    Attributes:
        namespace: in which they are.
        filter_flag: those alone that have it.
        deleted: those alone that were deleted lately, in the place of those that are there.
    """

    namespace: str = field(
        default=DEFAULT_NAMESPACE,
        validator=lambda _query, _attribute, value: checked_namespace(value) and None,
    )
    filter_flag: Flag | None = None
    deleted: bool = False


@frozen
class Page:
    """Part of a listing.

    Attributes:
        blob_ids: at most `MAX_PAGE_IDS`, in the order asked for.
        after: where the next page begins: opaque, at most 300 characters of ASCII, valid for the
            same query and order as long as the remote lives; None if there is no more.
    """

    blob_ids: tuple[str, ...]
    after: str | None = None


@frozen
class Stat:
    """What a remote knows of a blob.

    Attributes:
        size: of its sealed bytes.
        tag: the last `TAG_SIZE` of these.
        stored_at: when it came, seconds since 1970 by the remote's clock.
        flags: in the order of `Flag`.
    """

    size: int
    tag: bytes
    stored_at: float
    flags: tuple[Flag, ...] = ()


class SealedSource(Protocol):
    """The sealed bytes of a blob that is to be put; the same bytes however often it is asked."""

    @property
    def size(self) -> int:
        """Number of bytes, at least `TAG_SIZE`."""
        ...

    @property
    def tag(self) -> bytes:
        """The last `TAG_SIZE` bytes."""
        ...

    async def read(self, offset: int, length: int) -> bytes:
        """Return bytes.

        Args:
            offset: where they begin, 0 to `size`.
            length: how many, at most `MAX_PIECE_BYTES`.

        Returns:
            As many as were asked for; fewer at the end alone.
        """
        ...


class SealedStream(Protocol):
    """The sealed bytes of a blob on their way here. It is read by one reader, to the end or not.

    Nothing of it is to be believed before the cipher has checked it.
    """

    @property
    def size(self) -> int:
        """Number of bytes of the whole blob, from its beginning."""
        ...

    @property
    def tag(self) -> bytes:
        """The last `TAG_SIZE` bytes of the blob, as the remote says."""
        ...

    async def read(self) -> bytes:
        """Return the next bytes, at most `MAX_PIECE_BYTES` and at least one; none at the end.

        What is not read is not fetched, but for a bounded number of bytes ahead.

        Raises:
            BlobNotFoundError: the blob was deleted meanwhile.
        """
        ...

    async def close(self) -> None:
        """End it, also in the middle; again does nothing. It never raises."""
        ...


class Remote(Protocol):
    """A place for the sealed blobs of one user."""

    async def put(self, name: BlobName, source: SealedSource) -> None:
        """Store a blob; returns once it is durable. Until then nobody sees anything of it.

        A put that failed may be called again, and then goes on where the remote has come to, if
        it can (for the same size and tag; at least for a day after). To put what is there
        already, of the same size and tag, succeeds and changes nothing. An error of ``source``
        is passed on as it is.

        Raises:
            BlobAlreadyExistsError: another blob of that name is there. It stays.
            BlobDeletedError: a blob of that name was deleted within `TOMBSTONE_SECONDS`.
            BlobQuotaError: there is no room for it.
            InvalidBlobError: ``source`` gave too few bytes, or others than its tag at the end;
                what came of it is forgotten.
        """
        ...

    async def get(self, name: BlobName, offset: int = 0) -> SealedStream:
        """Return the bytes of a blob from ``offset`` (0 to its size) on.

        Raises:
            BlobNotFoundError: there is none.
            BadArgumentValueError: it has fewer bytes than ``offset``.
        """
        ...

    async def delete(self, name: BlobName) -> None:
        """Delete a blob, its flags, and what came of one that is on its way.

        Returns once it is durable that the blob is gone and was deleted; again does nothing.

        Raises:
            BlobNotFoundError: there is none, and none was deleted lately.
        """
        ...

    async def stat(self, name: BlobName) -> Stat:
        """Return what the remote knows of a blob.

        Raises:
            BlobNotFoundError: there is none.
        """
        ...

    async def get_flags(self, name: BlobName) -> tuple[Flag, ...]:
        """Return the flags of a blob, in the order of `Flag`.

        Raises:
            BlobNotFoundError: there is none.
        """
        ...

    async def set_flags(self, name: BlobName, flags: Iterable[Flag]) -> None:
        """Let a blob have these flags and no others.

        Raises:
            BlobNotFoundError: there is none.
            InvalidFlagsError: one of them is no flag; nothing is changed.
        """
        ...

    async def page(
        self,
        query: Query,
        order_by: OrderBy = None,
        after: str | None = None,
        most: int = MAX_PAGE_IDS,
    ) -> Page:
        """Return a page of ids.

        While blobs come and go, those that do neither are in exactly one page.

        Args:
            query: which blobs.
            order_by: None for the order of ids (by byte); the order of dates is total, so that
                blobs of one moment are in the order in which they came. Of deleted ones it is
                the date of the deletion that counts.
            after: that of the page before, None for the first.
            most: ids in the page, 1 to `MAX_PAGE_IDS`.

        Raises:
            BadArgumentValueError: ``after`` is no such thing, or an argument is out of bounds.
        """
        ...

    async def count(self, query: Query) -> int:
        """Return the number of blobs, complete ones alone."""
        ...

    async def namespaces(self) -> Sequence[str]:
        """Return the namespaces that have a blob or a deleted one, sorted."""
        ...

    async def close(self) -> None:
        """Let go of what it holds; calls that are under way fail."""
        ...
