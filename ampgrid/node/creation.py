"""Making a new node or introducer: its keys and secrets, and the text of its ``node.toml``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from attrs import evolve

from ampgrid.crypto.identity import Identity, node_id_text
from ampgrid.errors import BadArgumentValueError, ConfigError
from ampgrid.formats.address import Address, format_hint, parse_address
from ampgrid.node.config import (
    CONFIG_VERSION,
    DEFAULT_RESERVE,
    DEFAULT_WEB_PORT,
    EncodingParameters,
    NodeConfig,
    check_nickname,
    common_secret,
    parse_config,
    parse_listen,
    parse_web_port,
)
from ampgrid.node.directory import GRID_SECRET_BYTES, OWN_SECRET_BYTES, NodeDirectory
from ampgrid.node.newdirectory import OwnSecrets, write_directory
from ampgrid.node.sizes import format_size, parse_size
from ampgrid.ports import Entropy

#: Every interface, and a port that the first run picks and keeps.
DEFAULT_LISTEN = "0.0.0.0:0"


def create_introducer(
    path: str | os.PathLike[str],
    *,
    listen: str = DEFAULT_LISTEN,
    shares: EncodingParameters | None = None,
    open_: bool = False,
    introducers: Sequence[str | Address] = (),
    public_root: bool = False,
    entropy: Entropy = os.urandom,
) -> NodeDirectory:
    """Make the directory of an introducer, and with it the secret of a new grid.

    Args:
        path: where; missing or empty.
        listen: ``HOST:PORT``.
        shares: what it advises to its peers; None to advise nothing.
        open_: whether anybody may join without the secret.
        introducers: addresses of the grid's other introducers, whose secret it then shares, and
            which it meets as any node does.
        public_root: whether it makes a public root for the grid, which every member can write.
        entropy: where keys and secrets come from.

    Raises:
        ConfigError: something is there already, or the disk refused.
        UsageError: an argument is malformed, or the introducers are of different grids.
    """
    addresses = _addresses(introducers)
    secret = _secret_of(addresses, open_=open_)
    config = NodeConfig(
        kind="introducer",
        introducers=tuple(evolve(address, secret=None) for address in addresses),
        listen=parse_listen(listen),
        shares=shares,
        public_root=public_root,
        is_open=open_,
        storage_enabled=False,
    )
    if config.listen is None:
        raise BadArgumentValueError("An introducer has to listen somewhere.")
    return _create(path, config, secret or entropy(GRID_SECRET_BYTES), entropy)


def create_node(
    path: str | os.PathLike[str],
    *,
    introducers: Sequence[str | Address] = (),
    listen: str = DEFAULT_LISTEN,
    nickname: str = "",
    storage: bool = True,
    blobs: bool = False,
    reserve: int = DEFAULT_RESERVE,
    quota: int | None = None,
    shares: EncodingParameters | None = None,
    open_: bool = False,
    web: str | None = None,
    entropy: Entropy = os.urandom,
) -> NodeDirectory:
    """Make the directory of a node.

    Args:
        path: where; missing or empty.
        introducers: their addresses, with the grid's secret. Without any, the node makes the
            secret of a grid of its own, for peers that are listed by hand.
        listen: ``HOST:PORT``, or ``none`` for a node that only dials.
        nickname: what people call it.
        storage: whether it keeps shares for others.
        blobs: whether it keeps blobs for others.
        reserve: bytes of its disk that stay free.
        quota: bytes that all shares may take together; None for no such bound.
        shares: K/HAPPY/N of its uploads, outranking the introducer's advice; None to follow it.
        open_: whether it speaks with anybody, without a proof of the secret.
        web: where its web gateway listens, a port or an endpoint description; ``none`` for no
            gateway; None for the default.
        entropy: where keys and secrets come from.

    Raises:
        ConfigError: something is there already, or the disk refused.
        UsageError: an argument is malformed, or the introducers are of different grids.
    """
    addresses = _addresses(introducers)
    secret = _secret_of(addresses, open_=open_)
    if not addresses:
        secret = entropy(GRID_SECRET_BYTES)
    config = NodeConfig(
        kind="node",
        nickname=check_nickname(nickname),
        listen=parse_listen(listen),
        # The secret has its own file, so that node.toml can be shown to others.
        introducers=tuple(evolve(address, secret=None) for address in addresses),
        is_open=open_,
        shares=shares,
        storage_enabled=storage,
        blobs_enabled=blobs,
        reserve=reserve,
        quota=quota,
        web_port=None if web is None else parse_web_port(web),
    )
    return _create(path, config, secret, entropy)


def _addresses(introducers: Sequence[str | Address]) -> tuple[Address, ...]:
    addresses = tuple(
        parse_address(each) if isinstance(each, str) else each for each in introducers
    )
    if len({address.node_id for address in addresses}) != len(addresses):
        raise BadArgumentValueError("The same introducer was given twice.")
    return addresses


def _secret_of(addresses: tuple[Address, ...], *, open_: bool) -> bytes | None:
    """Return the secret that introducers' addresses hold, None in an open grid.

    Raises:
        UsageError: they hold none though the grid is closed, or the other way round.
    """
    secret = common_secret(addresses)
    if addresses and secret is None and not open_:
        raise BadArgumentValueError(
            "The introducer's address holds no secret; give all of what 'ampgrid address' prints "
            "there, or, if the grid is open, add --open."
        )
    if secret is not None and open_:
        raise BadArgumentValueError(
            "The introducer's address holds a secret, so its grid is not open; leave out --open."
        )
    return secret


def _create(
    path: str | os.PathLike[str], config: NodeConfig, secret: bytes | None, entropy: Entropy
) -> NodeDirectory:
    text = render_config(config)
    # What was asked for is what will be read.
    if parse_config(text) != config:
        raise ConfigError("These settings cannot be written to a node.toml.")
    is_node = config.kind == "node"
    return write_directory(
        path,
        config.kind,
        text,
        OwnSecrets(
            Identity.create(entropy).to_pem(),
            secret,
            entropy(OWN_SECRET_BYTES) if is_node else None,
            entropy(OWN_SECRET_BYTES) if is_node else None,
        ),
    )


def _quoted(text: str) -> str:
    # JSON's strings are TOML's basic strings, as long as there is no DEL in them.
    return json.dumps(text, ensure_ascii=False)


def _list(items: Sequence[str]) -> str:
    if not items:
        return "[]"
    return "[\n" + "".join(f"    {_quoted(item)},\n" for item in items) + "]"


def _listen(config: NodeConfig) -> str:
    return "none" if config.listen is None else format_hint(config.listen)


_COMMON = """\
version = {version}

