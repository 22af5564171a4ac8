"""Remotes of blobs that only a node reaches: through the web gateway of the node here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from attrs import field, frozen

from ampgrid.cli.session import Session
from ampgrid.errors import NotRunningError

if TYPE_CHECKING:
    from ampgrid.blobs.http import HttpRemote

#: What such addresses begin with.
SCHEMES = ("grid:", "amp:")
#: An upload to the grid may take so long after its last byte was handed to the node, seconds.
_PATIENCE = 3600.0


@frozen
class Way:
    """The way to a remote through the node here.

    Attributes:
        url: of the remote at the node's gateway.
        own: the token of the gateway. Secret.
    """

    url: str
    own: str = field(repr=False)

    def remote(self, reactor: Any, user: str, token: str | None) -> HttpRemote:
        """Return the remote.

        Args:
            reactor: Twisted's.
            user: the name at a peer.
            token: that proves it to the peer; None to be known as this node.
        """
        from ampgrid.blobs.httpagent import open_http_remote

        return open_http_remote(
            reactor,
            self.url,
            user,
            f"{self.own}.{token}" if token else self.own,
            stall_seconds=_PATIENCE,
            over_network=True,
            explains=True,
        )


def way_through_node(session: Session, address: str) -> Way:
    """Return the way to a remote through the node of the session.

    Args:
        session: of the command.
        address: ``grid:PATH`` or ``amp:NODEID``.

    Raises:
        NotRunningError: the node does not run, or has no gateway.
        ConfigError: the node directory cannot be used.
    """
    import os

    from ampgrid.crypto import b2a

    directory = session.directory
    directory.require()
    url = directory.node_url()
    if url is None:
        raise NotRunningError(
            f"The remote {address.partition(':')[0]}: is reached through the web gateway of the "
            f"node in {directory.path}, which does not run: start the node, with a gateway."
        )
    own = b2a(directory.web_token(os.urandom))
    return Way(f"{url}remote-blobs/{quote(address, safe='')}/", own)
