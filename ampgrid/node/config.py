"""``node.toml``: what it may say, read once into a frozen `NodeConfig`.

Every key is known by name, typed and bounded; anything else is refused with the name of the
table and the key, so that a misspelt setting is never silently without effect. The file is
described for its readers in ``docs/reference/node-toml.md``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from attrs import frozen

from ampgrid.crypto.identity import parse_node_id
from ampgrid.errors import (
    AmpgridError,
    BadAddressError,
    BadArgumentValueError,
    ConfigError,
    FormatError,
    UsageError,
)
from ampgrid.formats import announcement
from ampgrid.formats.address import Address, Hint, parse_address, parse_hint
from ampgrid.formats.segments import DEFAULT_MAX_SEGMENT_SIZE, MAX_SEGMENT_SIZE
from ampgrid.node.sizes import MAX_SIZE, parse_size

#: The version of node.toml that is written and read.
CONFIG_VERSION: Final = 1

#: The largest node.toml taken, bytes.
MAX_CONFIG_BYTES: Final = 256 * 1024

#: Bounds of ``[upload] max_segment_size``, bytes, and what it is when nothing is said.
LEAST_SEGMENT_SIZE: Final = 1024
MOST_SEGMENT_SIZE: Final = MAX_SEGMENT_SIZE
DEFAULT_SEGMENT_SIZE: Final = DEFAULT_MAX_SEGMENT_SIZE

DEFAULT_RESERVE: Final = 1_000_000_000

#: Days that a share without a lease is kept.
DEFAULT_GRACE_DAYS: Final = 1
MOST_GRACE_DAYS: Final = 365
#: Days within which every share is hashed again, and what that reads, bytes a second.
DEFAULT_SCRUB_DAYS: Final = 30
MOST_SCRUB_DAYS: Final = 365
DEFAULT_SCRUB_RATE: Final = 20_000_000
_MAX_ENTRIES = 1000

#: Bounds of ``[keeper] every_days``: leases last 31 days, and one walk may fail.
LEAST_KEEPER_DAYS: Final = 1
MOST_KEEPER_DAYS: Final = 14
DEFAULT_KEEPER_DAYS: Final = 7
#: Bounds of ``[keeper] bandwidth``, bytes a second: with less, servers give half-sent shares up.
LEAST_BANDWIDTH: Final = 100_000
MOST_BANDWIDTH: Final = 10**12
DEFAULT_BANDWIDTH: Final = 2_000_000

#: Where the web gateway listens when nothing is said, an endpoint description.
DEFAULT_WEB_PORT: Final = "tcp:8011:interface=127.0.0.1"
_ENDPOINT = re.compile(r"(tcp|ssl|tcp6|unix|systemd):[ -~]{1,500}")
_WEB_HOST = re.compile(r"([a-zA-Z0-9._-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(:[0-9]{1,5})?")
#: The most bytes of blobs that one user may have, when nothing is said.
DEFAULT_USER_QUOTA: Final = 1_000_000_000

Kind = Literal["introducer", "node"]

#: ``full``: what was acknowledged is on the disk; ``none``: it will be, if the power stays.
Durability = Literal["full", "none"]


@frozen
class EncodingParameters:
    """How files are spread: ``needed`` of ``total`` shares, on ``happy`` servers at least.

    Attributes:
        needed: shares that give the file back (k), 1 to ``total``.
        happy: distinct servers that must hold them, 1 to ``total``.
        total: shares that are made (n), 1 to 256.
    """

    needed: int
    happy: int
    total: int

    @classmethod
    def parse(cls, text: str) -> EncodingParameters:
        """Read ``K/HAPPY/N``.

        Raises:
            BadArgumentValueError: malformed, or out of bounds.
        """
        match = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})/([0-9]{1,3})", text.strip(), re.ASCII)
        if match is None:
            raise BadArgumentValueError(f"{text[:40]!r} is not K/HAPPY/N, such as 3/7/10.")
        needed, happy, total = (int(number) for number in match.groups())
        if not 1 <= total <= 256:
            raise BadArgumentValueError(f"N is {total}; it must be 1 to 256.")
        if not 1 <= needed <= total:
            raise BadArgumentValueError(f"K is {needed}; it must be 1 to N, which is {total}.")
        if not 1 <= happy <= total:
            raise BadArgumentValueError(f"HAPPY is {happy}; it must be 1 to N, which is {total}.")
        return cls(needed, happy, total)

    def __str__(self) -> str:
        return f"{self.needed}/{self.happy}/{self.total}"


@frozen
class NodeConfig:
    """All settings of one node, checked.

    Attributes:
        kind: ``introducer`` or ``node``.
        nickname: what people call it; empty for none.
        listen: interface and port to listen on, port 0 to pick one at the first run and keep
            it; None for a node that only dials.
        addresses: (host, port) pairs under which others reach it; empty to derive them.
        introducers: where to announce oneself. A secret in an address is the grid's.
        peers: peers known by hand.
        is_open: whether Hello goes without a proof of the grid's secret.
        allow: node ids (20 bytes) that may connect; empty for every member.
        shares: outranks the introducer's advice; of an introducer, its advice; None if unset.
        public_root: whether this introducer makes the grid's public root.
        storage_enabled: whether it keeps shares for others.
        reserve: bytes of the disk that stay free.
        quota: bytes that all shares together may take; None for no such bound.
        expire: whether shares without a lease are deleted.
        expire_grace_days: how long they have been without one before that, days.
        scrub_days: days within which every share is hashed again.
        scrub_rate: what that reads at most, bytes a second.
        durability: whether a share or a blob is on the disk before it is acknowledged.
        vdrive: whether it keeps directories for others; None: if it keeps shares.
        vdrive_quota: bytes that all directories together may take; None for no such bound.
        blobs_enabled: whether it keeps blobs for others.
        blobs_quota: bytes that all blobs together may take; None for no such bound.
        blobs_user_quota: bytes that the blobs of one user may take.
        blobs_members: whether every node of the grid is such a user, beside those with a token.
        max_segment_size: segments of a file are at most so large, bytes.
        keeper_enabled: whether it keeps what it has put alive by itself.
        keeper_days: days within which every kept file is looked at.
        repair_below: servers of happiness below which a file is repaired; None for the
            happiness that it was put with.
        keeper_bandwidth: what the keeper moves at most, bytes a second.
        web_port: where the web gateway listens, an endpoint description of Twisted; ``none``
            for no gateway; None for `DEFAULT_WEB_PORT`, or another port if that is taken.
        web_hosts: names (``HOST`` or ``HOST:PORT``) under which browsers may reach the gateway,
            beside those of the loopback interface and its own address.
    """

    kind: Kind
    nickname: str = ""
    listen: Hint | None = ("0.0.0.0", 0)  # noqa: S104 - a node serves its peers
    addresses: tuple[Hint, ...] = ()
    introducers: tuple[Address, ...] = ()
    peers: tuple[Address, ...] = ()
    is_open: bool = False
    allow: frozenset[bytes] = frozenset()
    shares: EncodingParameters | None = None
    public_root: bool = False
    storage_enabled: bool = True
    reserve: int = DEFAULT_RESERVE
    quota: int | None = None
    expire: bool = False
    expire_grace_days: int = DEFAULT_GRACE_DAYS
    scrub_days: int = DEFAULT_SCRUB_DAYS
    scrub_rate: int = DEFAULT_SCRUB_RATE
    durability: Durability = "full"
    vdrive: bool | None = None
    vdrive_quota: int | None = None
    blobs_enabled: bool = False
    blobs_quota: int | None = None
    blobs_user_quota: int = DEFAULT_USER_QUOTA
    blobs_members: bool = True
    max_segment_size: int = DEFAULT_SEGMENT_SIZE
    keeper_enabled: bool = True
    keeper_days: int = DEFAULT_KEEPER_DAYS
    repair_below: int | None = None
    keeper_bandwidth: int = DEFAULT_BANDWIDTH
    web_port: str | None = None
    web_hosts: tuple[str, ...] = ()

    @property
    def vdrive_enabled(self) -> bool:
        """Whether it keeps directories for others."""
        return self.storage_enabled if self.vdrive is None else self.vdrive


def parse_listen(text: str) -> Hint | None:
    """Read where to listen: ``HOST:PORT``, ``[IPv6]:PORT``, or ``none``.

    Raises:
        BadArgumentValueError: malformed.
    """
    if text == "none":
        return None
    try:
        return parse_hint(text, port_zero=True)
    except BadAddressError:
        raise BadArgumentValueError(
            f"{text[:60]!r} is not HOST:PORT, such as 0.0.0.0:7420 or [::]:0 (or none)."
        ) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadArgumentValueError("it must be text in quotes.")
    if any(c < " " or c == "\x7f" for c in value):
        raise BadArgumentValueError("it holds a control character.")
    return value


def _kind(value: object) -> str:
    if value not in {"introducer", "node"}:
        raise BadArgumentValueError('it must be "introducer" or "node".')
    return str(value)


def _durability(value: object) -> str:
    if value not in ("full", "none"):
        raise BadArgumentValueError('it must be "full" or "none".')
    return str(value)


def _nickname(value: object) -> str:
    return check_nickname(_text(value))


def check_nickname(text: str) -> str:
    """Return ``text`` if it can be a nickname.

    Raises:
        BadArgumentValueError: an announcement could not carry it.
    """
    try:
        announcement.check_nickname(_text(text))
    except FormatError as error:
        raise BadArgumentValueError(str(error)) from None
    return text


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise BadArgumentValueError("it must be true or false.")
    return value


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadArgumentValueError('it must be a size, such as "10G" or a number of bytes.')
    if isinstance(value, str):
        return parse_size(value)
    if not 0 <= value <= MAX_SIZE:
        raise BadArgumentValueError(f"it must be from 0 to {MAX_SIZE} bytes.")
    return value


def _segment_size(value: object) -> int:
    size = _size(value)
    if not LEAST_SEGMENT_SIZE <= size <= MOST_SEGMENT_SIZE:
        raise BadArgumentValueError("it must be 1KiB to 16MiB.")
    return size


def _whole(least: int, most: int) -> Callable[[object], int]:
    def read_whole(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise BadArgumentValueError(f"it must be a whole number from {least} to {most}.")
        return value

    return read_whole


def _bandwidth(value: object) -> int:
    rate = _size(value)
    if not LEAST_BANDWIDTH <= rate <= MOST_BANDWIDTH:
        raise BadArgumentValueError("it must be 100K to 1T, bytes a second.")
    return rate


def parse_web_port(text: str) -> str:
    """Read where the web gateway listens: an endpoint description, a port number, or ``none``.

    A bare number is a port of the loopback interface; for another one name the interface.

    >>> parse_web_port("8011")
    'tcp:8011:interface=127.0.0.1'

    Raises:
        BadArgumentValueError: malformed.
    """
    text = text.strip()
    if text == "none":
        return text
    if text.isascii() and text.isdigit():
        if int(text[:6]) > 65_535:
            raise BadArgumentValueError("a port is 0 to 65535.")
        return f"tcp:{int(text)}:interface=127.0.0.1"
    if not _ENDPOINT.fullmatch(text):
        raise BadArgumentValueError(
            f'{text[:60]!r} is no port number and no endpoint, such as "{DEFAULT_WEB_PORT}".'
        )
    return text


def _web_port(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return parse_web_port(str(value))
    return parse_web_port(_text(value))


def _web_host(text: str) -> str:
    if not _WEB_HOST.fullmatch(text):
        raise BadArgumentValueError(f"{text[:60]!r} is not HOST or HOST:PORT.")
    return text.lower()


def _list_of(read: Callable[[str], Any]) -> Callable[[object], tuple[Any, ...]]:
    def read_list(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise BadArgumentValueError("it must be a list, such as [].")
        if len(value) > _MAX_ENTRIES:
            raise BadArgumentValueError(f"it has more than {_MAX_ENTRIES} entries.")
        return tuple(read(_text(item)) for item in value)

    return read_list


#: table -> key -> (attribute of NodeConfig, how its value is read)
_KNOWN: dict[str, dict[str, tuple[str, Callable[[object], object]]]] = {
    "node": {
        "kind": ("kind", _kind),
        "nickname": ("nickname", _nickname),
        "listen": ("listen", lambda value: parse_listen(_text(value))),
        "addresses": ("addresses", _list_of(parse_hint)),
    },
    "grid": {
        "introducers": ("introducers", _list_of(parse_address)),
        "peers": ("peers", _list_of(parse_address)),
        "open": ("is_open", _flag),
        "allow": ("allow", lambda value: frozenset(_list_of(parse_node_id)(value))),
        "shares": ("shares", lambda value: EncodingParameters.parse(_text(value))),
        "public_root": ("public_root", _flag),
    },
    "storage": {
        "enabled": ("storage_enabled", _flag),
        "reserve": ("reserve", _size),
        "quota": ("quota", _size),
        "expire": ("expire", _flag),
        "expire_grace_days": ("expire_grace_days", _whole(1, MOST_GRACE_DAYS)),
        "scrub_days": ("scrub_days", _whole(1, MOST_SCRUB_DAYS)),
        "scrub_rate": ("scrub_rate", _bandwidth),
        "durability": ("durability", _durability),
    },
    "vdrive": {"enabled": ("vdrive", _flag), "quota": ("vdrive_quota", _size)},
    "blobs": {
        "enabled": ("blobs_enabled", _flag),
        "quota": ("blobs_quota", _size),
        "user_quota": ("blobs_user_quota", _size),
        "members": ("blobs_members", _flag),
    },
    "upload": {"max_segment_size": ("max_segment_size", _segment_size)},
    "keeper": {
        "enabled": ("keeper_enabled", _flag),
        "every_days": ("keeper_days", _whole(LEAST_KEEPER_DAYS, MOST_KEEPER_DAYS)),
        "repair_below": ("repair_below", _whole(1, 256)),
        "bandwidth": ("keeper_bandwidth", _bandwidth),
    },
    "web": {"port": ("web_port", _web_port), "hosts": ("web_hosts", _list_of(_web_host))},
}

#: Tables that mean nothing to an introducer, which keeps and uploads nothing.
_NODE_ONLY_TABLES = ("storage", "vdrive", "blobs", "upload", "keeper", "web")


def parse_config(text: str, name: str = "node.toml") -> NodeConfig:
    """Read and check the text of a ``node.toml``.

    Args:
        text: the file's content.
        name: how messages call the file.

    Raises:
        ConfigError: not TOML, another version, an unknown key or a value out of bounds.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not valid TOML: {_where(text, str(error))}.") from None
    version = document.pop("version", None)
    if isinstance(version, bool) or version != CONFIG_VERSION:
        raise ConfigError(
            f"{name} must say version = {CONFIG_VERSION} in its first line; "
            "this ampgrid knows no other."
        )
    values: dict[str, Any] = {}
    for table, content in document.items():
        if table not in _KNOWN:
            raise ConfigError(f"{name}: nothing is called {table!r}; the tables are {_names()}.")
        if not isinstance(content, dict):
            raise ConfigError(f"{name}: {table} is a table; write [{table}] above its keys.")
        values.update(_read_table(name, table, content))
    if "kind" not in values:
        raise ConfigError(f'{name}: [node] kind is missing; it is "introducer" or "node".')
    return _checked_together(name, document, values)


