"""Under which addresses a node is reached: as configured, or derived from where it listens."""

from __future__ import annotations

import socket

from ampgrid.errors import ConfigError
from ampgrid.formats.address import Address, Hint
from ampgrid.node.config import NodeConfig
from ampgrid.node.directory import NodeDirectory

_WILDCARDS = {"0.0.0.0": socket.AF_INET, "::": socket.AF_INET6}  # noqa: S104 - compared with
# Addresses of documentation (RFC 5737, RFC 3849): never answered, so only the route matters.
_FAR_AWAY = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def _own_address(family: socket.AddressFamily) -> str | None:
    """Return the machine's address on its way out; a datagram socket sends nothing for it."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_FAR_AWAY[family], 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def advertised_hints(config: NodeConfig, port: int | None) -> tuple[Hint, ...]:
    """Return where others may dial the node.

    Args:
        config: the node's settings; ``addresses`` outranks everything.
        port: the port it listens on, None if it does not (yet).

    Returns:
        (host, port) pairs. For a node that listens on every interface, the machine's addresses
        on its way out, or the loopback where there is no way out; none for a node that only
        dials.
    """
    if config.addresses:
        return config.addresses
    if config.listen is None or port is None:
        return ()
    host = config.listen[0]
    if host not in _WILDCARDS:
        return ((host, port),)
    # A socket on :: takes IPv4 as well on most systems.
    families = [socket.AF_INET, *([socket.AF_INET6] if host == "::" else [])]
    found = [own for family in families if (own := _own_address(family)) is not None]
    return tuple((own, port) for own in found) or (("127.0.0.1", port),)


def address_of(directory: NodeDirectory) -> Address:
    """Return the address of the node in ``directory``, which need not run.

    An introducer's holds the grid's secret, if the grid is closed.

    Raises:
        ConfigError: the directory cannot be used, or the node has no address (yet).
    """
    config = directory.load_config()
    port = (config.listen[1] or directory.listen_port()) if config.listen else None
    hints = advertised_hints(config, port)
    if not hints and config.listen is None:
        raise ConfigError("This node only dials (listen is none), so it has no address.")
    if not hints:
        raise ConfigError(
            f"The node in {directory.path} picks its port at its first run; start it once."
        )
    holds_secret = config.kind == "introducer" and not config.is_open
    secret = directory.grid_secret(config) if holds_secret else None
    return Address(directory.identity().node_id, hints, secret)
