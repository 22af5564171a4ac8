"""Walking over all that a directory leads to, once each, as it is found.

The order is that of a printed tree: a directory, then what is in it by name, each subdirectory
at its place. Meanwhile some of the directories that come next are read already. A directory
that is met again, on another way or round a cycle, is visited but not entered, so every walk
ends; one that cannot be read is visited with its error, and the walk goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ampgrid.caps import Cap
from ampgrid.errors import AmpgridError, BadCapError, IntegrityError, OperationCancelledError
from ampgrid.immutable import FileNode, Operation
from ampgrid.vdrive.metadata import NOTHING, Metadata

if TYPE_CHECKING:
    from ampgrid.vdrive.dirnode import DirectoryNode, Listing

#: Directories that are read at once.
AT_ONCE = 8
#: While so many children wait to be visited, no further directory is read ahead.
_CHILDREN_AHEAD = 20_000


@frozen
class Visit:
    """Something that was found on the way.

    Attributes:
        path: names from where the walk began; empty for that itself.
        node: what is there.
        metadata: what its directory tells of it.
        again: whether it was visited before; then what is in it does not come again.
        children: of a directory that was entered, how many it has.
        error: why a directory could not be read.
        problems: a line for each entry of a directory that could not be opened.
    """

    path: tuple[str, ...]
    node: FileNode | DirectoryNode
    metadata: Metadata = NOTHING
    again: bool = False
    children: int = 0
    error: AmpgridError | None = None
    problems: tuple[str, ...] = ()

    @property
    def is_directory(self) -> bool:
        """Whether a directory is there."""
        return not isinstance(self.node, FileNode)


@frozen
class _Place:
    """Where something is that is still to be visited."""

    path: tuple[str, ...]
    node: FileNode | DirectoryNode
    metadata: Metadata = NOTHING


class _Reading:
    """A directory that is being read, or has been."""

    def __init__(self) -> None:
        self.result: Listing | BaseException | None = None

    @property
    def size(self) -> int:
        """How many children are held."""
        return (
            0
            if self.result is None or isinstance(self.result, BaseException)
            else len(self.result.children)
        )


class _Ahead:
    """Reads directories before their turn.

    Args:
        operation: when it is cancelled nobody waits for a directory any more.
        at_once: how many are read, or held, at most.
    """

    def __init__(self, operation: Operation, at_once: int) -> None:
        self._operation = operation
        self._at_once = at_once
        # By cap, not by index: what a read cap opens is less than what the write cap opens.
        self._readings: dict[Cap, _Reading] = {}
        self._waiting: Deferred[None] | None = None
        operation.on_cancel(self._wake)

    def look(self, coming: Sequence[DirectoryNode], entered: set[Cap]) -> None:
        """Begin to read directories that come next; the last of ``coming`` is the very next."""
        for node in reversed(coming[-self._at_once :]):
            held = sum(reading.size for reading in self._readings.values())
            if len(self._readings) >= self._at_once or held >= _CHILDREN_AHEAD:
                return
            if _as_read(node) not in entered and node.cap not in self._readings:
                self._begin(node)

    def _begin(self, node: DirectoryNode) -> _Reading:
        reading = self._readings[node.cap] = _Reading()

        def note(result: Listing | Failure) -> None:
            # An error is a result: that of a directory which nobody asks for any more would
            # be logged as unhandled.
            reading.result = result.value if isinstance(result, Failure) else result
            self._wake()

        Deferred.fromCoroutine(node.read()).addBoth(note)
        return reading

    def drop(self, node: DirectoryNode) -> None:
        """Forget what was read of a directory."""
        self._readings.pop(node.cap, None)

    async def take(self, node: DirectoryNode) -> Listing:
        """Return what is in a directory, or raise why it cannot be read."""
        reading = self._readings.get(node.cap) or self._begin(node)
        while reading.result is None:
            self._waiting = Deferred()
            await self._waiting
            self._operation.check()
        self.drop(node)
        if isinstance(reading.result, BaseException):
            raise reading.result
        return reading.result

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


async def walk(
    root: FileNode | DirectoryNode, operation: Operation | None = None, *, at_once: int = AT_ONCE
) -> AsyncIterator[Visit]:
    """Visit all that can be reached from a node, that itself first.

    What is met through a read cap first and through the write cap later counts as met; below
    the first, everything is read-only.

    Args:
        root: where to begin.
        operation: progress (``done`` counts visits) and cancelling.
        at_once: directories that are read at once, or held until their turn.

    Raises:
        OperationCancelledError: somebody has cancelled.
    """
    operation = operation or Operation()
    operation.enter("walking", 0)
    ahead = _Ahead(operation, at_once)
    seen: set[bytes] = set()
    #: By read cap, not by index: whoever may write to a directory can link another one with a
    #: wrong key, which opens none of its entries, before the place where it really is.
    entered: set[Cap] = set()
    places = [_Place((), root)]
    #: The directories among the places, in the same order.
    coming: list[DirectoryNode] = [] if isinstance(root, FileNode) else [root]
    while places:
        operation.check()
        place = places.pop()
        node = place.node
        operation.done += 1
        if isinstance(node, FileNode):
            yield Visit(place.path, node, place.metadata, again=_met_before(node, seen))
            continue
        coming.pop()
        as_read = _as_read(node)
        if as_read in entered:
            ahead.drop(node)
            yield Visit(place.path, node, place.metadata, again=True)
            continue
        ahead.look([*coming[-at_once:], node], entered)
        entered.add(as_read)
        try:
            listing = await ahead.take(node)
        except OperationCancelledError:
            raise
        except AmpgridError as error:
            yield Visit(place.path, node, place.metadata, error=error)
            continue
        for name, child in reversed(listing.children.items()):
            places.append(_Place((*place.path, name), child.node, child.metadata))
            if not isinstance(child.node, FileNode):
                coming.append(child.node)
        count, problems = len(listing.children), listing.problems
        # What it holds is now held by the places.
        del listing
        yield Visit(place.path, node, place.metadata, children=count, problems=problems)


def _as_read(node: DirectoryNode) -> Cap:
    """Return the read cap of a directory, or its own if that is of no directory."""
    try:
        return node.cap.get_readonly()
    except BadCapError:
        # Reading it tells why.
        return node.cap


def _met_before(node: FileNode, seen: set[bytes]) -> bool:
    """Tell whether a file was met before, and note it; one that is its cap is met anew."""
    verify = node.get_refresh_capability()
    if verify is None:
        return False
    # A digest, since there may be millions.
    key = blake2b(verify.encode("ascii"), digest_size=16).digest()
    if key in seen:
        return True
    seen.add(key)
    return False


async def refresh_capabilities(
    root: DirectoryNode, operation: Operation | None = None
) -> set[str]:
    """Return the verify caps of all that can be reached from a directory, and its own.

    Raises:
        AmpgridError: a directory, or an entry of one, could not be read.
    """
    found: set[str] = set()
    async for visit in walk(root, operation):
        if visit.error is not None:
            raise visit.error
        if visit.problems:
            raise IntegrityError(visit.problems[0])
        if (verify := visit.node.get_refresh_capability()) is not None:
            found.add(verify)
    return found