# The settings of this {kind}; they are read when it starts.
# Every key: docs/reference/node-toml.md of ampgrid.

[node]
kind = {quoted_kind}
# What people call it, for example in 'ampgrid status'.
nickname = {nickname}
# Where it listens. Port 0: the first run picks one and keeps it in the file listen-port.
# "none": it dials others and is never dialled.
listen = {listen}
# Where others reach it, as ["HOST:PORT"]; empty: derived from the above.
addresses = {addresses}

[grid]
{grid}# true: anybody may connect, without a proof of the secret in private/grid-secret.
open = {open}
# Node ids that alone may connect; empty: every member of the grid.
allow = {allow}
# {shares_meaning}:
# shares that give a file back / servers that must hold them / shares that are made.
{shares}
{public_root}"""

_PUBLIC_ROOT = """\
# true: it makes a public root for the grid, a directory that every member can write.
public_root = {public_root}
"""

_GRID = """\
# {whom} (their secret is in private/grid-secret).
introducers = {introducers}
# Peers known by hand, found without any introducer.
peers = {peers}
"""

_NODE = """\

[storage]
# Whether it keeps shares for others.
enabled = {enabled}
# So much of the disk stays free, and all shares together take at most the quota.
reserve = {reserve}
{quota}
# Whether shares without a lease are deleted, after so many days without one.
expire = {expire}
expire_grace_days = {expire_grace_days}
# Within so many days every share is hashed again, reading so many bytes a second at most.
scrub_days = {scrub_days}
scrub_rate = {scrub_rate}
# "full": shares and blobs are on the disk before that is acknowledged. "none": they are soon
# after it, and a power cut takes the last of them.
durability = {durability}

