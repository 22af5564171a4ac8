"""What a client is told of an error: a line of text, a page, or an object of JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http

from ampgrid.errors import AmpgridError
from ampgrid.node.faults import without_text
from ampgrid.web import answers
from ampgrid.web.answers import Answer
from ampgrid.web.errors import WebError, status_of
from ampgrid.web.headers import ALWAYS, OWN_POLICY

if TYPE_CHECKING:
    from ampgrid.web.gateway import Gateway

_log = Logger()


def shown(error: Exception) -> str:
    """Return the message of an error of ours; of any other only what kind it is."""
    return str(error) if isinstance(error, AmpgridError) else type(error).__name__


def unforeseen(error: Exception, gateway: Gateway) -> str:
    """Log an error that is none of ours; return what a client is told: where it stands there."""
    reference = gateway.entropy(4).hex()
    _log.failure(
        "a request failed (reference {reference})",
        without_text(Failure(error)),
        reference=reference,
    )
    return f"something went wrong here; the node's log tells it under {reference}"


def answer_to(error: Exception, gateway: Gateway, wanted: str) -> Answer:
    """Return the answer that tells an error; what is no error of ours is logged.

    Args:
        error: what went wrong.
        gateway: that answers.
        wanted: ``html``, ``json`` or ``text``.
    """
    status, message = status_of(error), shown(error)
    if status == 500 and not isinstance(error, AmpgridError):
        message = unforeseen(error, gateway)
    if wanted == "json":
        made = answers.as_json({"error": {"status": status, "message": message}}, status)
    elif wanted == "html":
        made = answers.page(gateway.pages.error(status, message), status)
    else:
        made = answers.text(f"{message}\n", status)
    headers = error.headers if isinstance(error, WebError) else {}
    return Answer(made.body, status, made.content_type, headers)


def as_bytes(answer: Answer, date: str) -> bytes:
    """Return an answer as bytes of HTTP, after which the connection is closed."""
    reason = http.RESPONSES.get(answer.status, b"Refused").decode("ascii")
    headers = {
        "Date": date,
        **ALWAYS,
        "Content-Security-Policy": OWN_POLICY,
        "Content-Type": answer.content_type,
        "Content-Length": str(len(answer.body)),
        "Connection": "close",
        **answer.headers,
    }
    lines = [
        f"HTTP/1.1 {answer.status} {reason}",
        *(f"{k}: {v}" for k, told in headers.items() for v in told.split("\n")),
    ]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + answer.body