def _where(text: str, problem: str) -> str:
    """Return what is wrong with a text that is no TOML, with the key on that line.

    Args:
        text: the whole text.
        problem: what the reader says; it tells lines by number.
    """
    found = re.search(r"at line ([0-9]{1,9})", problem)
    lines = text.splitlines()
    if found is None or not 1 <= int(found[1]) <= len(lines):
        return problem
    key, equals, _ = lines[int(found[1]) - 1].partition("=")
    key = key.strip()
    problem = problem.replace("Cannot overwrite a value", "it stands there twice")
    # Never what is behind the sign: it may be a secret.
    return f"{key[:60]}: {problem}" if equals and key.isprintable() else problem


def _names() -> str:
    return ", ".join(f"[{table}]" for table in _KNOWN)


def _read_table(name: str, table: str, content: dict[str, object]) -> dict[str, object]:
    values = {}
    for key, value in content.items():
        if key not in _KNOWN[table]:
            known = ", ".join(_KNOWN[table])
            raise ConfigError(f"{name}: [{table}] has no key {key!r}; its keys are {known}.")
        attribute, read = _KNOWN[table][key]
        try:
            values[attribute] = read(value)
        except AmpgridError as error:
            raise ConfigError(f"{name}: [{table}] {key}: {error}") from None
    return values


