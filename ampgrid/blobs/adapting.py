"""What the adapters of remotes have in common: the same checks, and errors in the same words."""

from __future__ import annotations

from ampgrid.blobs.port import MAX_PAGE_IDS, ORDERS, TAG_SIZE, OrderBy, SealedSource
from ampgrid.errors import (
    BadArgumentValueError,
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobNotFoundError,
    InvalidBlobError,
)
from ampgrid.formats.blobname import BlobName


def missing(name: BlobName | None) -> BlobNotFoundError:
    """Return the error for a blob that is not there."""
    return BlobNotFoundError(f"There is no blob {name}.")


def taken(name: BlobName | None) -> BlobAlreadyExistsError:
    """Return the error for a name under which another blob is."""
    return BlobAlreadyExistsError(f"There is another blob {name} already.")


def deleted(name: BlobName | None) -> BlobDeletedError:
    """Return the error for a name whose blob was deleted lately."""
    return BlobDeletedError(f"The blob {name} was deleted; use another id.")


def check_listing(order_by: OrderBy, most: int) -> None:
    """Check what a page of a listing is asked for with.

    Raises:
        BadArgumentValueError: there is no such order, or no such number of ids.
    """
    if order_by not in ORDERS or not 1 <= most <= MAX_PAGE_IDS:
        raise BadArgumentValueError("An argument of the listing is out of bounds.")


def check_source(source: SealedSource, most: int) -> None:
    """Check what a source says of itself.

    Args:
        source: of a blob that is to be put.
        most: the largest sealed blob, bytes.

    Raises:
        InvalidBlobError: it is no sealed blob.
    """
    if not TAG_SIZE <= source.size <= most or len(source.tag) != TAG_SIZE:
        raise InvalidBlobError("No sealed blob is of such a size.")


async def read_source(source: SealedSource, offset: int, length: int) -> bytes:
    """Return bytes of a source, as many as are asked for; what of its tag is in them is checked.

    Raises:
        InvalidBlobError: it gives too few, or others at its end than its tag.
    """
    piece = await source.read(offset, length)
    if len(piece) != length:
        raise InvalidBlobError("The source of the blob was too short.")
    tag_begin, end = source.size - TAG_SIZE, offset + length
    if end > tag_begin:
        begin = max(offset, tag_begin)
        if piece[begin - offset :] != source.tag[begin - tag_begin : end - tag_begin]:
            raise InvalidBlobError("The source of the blob does not end with its tag.")
    return piece
