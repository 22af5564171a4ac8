"""The number of each fault of XML-RPC.

What an operation is refused for has the number of the status that the same operation has over
HTTP (`ampgrid.web.errors`). What is wrong with the call itself has the number that the XML-RPC
community reserved for it.

Source: Dan Libby, "Specification for Fault Code Interoperability", 2001.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from ampgrid.errors import AmpgridError
from ampgrid.web.errors import status_of

NOT_WELL_FORMED = -32700
NOT_A_CALL = -32600
NO_SUCH_METHOD = -32601
WRONG_PARAMETERS = -32602

#: What every number means; the table of `docs/reference/xmlrpc.md`.
FAULTS: Mapping[int, str] = {
    NOT_WELL_FORMED: "the body is no XML, or XML that is not taken here",
    NOT_A_CALL: "the body is no method call",
    NO_SUCH_METHOD: "there is no such method",
    WRONG_PARAMETERS: "there are too few or too many parameters, or one is of another type",
    400: "the call makes no sense: a bad cap, a bad name, a file where a directory has to be",
    403: "it is not allowed: a read-only cap, or files of this machine without permission",
    404: "nothing is there",
    409: "something is there and may not be replaced, or a file changed while it was read",
    410: "too few shares of the file can be found",
    413: "it is too large for a call; the message tells another way",
    500: "something failed here; the message has a reference into the node's log",
    502: "what was found in the grid is damaged",
    503: "the grid does not do it now: too few peers, or the work was cancelled",
    507: "there is no room for it",
}


class CallError(AmpgridError):
    """A call that is answered with a fault of a number of its own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@frozen
class Fault:
    """What a call is answered with that failed.

    Attributes:
        code: a number of `FAULTS`.
        message: what to tell people.
    """

    code: int
    message: str


def fault_of(error: AmpgridError) -> Fault:
    """Return the fault of an error."""
    code = error.code if isinstance(error, CallError) else status_of(error)
    # A status that is new to this table is told as the class that it belongs to.
    return Fault(code if code in FAULTS else (400 if code < 500 else 500), str(error))
