"""A remote over HTTP on a real network: connections that are kept, certificates that count."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from OpenSSL.crypto import Error as CryptoError
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool

from ampgrid.blobs.http import STALL_SECONDS, HttpRemote
from ampgrid.errors import BadArgumentValueError, FileError

#: Seconds in which a server has to accept a connection.
CONNECT_SECONDS = 15.0
#: Connections to a server that are kept for the next request.
MOST_KEPT = 8
_MOST_FILE_BYTES = 1024 * 1024
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def open_http_remote(
    reactor: Any,
    url: str,
    user: str,
    token: str,
    cert_file: Path | None = None,
    *,
    over_network: bool = False,
    stall_seconds: float = STALL_SECONDS,
    explains: bool = False,
) -> HttpRemote:
    """Return the remote at an address.

    Args:
        reactor: Twisted's.
        url: see `HttpRemote`.
        user: see there.
        token: see there. Secret.
        cert_file: of certificates in PEM, which alone can vouch for the server; None for the
            authorities that the system trusts.
        over_network: see `HttpRemote`.
        stall_seconds: see there.
        explains: see there.

    Raises:
        BadArgumentValueError: the address or the user cannot be used, or the file holds no
            certificate.
        FileError: the file cannot be read.
    """
    policy = BrowserLikePolicyForHTTPS(None if cert_file is None else _trusted(cert_file))
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool.maxPersistentPerHost = MOST_KEPT
    agent = Agent(reactor, policy, connectTimeout=CONNECT_SECONDS, pool=pool)
    return HttpRemote(
        url,
        user,
        token,
        agent=agent,
        clock=reactor,
        over_network=over_network,
        closing=pool.closeCachedConnections,
        stall_seconds=stall_seconds,
        explains=explains,
    )


def _trusted(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_FILE_BYTES)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    try:
        certificates = [Certificate.loadPEM(text) for text in _PEM.findall(data)]
    except CryptoError as error:
        raise BadArgumentValueError(f"{path} holds a certificate that is damaged.") from error
    if not certificates:
        raise BadArgumentValueError(f"{path} holds no certificate in PEM.")
    return trustRootFromCertificates(certificates)
