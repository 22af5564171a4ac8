"""Listings of a remote, page after page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from ampgrid.blobs.port import MAX_PAGE_IDS, OrderBy, Page, Query, Remote
from ampgrid.blobs.retrying import Retrying


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
        RemoteUnavailableError: it failed too often.
        BadArgumentValueError: ``order_by`` is no order.
    """
    after: str | None = None
    while True:
        page = await retrying.run(partial(remote.page, query, order_by, after, MAX_PAGE_IDS))
        yield page
        after = page.after
        if after is None:
            return
