"""Hello: the proof of membership, and what the two ends tell each other.

Each end proves for itself that it knows the grid's secret: HMAC-SHA-256 over its role, both
public keys and bytes of this very TLS session. So a proof fits one sender, one pair of nodes
and one session; it can be neither reflected nor carried to another connection.

Spec: ``docs/specs/wire.md``, "Hello".
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import attrs

from ampgrid.commands.errors import VersionMismatchError, WrongGridError
from ampgrid.commands.session import OLDEST_VERSION, PROTOCOL_VERSION
from ampgrid.errors import FormatError
from ampgrid.formats.announcement import check_nickname

_DOMAIN = b"ampgrid hello 1\0"
DIALLER = b"dialler\0"
LISTENER = b"listener"

#: What a node takes at once from one peer: calls, and bytes of calls it has not answered.
MAX_CALLS = 32
MAX_BYTES = 1024 * 1024
#: The most that is used of what another node says it takes: what is on its way costs memory here.
MOST_CALLS_USED = 256
MOST_BYTES_USED = 8 * 1024 * 1024


@attrs.frozen
class Facts:
    """What a node tells of itself in Hello.

    Attributes:
        services: names of the services that it offers to the other end.
        nickname: a name for people; proves nothing.
        software: name and version of the program.
    """

    services: frozenset[str] = frozenset()
    nickname: str = ""
    software: str = ""


@attrs.frozen
class Heard:
    """What the other end told in Hello.

    Attributes:
        facts: its facts.
        version: the newest protocol version that both ends speak.
        max_calls: the calls to have in flight at most: what it takes, within reason.
        max_bytes: the bytes of unanswered calls to have in flight at most, likewise.
    """

    facts: Facts
    version: int
    max_calls: int
    max_bytes: int


@attrs.frozen
class Session:
    """What binds a proof to one TLS session.

    Attributes:
        dialler_spki: DER of the public key of the end that dialled.
        listener_spki: DER of the public key of the end that listened.
        exported: 32 bytes of the TLS exporter.
    """

    dialler_spki: bytes
    listener_spki: bytes
    exported: bytes

    def proof(self, secret: bytes, role: bytes) -> bytes:
        """Return the proof of the end in ``role``, 32 bytes."""
        message = b"".join(
            (
                _DOMAIN,
                role,
                hashlib.sha256(self.dialler_spki).digest(),
                hashlib.sha256(self.listener_spki).digest(),
                self.exported,
            )
        )
        return hmac.digest(secret, message, "sha256")


def say(facts: Facts, proof: bytes) -> dict[str, Any]:
    """Return the arguments (or the answer) of Hello."""
    return {
        "version": PROTOCOL_VERSION,
        "oldest": OLDEST_VERSION,
        "services": ",".join(sorted(facts.services)),
        "software": facts.software,
        "nickname": facts.nickname,
        "max_calls": MAX_CALLS,
        "max_bytes": MAX_BYTES,
        "proof": proof,
    }


def hear(said: dict[str, Any], expected_proof: bytes) -> Heard:
    """Check what the other end said.

    Raises:
        WrongGridError: its proof does not hold.
        VersionMismatchError: there is no version that both speak.
    """
    if not hmac.compare_digest(said["proof"], expected_proof):
        raise WrongGridError("the other end does not know this grid's secret")
    version: int = min(said["version"], PROTOCOL_VERSION)
    if version < max(said["oldest"], OLDEST_VERSION):
        raise VersionMismatchError("the two ends share no version of the protocol")
    if said["max_calls"] < 1 or said["max_bytes"] < 128 * 1024:
        raise VersionMismatchError("the other end takes too little at once to talk to")
    services = frozenset(name for name in said["services"].split(",") if name)
    return Heard(
        facts=Facts(services, _nickname(said["nickname"]), said["software"]),
        version=version,
        max_calls=min(said["max_calls"], MOST_CALLS_USED),
        max_bytes=min(said["max_bytes"], MOST_BYTES_USED),
    )


def _nickname(text: str) -> str:
    """Return a peer's nickname, nothing if it is one that should not be shown."""
    try:
        check_nickname(text)
    except FormatError:
        return ""
    return text
