"""The remote of blobs that is the grid: erasure-coded files, with their index in directories.

The blobs of a user hang below one directory, the *root*; whoever has its write cap is the user.
It has a directory for each namespace, which is the index (`ampgrid.blobs.gridindex`). A blob's
sealed bytes are a file of the grid like any other. So blobs outlive any peer, as long as somebody
keeps the root: a node does so with all that hangs below its private root or its aliases.

Times are those of the clients' clocks. A put does not go on where it had come to: it begins
again, but shares that are there already are not sent again.

Spec: ``docs/specs/blobs.md#grid``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from ampgrid.blobs.adapting import check_listing, check_source, missing, read_source
from ampgrid.blobs.gridindex import BlobIndex, Entry, in_order
from ampgrid.blobs.gridstream import GridStream
from ampgrid.blobs.port import (
    MAX_NAMESPACES,
    MAX_PAGE_IDS,
    MAX_PIECE_BYTES,
    MOST_BLOB_BYTES,
    OrderBy,
    Page,
    Query,
    SealedSource,
    Stat,
)
from ampgrid.caps import ChkCap, LitCap
from ampgrid.errors import (
    AmpgridError,
    BadArgumentValueError,
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobError,
    BlobQuotaError,
    BlobRefusedError,
    ChildExistsError,
    FileError,
    ForkError,
    FormatError,
    IntegrityError,
    InvalidBlobError,
    NoSuchChildError,
    NotMutableError,
    RemoteUnavailableError,
    RolledBackError,
)
from ampgrid.formats.blobname import BlobName, Flag, checked_flags, checked_namespace
from ampgrid.immutable import Data, Operation, Spool, Uploadable
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.maker import NodeMaker

#: Blobs up to this size wait in memory for their upload, others in a spool, bytes.
MEMORY_BYTES = 256 * 1024
#: What the child of a root is called that is the index of a namespace.
_PREFIX = "blobs-"

#: Ceases to keep a file alive.
Forget = Callable[[ChkCap | LitCap], Awaitable[object]]


async def _keep(_cap: ChkCap | LitCap) -> None:
    """Forget nothing."""


class GridRemote:
    """The blobs below one root: an `ampgrid.blobs.port.Remote`.

    Args:
        root: the directory.
        maker: makes nodes, with uploader and downloader.
        make_spool: returns where a large blob waits for its upload (blocking).
        forget: told of the file of a blob that was deleted.
    """

    def __init__(
        self,
        root: DirectoryNode,
        maker: NodeMaker,
        make_spool: Callable[[], Spool],
        forget: Forget = _keep,
    ) -> None:
        self._root = root
        self._maker = maker
        self._make_spool = make_spool
        self._forget = forget
        self._indexes: dict[str, BlobIndex] = {}
        self._operations: set[Operation] = set()
        self._closed = False

    # Putting.

    async def put(self, name: BlobName, source: SealedSource) -> None:
        """Store a blob (see `ampgrid.blobs.port.Remote`)."""
        check_source(source, MOST_BLOB_BYTES)
        size, tag = source.size, source.tag
        with self._asking():
            index = await self._index(name.namespace)
            if index is not None and not await index.check_free(name.blob_id, size, tag):
                return
        uploadable = await self._spooled(source)
        try:
            with self._asking():
                index = index or await self._made_index(name.namespace)
                cap = await self._upload(uploadable)
                entry = Entry(0, self._maker.wall(), cap, size, tag)
                try:
                    await index.put(name.blob_id, entry)
                except (BlobAlreadyExistsError, BlobDeletedError):
                    # Nothing names the file: nobody shall keep it alive.
                    await self._forget(cap)
                    raise
        finally:
            uploadable.close()

    async def _spooled(self, source: SealedSource) -> Uploadable:
        """Return the bytes of a source where threads can read them."""
        if source.size <= MEMORY_BYTES:
            return Data(b"".join([piece async for piece in _pieces(source)]))
        run = self._maker.threads.run
        with self._asking():
            spool = await run(self._make_spool)
        try:
            async for piece in _pieces(source):
                with self._asking():
                    await run(spool.add, piece)
            spool.end()
        except BaseException:
            spool.close()
            raise
        return spool

    async def _upload(self, uploadable: Uploadable) -> ChkCap | LitCap:
        operation = Operation()
        self._operations.add(operation)
        try:
            maker = self._maker
            uploaded = await maker.uploader.upload(uploadable, maker.encoding(), operation)
        finally:
            self._operations.discard(operation)
        return uploaded.cap

    # Getting.

    async def get(self, name: BlobName, offset: int = 0) -> GridStream:
        """Return the bytes of a blob (see `ampgrid.blobs.port.Remote`)."""
        entry = await self._entry(name)
        assert entry.cap is not None
        if not 0 <= offset <= entry.size:
            raise BadArgumentValueError("The blob has fewer bytes than that.")
        return GridStream(self._maker.downloader, entry.cap, entry.tag, offset)

    async def stat(self, name: BlobName) -> Stat:
        """Return what is known of a blob (see `ampgrid.blobs.port.Remote`)."""
        entry = await self._entry(name)
        return Stat(entry.size, entry.tag, entry.moment, entry.flags)

    async def get_flags(self, name: BlobName) -> tuple[Flag, ...]:
        """Return the flags of a blob (see `ampgrid.blobs.port.Remote`)."""
        return (await self._entry(name)).flags

    async def _entry(self, name: BlobName) -> Entry:
        with self._asking():
            index = await self._index(name.namespace)
            if index is None:
                raise missing(name)
            return await index.get(name.blob_id)

    # Changing.

    async def set_flags(self, name: BlobName, flags: Iterable[Flag]) -> None:
        """Set the flags of a blob (see `ampgrid.blobs.port.Remote`)."""
        checked = checked_flags(flags)
        with self._asking():
            index = await self._index(name.namespace)
            if index is None:
                raise missing(name)
            await index.set_flags(name.blob_id, checked)

    async def delete(self, name: BlobName) -> None:
        """Delete a blob (see `ampgrid.blobs.port.Remote`)."""
        with self._asking():
            index = await self._index(name.namespace)
            if index is None:
                raise missing(name)
            deleted = await index.delete(name.blob_id)
            if deleted is not None and deleted.cap is not None:
                await self._forget(deleted.cap)

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
        ids, following = in_order(await self._chosen(query), order_by, after, most)
        return Page(tuple(ids), following)

    async def count(self, query: Query) -> int:
        """Return the number of blobs (see `ampgrid.blobs.port.Remote`)."""
        return len(await self._chosen(query))

    async def _chosen(self, query: Query) -> dict[str, Entry]:
        with self._asking():
            index = await self._index(query.namespace)
            entries = {} if index is None else await index.all()
        flag = query.filter_flag
        return {
            blob_id: entry
            for blob_id, entry in entries.items()
            if (entry.cap is None) is query.deleted and (flag is None or flag in entry.flags)
        }

    async def namespaces(self) -> Sequence[str]:
        """Return the namespaces (see `ampgrid.blobs.port.Remote`)."""
        with self._asking():
            found = []
            for namespace in sorted(await self._known()):
                index = await self._index(namespace)
                if index is not None and await index.all():
                    found.append(namespace)
            return found

    async def sweep(self) -> int:
        """Forget blobs that were deleted more than 90 days ago; returns how many.

        Raises:
            BlobError: the grid could not be asked, or does not let this.
        """
        swept = 0
        with self._asking():
            for namespace in await self._known():
                index = await self._index(namespace)
                while index is not None and (forgotten := await index.forget_old()):
                    swept += forgotten
        return swept

    async def close(self) -> None:
        """Let go; uploads that are under way end, and other calls at their next step."""
        self._closed = True
        for operation in list(self._operations):
            operation.cancel()

    # Namespaces.

    async def _known(self) -> list[str]:
        """Return the namespaces that have an index."""
        found = []
        for name in await self._root.list():
            if name.startswith(_PREFIX):
                try:
                    found.append(checked_namespace(name.removeprefix(_PREFIX)))
                except BadArgumentValueError:
                    continue
        return found

    async def _index(self, namespace: str) -> BlobIndex | None:
        """Return the index of a namespace, None if there is none yet."""
        known = self._indexes.get(namespace)
        if known is None:
            try:
                child = await self._root.get_child(_PREFIX + namespace)
            except NoSuchChildError:
                return None
            known = self._remember(namespace, child.node)
        return known

    def _remember(self, namespace: str, node: object) -> BlobIndex:
        if not isinstance(node, DirectoryNode):
            raise FormatError("The index of the blobs is no directory.")
        index = BlobIndex(namespace, node, self._maker)
        if len(self._indexes) >= MAX_NAMESPACES:
            self._indexes.clear()
        self._indexes[namespace] = index
        return index

    async def _made_index(self, namespace: str) -> BlobIndex:
        """Make the index of a namespace, unless somebody else has."""
        if len(await self._known()) >= MAX_NAMESPACES:
            raise BlobQuotaError(f"A user has no more than {MAX_NAMESPACES} namespaces.")
        try:
            made = await self._root.create_empty_directory(_PREFIX + namespace)
        except ChildExistsError:
            found = await self._index(namespace)
            if found is None:
                raise
            return found
        return self._remember(namespace, made)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn the errors of the grid into those of a remote."""
        if self._closed:
            raise RemoteUnavailableError("The remote was closed.")
        try:
            yield
        except (BlobError, BadArgumentValueError):
            raise
        except NotMutableError as error:
            raise BlobRefusedError("The cap gives no right to change these blobs.") from error
        except (ForkError, RolledBackError) as error:
            raise RemoteUnavailableError(
                f"The index of the blobs is in doubt: {error}."
            ) from error
        except (IntegrityError, FormatError) as error:
            raise InvalidBlobError(f"The index of the blobs is damaged: {error}.") from error
        except FileError as error:
            raise RemoteUnavailableError(f"The blob could not be spooled: {error}.") from error
        except AmpgridError as error:
            raise RemoteUnavailableError(f"The grid could not be asked: {error}.") from error


async def _pieces(source: SealedSource) -> AsyncIterator[bytes]:
    """Yield the bytes of a source, whose end is checked."""
    for offset in range(0, source.size, MAX_PIECE_BYTES):
        yield await read_source(source, offset, min(MAX_PIECE_BYTES, source.size - offset))
