"""What every Command has in common."""

from __future__ import annotations

from typing import ClassVar

from twisted.protocols import amp

from ampgrid.commands import errors as e


def error_map(*leaves: type[e.WireError]) -> dict[type[Exception], bytes]:
    """Return the map that a Command declares for these leaves."""
    return {leaf: leaf.code for leaf in leaves}


class GridCommand(amp.Command):
    """The base of every Command: the errors that any of them may answer.

    A Command's docstring ends with fields that a test reads:

    * ``:answered-by:`` who answers it;
    * ``:needs:`` what must have happened before;
    * ``:bound:`` how large the two boxes can be;
    * ``:repeat:`` whether it may be sent again when no answer came;
    * ``:since:`` the version of the protocol that has it.
    """

    errors: ClassVar[dict[type[Exception], bytes]] = error_map(
        e.InternalWireError, e.BadArgumentError, e.NotAllowedError, e.BusyError
    )
