"""Uploading one of many files, and knowing when none of the others would fare better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ampgrid.cli import console
from ampgrid.cli.gridpaths import read_object
from ampgrid.commands.errors import NotHappyEnoughError
from ampgrid.errors import NotEnoughPeersError

if TYPE_CHECKING:
    from ampgrid.cli.console import ProgressBar
    from ampgrid.cli.control import Conversation


async def upload_one(
    node: Conversation,
    descriptor: int,
    bar: ProgressBar,
    shares: dict[str, int] | None = None,
    *,
    inline: bool = False,
) -> str:
    """Upload what a descriptor reads and return its cap.

    Args:
        node: to speak with.
        descriptor: of the file.
        bar: shows how far it is.
        shares: arguments of `Upload` for k, happiness and n.
        inline: whether the cap is then linked, and may hold a small file.

    Raises:
        NotEnoughPeersError: fewer storage peers are connected than any file needs.
        NotHappyEnoughError: this file could not be placed well enough.
    """
    from ampgrid.commands.control import Upload

    given = shares or {}
    try:
        answer = await node.watched(Upload, bar=bar, descriptor=descriptor, inline=inline, **given)
    except NotHappyEnoughError as error:
        connected, happy = await _peers(node, given)
        if connected >= happy:
            raise
        raise NotEnoughPeersError(
            f"{console.describe(error)}; every further file needs as many, so it ends here"
        ) from None
    return str(answer["cap"])


async def _peers(node: Conversation, given: dict[str, int]) -> tuple[int, int]:
    """Return how many storage peers are connected, and how many servers a file needs."""
    from ampgrid.commands.control import Status

    status: dict[str, Any] = read_object((await node.call(Status))["status"])
    return status["storage_peers"], given.get("happy") or int(status["shares"].split("/")[1])
