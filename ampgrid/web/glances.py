"""What the page of a directory tells of its children, and what is kept of it for the next page.

Which children a page shows is known only when all of them are, so a large directory would be read
again for each of its pages. What was read last is kept for a while, by the cap and by the root of
what was read: as long as a look at the replicas shows that root, nothing in it has changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from attrs import field, frozen

from ampgrid.immutable import FileNode
from ampgrid.ports import Clock, DelayedCall, Threads
from ampgrid.vdrive.dirnode import Child, DirectoryNode

#: Directories with fewer children are read for each page: that takes no longer than a look.
LEAST_KEPT = 500
#: Entries of which is kept what is told, in all directories; some 200 bytes each.
MOST_KEPT = 200_000
#: Seconds after which all is let go, if no page was asked for.
KEEP_SECONDS = 120.0


@frozen
class Glance:
    """A child, as a page tells of it.

    Attributes:
        name: in its directory.
        size: of a file, bytes; None of a directory.
        changed: when it was linked, seconds since 1970; None if nothing tells.
    """

    name: str
    size: int | None
    changed: float | None

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.size is None


@frozen
class Glances:
    """All children of a directory.

    Attributes:
        children: in the order of names.
        problems: a line for each entry that could not be opened.
        root: what stands for them all (`DirectoryReader.root`).
    """

    children: Sequence[Glance] = field(repr=False)
    problems: Sequence[str]
    root: bytes

    @property
    def entries(self) -> int:
        """Of how many entries something is told."""
        return len(self.children) + len(self.problems)


def _glance_at(child: Child) -> Glance:
    node, changed = child.node, child.metadata.get("changed")
    return Glance(
        child.name,
        node.get_size() if isinstance(node, FileNode) else None,
        float(changed) if isinstance(changed, int | float) else None,
    )


def _glance_at_all(children: Iterable[Child]) -> tuple[Glance, ...]:
    return tuple(map(_glance_at, children))


class KeptGlances:
    """Reads directories for their pages, and keeps what was told of large ones.

    Args:
        clock: by which it is let go.
        threads: where a large directory is gone through.
    """

    def __init__(self, clock: Clock, threads: Threads) -> None:
        self._clock = clock
        self._threads = threads
        #: By the text of the cap: who has another one may not be told the same.
        self._kept: OrderedDict[str, Glances] = OrderedDict()
        self._timer: DelayedCall | None = None

    async def of(self, node: DirectoryNode) -> Glances:
        """Return what is told of the children of a directory as it is now.

        Raises:
            AmpgridError: it cannot be read.
        """
        cap = node.get_uri()
        kept = self._kept.get(cap)
        if kept is not None and await node.root() == kept.root:
            self._keep(cap, kept)
            return kept
        listing = await node.read()
        children = listing.children.values()
        if len(children) < LEAST_KEPT:
            return Glances(_glance_at_all(children), listing.problems, listing.root)
        told = await self._threads.run(_glance_at_all, children)
        glances = Glances(told, listing.problems, listing.root)
        self._keep(cap, glances)
        return glances

    def _keep(self, cap: str, glances: Glances) -> None:
        self._kept[cap] = glances
        self._kept.move_to_end(cap)
        while sum(each.entries for each in self._kept.values()) > MOST_KEPT:
            self._kept.popitem(last=False)
        self._stop_timer()
        if self._kept:
            self._timer = self._clock.callLater(KEEP_SECONDS, self.forget)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def forget(self) -> None:
        """Let go of all."""
        self._stop_timer()
        self._kept.clear()
