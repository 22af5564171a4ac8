"""The long operations under way on a node, by the number that their caller chose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ampgrid.errors import BadArgumentValueError, OperationCancelledError
from ampgrid.immutable import Operation

#: The most operations at once.
MOST_OPERATIONS = 1_000


class Operations:
    """Operations by number; 0 stands for one that nobody will ask after.

    Attributes:
        stopped: the node is stopping, so whatever fails now fails for that.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._named: dict[int, Operation] = {}
        self._unnamed: set[Operation] = set()

    @contextmanager
    def under_way(self, number: int) -> Iterator[Operation]:
        """Give a new operation that is known by ``number`` until it ends.

        Raises:
            BadArgumentValueError: the number is in use, or too much is under way.
            OperationCancelledError: the node is stopping.
        """
        if self.stopped:
            raise OperationCancelledError("this node is stopping")
        if number in self._named:
            raise BadArgumentValueError("an operation of this number is under way already")
        if len(self._named) + len(self._unnamed) >= MOST_OPERATIONS:
            raise BadArgumentValueError("too many operations are under way")
        operation = Operation()
        if number:
            self._named[number] = operation
        else:
            self._unnamed.add(operation)
        try:
            yield operation
        finally:
            self._unnamed.discard(operation)
            if self._named.get(number) is operation:
                del self._named[number]

    def get(self, number: int) -> Operation | None:
        """Return the operation of this number, if it is under way."""
        return self._named.get(number)

    def stop(self) -> None:
        """Cancel all that is under way, and begin nothing more."""
        self.stopped = True
        for operation in self.all():
            operation.cancel()

    def all(self) -> list[Operation]:
        """Return every operation that is under way."""
        return [*self._named.values(), *self._unnamed]
