"""Looking at a share that a server already had: is it a share of this very file?

A storage index can be squatted: anybody who knows it may have put something there. So a share
that is found on the way of an upload counts only if its URI extension is ours and the chain of
hashes from its blocks leads to the root in it.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, FirstError, gatherResults

from ampgrid.crypto import hashing
from ampgrid.errors import AmpgridError, IntegrityError
from ampgrid.formats import hashtree
from ampgrid.formats.share import (
    MAX_HEADER_SIZE,
    MAX_TAIL_BYTES,
    parse_header,
    unpack_share_hashes,
)
from ampgrid.formats.ueb import UriExtension
from ampgrid.immutable.reader import packed_extension
from ampgrid.storage.client import StorageServer


async def claimed_extension(
    server: StorageServer, storage_index: bytes, number: int, size: int, total: int
) -> bytes | None:
    """Return the hash of the URI extension that a stored share carries, if it fits itself.

    The block hashes themselves are not read: that is what a verify is for.

    Args:
        server: who holds it.
        storage_index: of the file, 16 bytes.
        number: of the share.
        size: of the share, bytes.
        total: number of shares of the file.

    Returns:
        32 bytes, or None for a share that is damaged, or could not be read.
    """
    try:
        head = await server.read(storage_index, number, 0, MAX_HEADER_SIZE)
        header = parse_header(head, size)
        start = header.offset_share_hashes
        if size - start > MAX_TAIL_BYTES:
            return None
        tree_root, tail = await gatherResults(
            [
                Deferred.fromCoroutine(server.read(storage_index, number, place, length))
                for place, length in ((header.offset_block_hashes, 32), (start, size - start))
            ],
            consumeErrors=True,
        )
        chain = unpack_share_hashes(tail[: header.offset_ueb - start])
        packed = packed_extension(header, tail[header.offset_ueb - start :])
        extension = UriExtension.unpack(packed)
        if hashtree.leaf_from_chain(chain, number, total) != tree_root:
            raise IntegrityError("the block hashes do not lead to the share's leaf")
        if hashtree.root_from_chain(chain, number, total) != extension.share_root_hash:
            raise IntegrityError("the share hashes do not lead to the root")
        return hashing.uri_extension_hash(packed)
    except (AmpgridError, FirstError):
        # Damaged, or its server cannot hand it over now: for this upload it is not there.
        return None
