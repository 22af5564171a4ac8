"""Why a port cannot be listened on, whichever of Twisted and the system says so.

Twisted makes an error of its own of what stands in the way of a name or a number. That another
process took the same one a moment ago the system tells only later, when the port is to accept,
and that error Twisted passes on as it is.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.error import CannotListenError

#: What is raised when a port cannot be listened on.
CANNOT_LISTEN: Final = (CannotListenError, OSError)


def why_not(error: Exception) -> str:
    """Return in a few words why a port cannot be listened on."""
    cause = error.socketError if isinstance(error, CannotListenError) else error
    return str(getattr(cause, "strerror", None) or cause)
