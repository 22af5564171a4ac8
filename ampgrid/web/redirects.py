"""Where a browser is led when something is done: ``when_done=``, and to this gateway alone."""

from __future__ import annotations

from urllib.parse import SplitResult, urljoin, urlsplit

from ampgrid.web.call import Call
from ampgrid.web.errors import BadRequestError

_MOST_CHARACTERS = 4_096


def when_done(call: Call) -> str | None:
    """Return where to go when the request is done, a path of this gateway; None for nowhere.

    Raises:
        BadRequestError: it leads elsewhere.
    """
    said = call.arg("when_done")
    return checked_target(said, call.target.path, call.admission.origin) if said else None


def checked_target(said: str, path: str, origin: str) -> str:
    """Return a target as a path of this gateway.

    Args:
        said: an absolute URL of this gateway, a path of it, or one relative to ``path``.
        path: of the URL that was asked for.
        origin: of this gateway.

    Raises:
        BadRequestError: it leads elsewhere, or cannot stand in a header.
    """
    # Browsers take a backslash for a slash and leave control characters out.
    if len(said) > _MOST_CHARACTERS or any(c <= " " or c in "\\\x7f" for c in said):
        raise BadRequestError("when_done= is no URL")
    if not said.isascii():
        raise BadRequestError("when_done= holds characters that have to be escaped (%..)")
    target = _joined(f"{origin}{path}", said)
    if f"{target.scheme}://{target.netloc}".lower() != origin or target.path.startswith("//"):
        raise BadRequestError("when_done= leads away from this gateway")
    return target._replace(scheme="", netloc="", path=target.path or "/").geturl()


def _joined(base: str, said: str) -> SplitResult:
    try:
        return urlsplit(urljoin(base, said))
    except ValueError:
        raise BadRequestError("when_done= is no URL") from None
