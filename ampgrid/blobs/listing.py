"""Listings of a remote, page after page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from ampgrid.blobs.port import MAX_PAGE_IDS, OrderBy, Page, Query, Remote
from ampgrid.blobs.retrying import Retrying
from ampgrid.errors import RemoteUnavailableError

#: The most ids of one listing: a remote that tells more goes round in circles, or lies.
MOST_IDS = 10_000_000


async def pages(
    remote: Remote, retrying: Retrying, query: Query, order_by: OrderBy = None
) -> AsyncIterator[Page]:
    """Yield all pages of a listing, the last of them with no ``after``.

    Args:
        remote: where the blobs are.
        retrying: how it is treated when it fails.
        query: which blobs.
        order_by: see `ampgrid.blobs.port.Remote.page`.

    Raises:
        RemoteUnavailableError: it failed too often, or its listing is none: in no order, or
            without end.
        BadArgumentValueError: ``order_by`` is no order.
    """
    after: str | None = None
    last, total = "", 0
    while True:
        page = await retrying.run(partial(remote.page, query, order_by, after, MAX_PAGE_IDS))
        total += len(page.blob_ids)
        if order_by is None:
            last = _checked_order(page, last)
        goes_on = page.blob_ids and page.after != after
        if page.after is not None and not goes_on:
            raise RemoteUnavailableError("The remote's listing does not go on.")
        if total > MOST_IDS:
            raise RemoteUnavailableError("The remote's listing has no end.")
        yield page
        after = page.after
        if after is None:
            return


def _checked_order(page: Page, last: str) -> str:
    """Return the last id of a page, all of which come behind those of the page before.

    What is missing on one side is found by the order of names, so it must be right.

    Raises:
        RemoteUnavailableError: they do not.
    """
    for blob_id in page.blob_ids:
        if blob_id <= last:
            raise RemoteUnavailableError("The remote's listing is not in the order of names.")
        last = blob_id
    return last
