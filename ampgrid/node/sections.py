"""What an import of a recovery file kept as it was, since the version at hand did not know it."""

from __future__ import annotations

from pathlib import Path

from ampgrid.crypto.keyfile import sync_directory
from ampgrid.errors import ConfigError
from ampgrid.node.directory import SECTION_PREFIX, NodeDirectory


def adopt_sections(directory: NodeDirectory) -> None:
    """Take what an import by an older version kept as it was and this one knows.

    Raises:
        ConfigError: the disk refused.
    """
    for name, path in adopted_sections(directory).items():
        section = directory.private / f"{SECTION_PREFIX}{name}"
        try:
            if section.exists() and not path.exists():
                section.rename(path)
                sync_directory(directory.private)
        except OSError as error:
            raise ConfigError(f"{section} could not be renamed: {error.strerror}.") from error


def adopted_sections(directory: NodeDirectory) -> dict[str, Path]:
    """Return the sections that are files of their own by now, {name: path}."""
    return {
        "private-root": directory.root_path,
        "public-root": directory.public_root_path,
        "aliases": directory.aliases_path,
    }
