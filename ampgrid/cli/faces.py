"""What serves a node's users beside its control socket."""

from __future__ import annotations

from typing import Any

from ampgrid.node.config import NodeConfig
from ampgrid.node.directory import NodeDirectory
from ampgrid.node.node import Face


def face_of(directory: NodeDirectory, config: NodeConfig, reactor: Any) -> Face | None:
    """Return the web gateway of a node; None if it is to have none, which then costs nothing.

    Raises:
        ConfigError: the file ``webport`` cannot be used.
    """
    # A node that was killed leaves it behind.
    directory.node_url_path.unlink(missing_ok=True)
    if config.kind != "node" or (directory.web_port() or config.web_port) == "none":
        return None
    from ampgrid.web.face import WebFace

    return WebFace(directory, config, reactor)
