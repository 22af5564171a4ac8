"""What the responders of the control socket have in common: operations, errors, paths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ampgrid.commands import errors as e
from ampgrid.errors import (
    AmpgridError,
    BadArgumentValueError,
    BadCapError,
    BadNameError,
    BlobRefusedError,
    ChildExistsError,
    ConditionFailedError,
    ConfigError,
    FileError,
    FormatError,
    IntegrityError,
    MissingNodesError,
    NoRoomError,
    NoRootError,
    NoSuchChildError,
    NotDirectoryError,
    NotEnoughPeersError,
    NotEnoughSharesError,
    NotHappyError,
    NotMutableError,
    NotReachableError,
    NotStoredError,
    OperationCancelledError,
    SnapshotGoneError,
    StoreError,
    UncertainChangeError,
    UndecidedError,
)
from ampgrid.immutable import Operation
from ampgrid.node.operations import Operations
from ampgrid.wire import Connection

#: The first class that matches counts.
_WIRE_ERRORS: tuple[tuple[type[AmpgridError], type[e.WireError]], ...] = (
    (NotEnoughSharesError, e.NotEnoughSharesFoundError),
    (NotHappyError, e.NotHappyEnoughError),
    (NotEnoughPeersError, e.NotEnoughPeersConnectedError),
    (NoSuchChildError, e.NoSuchChildWireError),
    (ChildExistsError, e.ChildExistsWireError),
    (NotDirectoryError, e.NotDirectoryWireError),
    (NotMutableError, e.NotMutableWireError),
    (NoRootError, e.NoRootWireError),
    (BlobRefusedError, e.BlobRefusedWireError),
    (ConditionFailedError, e.ConditionFailedWireError),
    (NotReachableError, e.NotReachableWireError),
    (MissingNodesError, e.NotReachableWireError),
    (UndecidedError, e.UndecidedWireError),
    (UncertainChangeError, e.UncertainWireError),
    (SnapshotGoneError, e.SnapshotGoneWireError),
    (OperationCancelledError, e.CancelledError),
    (BadCapError, e.BadCapTextError),
    (BadNameError, e.BadArgumentError),
    (BadArgumentValueError, e.BadArgumentError),
    (ConfigError, e.FileFailedError),
    (FileError, e.FileFailedError),
    (IntegrityError, e.DamagedError),
    (FormatError, e.DamagedError),
    (NoRoomError, e.NoSpaceError),
    (NotStoredError, e.NoSuchShareError),
    (StoreError, e.StoreFailedError),
)


@contextmanager
def as_wire_errors() -> Iterator[None]:
    """Raise what may be answered in the place of the errors of ours."""
    try:
        yield
    except e.WireError:
        raise
    except AmpgridError as error:
        for ours, wire in _WIRE_ERRORS:
            if isinstance(error, ours):
                raise wire(str(error)) from error
        raise


class OwnOperations:
    """The operations that were begun over one connection, and end with it.

    Args:
        operations: all of the node's.
        connection: the connection.
    """

    def __init__(self, operations: Operations, connection: Connection) -> None:
        self._operations = operations
        self._connection = connection
        self._own: set[Operation] = set()
        connection.when_lost(self._abandon)

    def _abandon(self) -> None:
        for operation in list(self._own):
            operation.cancel()

    @contextmanager
    def under_way(self, number: int | None) -> Iterator[Operation]:
        """Give a new operation that is known by ``number`` until it ends.

        Raises:
            BadArgumentValueError: the number is in use, or too much is under way.
        """
        operations = self._operations
        try:
            with operations.under_way(number or 0) as operation:
                self._own.add(operation)
                try:
                    yield operation
                finally:
                    self._own.discard(operation)
        except AmpgridError:
            if operations.stopped:
                # Nobody cancelled it, nor did the grid fail: this node goes, and its end tells.
                self._connection.abort("this node is stopping")
            raise


def absolute(path: str) -> Path:
    """Return a path of this machine.

    Raises:
        BadArgumentValueError: it is not absolute.
    """
    if not path.startswith("/") or "\0" in path:
        raise BadArgumentValueError("the path must be absolute")
    return Path(path)
