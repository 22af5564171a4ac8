"""What ``node.toml`` says of the upkeep of shares, in the units of the storage service."""

from __future__ import annotations

from ampgrid.node.config import NodeConfig
from ampgrid.storage.upkeep import UpkeepSettings

_DAY_SECONDS = 86_400


def upkeep_settings(config: NodeConfig) -> UpkeepSettings:
    """Return what a storage service of this node does by itself."""
    return UpkeepSettings(
        expire=config.expire,
        grace_seconds=config.expire_grace_days * _DAY_SECONDS,
        scrub_seconds=config.scrub_days * _DAY_SECONDS,
        scrub_rate=config.scrub_rate,
    )
