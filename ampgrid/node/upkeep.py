"""What the stores of a node get from it: settings in the units of their services, and keys."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ampgrid.crypto.hashing import tagged_hash
from ampgrid.crypto.identity import Identity
from ampgrid.node.config import NodeConfig
from ampgrid.storage.upkeep import UpkeepSettings
from ampgrid.store.filesystem import FileSystem, HastyFileSystem, PosixFileSystem
from ampgrid.vdrive.service import VdriveSettings

#: The tags of the keys of the databases that are enciphered under the node's own: of the
#: directories and of the blobs that it keeps for others, and of its user's own blobs.
TAG_DIRECTORIES_KEY = b"ampgrid_node_directory_store_key_v1"
TAG_SERVED_BLOBS_KEY = b"ampgrid_node_blob_store_key_v1"
TAG_LOCAL_BLOBS_KEY = b"ampgrid_node_local_blobs_key_v1"

_DAY_SECONDS = 86_400


def upkeep_settings(config: NodeConfig) -> UpkeepSettings:
    """Return what a storage service of this node does by itself."""
    return UpkeepSettings(
        expire=config.expire,
        grace_seconds=config.expire_grace_days * _DAY_SECONDS,
        scrub_seconds=config.scrub_days * _DAY_SECONDS,
        scrub_rate=config.scrub_rate,
    )


def file_system(config: NodeConfig) -> FileSystem:
    """Return the file system of the shares and blobs that this node keeps for others.

    Directories are not kept on it: a replica that forgets what it promised harms the others.
    """
    return PosixFileSystem() if config.durability == "full" else HastyFileSystem()


def vdrive_settings(config: NodeConfig) -> VdriveSettings:
    """Return what a vdrive service of this node does by itself."""
    return VdriveSettings(
        expire=config.expire, grace_seconds=config.expire_grace_days * _DAY_SECONDS
    )


def directories_key(identity: Identity) -> bytes:
    """Return the key under which a node enciphers its store of directories, 32 bytes.

    It comes of the node's private key: whoever has the disk without ``private/`` reads nothing.
    """
    return _derived(identity, TAG_DIRECTORIES_KEY)


def served_blobs_key(identity: Identity) -> bytes:
    """Return the key under which a node enciphers the database of others' blobs, 32 bytes.

    It comes of the node's private key: whoever has the disk without ``private/`` reads no names.
    """
    return _derived(identity, TAG_SERVED_BLOBS_KEY)


def local_blobs_key(identity: Identity) -> bytes:
    """Return the key of the local store of blobs of whoever has this node, 32 bytes."""
    return _derived(identity, TAG_LOCAL_BLOBS_KEY)


def _derived(identity: Identity, tag: bytes) -> bytes:
    raw = identity.private_key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return tagged_hash(tag, raw)
