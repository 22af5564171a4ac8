"""Which remote an address means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from attrs import field, frozen

from ampgrid.blobs.port import Remote
from ampgrid.errors import BadArgumentValueError


@frozen
class Account:
    """Whose blobs they are.

    Attributes:
        user: the name at the remote.
        token: what proves it, None where the remote asks for nothing.
        cert_file: certificates that the remote's must chain to, None for those of the system.
    """

    user: str
    token: str | None = field(default=None, repr=False)
    cert_file: Path | None = None


#: Makes the remote of an account at an address.
Opener = Callable[[str, Account], Remote]


def _over_http(address: str, account: Account) -> Remote:
    from twisted.internet import reactor

    from ampgrid.blobs.httpagent import open_http_remote

    if account.token is None:
        raise BadArgumentValueError("A remote over HTTP wants a token, which its operator issues.")
    return open_http_remote(reactor, address, account.user, account.token, account.cert_file)


#: Scheme of an address -> what makes such a remote.
OPENERS: dict[str, Opener] = {"http": _over_http, "https": _over_http}


def open_remote_at(address: str, account: Account) -> Remote:
    """Return the remote at an address.

    Raises:
        BadArgumentValueError: it is no address of a remote.
    """
    opener = OPENERS.get(urlsplit(address).scheme)
    if opener is None:
        known = ", ".join(f"{scheme}://" for scheme in sorted(OPENERS))
        raise BadArgumentValueError(
            f"The address of a remote of blobs begins with one of these: {known}."
        )
    return opener(address, account)
