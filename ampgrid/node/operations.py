"""The long operations under way on a node, by the number that their caller chose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ampgrid.errors import BadArgumentValueError
from ampgrid.immutable import Operation

#: The most operations at once.
MOST_OPERATIONS = 1_000


class Operations:
    """Operations by number; 0 stands for one that nobody will ask after."""

    def __init__(self) -> None:
        self._named: dict[int, Operation] = {}
        self._unnamed: set[Operation] = set()

    @contextmanager
    def under_way(self, number: int) -> Iterator[Operation]:
        """Give a new operation that is known by ``number`` until it ends.

        Raises:
            BadArgumentValueError: the number is in use, or too much is under way.
        """
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

    def all(self) -> list[Operation]:
        """Return every operation that is under way."""
        return [*self._named.values(), *self._unnamed]