def _checked_together(name: str, document: dict[str, Any], values: dict[str, Any]) -> NodeConfig:
    if values["kind"] == "introducer":
        for table in _NODE_ONLY_TABLES:
            if table in document:
                raise ConfigError(f"{name}: [{table}] means nothing to an introducer; remove it.")
        if values.get("listen", "") is None:
            raise ConfigError(f"{name}: [node] listen: an introducer has to listen somewhere.")
        values["storage_enabled"] = False
    elif values.get("public_root"):
        raise ConfigError(f"{name}: [grid] public_root: only an introducer makes it; remove it.")
    config = NodeConfig(**values)
    for label, addresses in (("introducers", config.introducers), ("peers", config.peers)):
        node_ids = [address.node_id for address in addresses]
        if len(set(node_ids)) != len(node_ids):
            raise ConfigError(f"{name}: [grid] {label}: one node id stands there twice.")
    try:
        common_secret(config.introducers)
    except UsageError as error:
        raise ConfigError(f"{name}: [grid] introducers: {error}") from None
    return config


def common_secret(addresses: tuple[Address, ...]) -> bytes | None:
    """Return the grid's secret that the addresses of introducers carry, if any does.

    Raises:
        BadArgumentValueError: they carry different ones, so they are of different grids.
    """
    secrets = {address.secret for address in addresses if address.secret is not None}
    if len(secrets) > 1:
        raise BadArgumentValueError(
            "the introducers' addresses hold different secrets, so they are of different grids."
        )
    return secrets.pop() if secrets else None


def load_config(path: Path) -> NodeConfig:
    """Read and check a ``node.toml``.

    Raises:
        ConfigError: it cannot be read, or says what it must not.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} could not be read: {error.strerror}.") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text.") from None
    return parse_config(text, str(path))
