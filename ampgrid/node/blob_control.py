"""What a node answers on its Unix socket about the users of its blobs."""

from __future__ import annotations

import json
from typing import Any, Protocol

from twisted.protocols import amp

from ampgrid.blobs.service import BlobService
from ampgrid.commands import blob_users as commands
from ampgrid.errors import BlobRefusedError
from ampgrid.node.answering import as_wire_errors

_USERS_PER_PAGE = 200


class Keeping(Protocol):
    """What the Commands need of a node."""

    blobs: BlobService | None


class BlobControlResponder(amp.CommandLocator):
    """Answers the Commands about users of one connection to the socket.

    Args:
        node: whose users they are.
    """

    def __init__(self, node: Keeping) -> None:
        super().__init__()
        self._node = node

    def _service(self) -> BlobService:
        if self._node.blobs is None:
            raise BlobRefusedError(
                "This node keeps no blobs; say enabled = true below [blobs] in its node.toml."
            )
        return self._node.blobs

    @commands.IssueBlobToken.responder
    async def issue_blob_token(self, user: str) -> dict[str, Any]:
        """Give a user a token."""
        with as_wire_errors():
            return {"token": await self._service().issue_token(user)}

    @commands.RevokeBlobToken.responder
    async def revoke_blob_token(self, user: str) -> dict[str, Any]:
        """Take a user's token away."""
        with as_wire_errors():
            return {"had": await self._service().revoke_token(user)}

    @commands.ListBlobUsers.responder
    async def list_blob_users(self, after: str | None = None) -> dict[str, Any]:
        """Tell a page of users."""
        with as_wire_errors():
            users = await self._service().users()
        page = [user for user in users if after is None or user.name > after][:_USERS_PER_PAGE]
        told = [{"user": u.name, "issued_at": u.issued_at, "used": u.used} for u in page]
        return {"users": json.dumps(told)}