[vdrive]
# Whether it keeps directories for others; unset: if it keeps shares.
{vdrive}
# All directories together take at most this.
{vdrive_quota}

[blobs]
# Whether it keeps blobs for others.
enabled = {blobs_enabled}
# All blobs together take at most this.
{blobs_quota}
# The blobs of one user take at most this.
user_quota = {blobs_user_quota}
# Whether every node of the grid is a user, beside those who have a token of this node.
members = {blobs_members}

[upload]
# A file is cut into segments of at most this size.
max_segment_size = {max_segment_size}

[keeper]
# Whether it looks after the files that it has put: renews leases, checks, repairs.
enabled = {keeper_enabled}
# Within so many days it looks at each of them.
every_days = {every_days}
# A file on fewer servers of happiness than this is repaired; unset: than it was put with.
{repair_below}
# So many bytes a second it reads and writes at most.
bandwidth = {bandwidth}

[web]
# Where the web gateway listens; "none": there is no gateway.
{web_port}
# Names under which browsers may reach it, beside those of this machine's loopback.
hosts = {web_hosts}
"""


def _size(size: int) -> str:
    """Write a size so that it reads back exactly."""
    text = format_size(size).replace(" ", "").removesuffix("B")
    return _quoted(text) if size >= 1000 and parse_size(text) == size else str(size)


def render_config(config: NodeConfig) -> str:
    """Return a ``node.toml``, commented, that reads back as ``config``."""
    introducer = config.kind == "introducer"
    shares = config.shares or EncodingParameters(3, 7, 10)
    text = _COMMON.format(
        version=CONFIG_VERSION,
        kind=config.kind,
        quoted_kind=_quoted(config.kind),
        nickname=_quoted(config.nickname),
        listen=_quoted(_listen(config)),
        addresses=_list([format_hint(hint) for hint in config.addresses]),
        grid=_GRID.format(
            whom="The grid's other introducers"
            if introducer
            else "Introducers, where the node meets its peers",
            introducers=_list([each.to_string() for each in config.introducers]),
            peers=_list([each.to_string() for each in config.peers]),
        ),
        open=str(config.is_open).lower(),
        allow=_list(sorted(node_id_text(node_id) for node_id in config.allow)),
        shares_meaning="What it advises to its peers"
        if introducer
        else "How files are spread, outranking the introducer's advice",
        shares=("" if config.shares else "# ") + f"shares = {_quoted(str(shares))}",
        public_root=_PUBLIC_ROOT.format(public_root=str(config.public_root).lower())
        if introducer
        else "",
    )
    return text if introducer else text + _render_services(config)


def _render_services(config: NodeConfig) -> str:
    """Return what the ``node.toml`` of a node has beyond an introducer's."""
    return _NODE.format(
        enabled=str(config.storage_enabled).lower(),
        reserve=_size(config.reserve),
        quota='# quota = "500G"' if config.quota is None else f"quota = {_size(config.quota)}",
        vdrive="# enabled = true"
        if config.vdrive is None
        else f"enabled = {str(config.vdrive).lower()}",
        vdrive_quota='# quota = "10G"'
        if config.vdrive_quota is None
        else f"quota = {_size(config.vdrive_quota)}",
        expire=str(config.expire).lower(),
        expire_grace_days=config.expire_grace_days,
        scrub_days=config.scrub_days,
        scrub_rate=_size(config.scrub_rate),
        durability=_quoted(config.durability),
        blobs_enabled=str(config.blobs_enabled).lower(),
        blobs_quota='# quota = "100G"'
        if config.blobs_quota is None
        else f"quota = {_size(config.blobs_quota)}",
        blobs_user_quota=_size(config.blobs_user_quota),
        blobs_members=str(config.blobs_members).lower(),
        max_segment_size=config.max_segment_size,
        keeper_enabled=str(config.keeper_enabled).lower(),
        every_days=config.keeper_days,
        repair_below="# repair_below = 7"
        if config.repair_below is None
        else f"repair_below = {config.repair_below}",
        bandwidth=_size(config.keeper_bandwidth),
        web_port=f"# port = {_quoted(DEFAULT_WEB_PORT)}"
        if config.web_port is None
        else f"port = {_quoted(config.web_port)}",
        web_hosts=_list(config.web_hosts),
    )
