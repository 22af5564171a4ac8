"""What is told of all that a directory leads to: lines of a manifest, sizes, and findings."""

from __future__ import annotations

from typing import Any

from attrs import define, field, frozen

from ampgrid.immutable import FileNode
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.walking import Visit

#: Upper bounds of the classes of sizes in which files are counted, bytes.
SIZE_CLASSES = tuple(10**power for power in range(3, 16))


def kind_of(node: FileNode | DirectoryNode) -> str:
    """Return ``directory``, ``file``, or ``literal`` for a file whose cap holds its data."""
    if isinstance(node, DirectoryNode):
        return "directory"
    return "file" if node.get_refresh_capability() is not None else "literal"


def visit_json(visit: Visit) -> dict[str, Any]:
    """Return a visit for JSON, with its caps: a line of a manifest."""
    node = visit.node
    told: dict[str, Any] = {
        "path": list(visit.path),
        "type": kind_of(node),
        "cap": node.get_uri(),
        "verify_cap": node.get_refresh_capability(),
        "metadata": dict(visit.metadata),
        "again": visit.again,
    }
    if isinstance(node, DirectoryNode):
        told["children"] = visit.children
        told["error"] = "" if visit.error is None else str(visit.error)
        told["problems"] = list(visit.problems)
    else:
        told["size"] = node.get_size()
    return told


@define
class DeepSize:
    """How much there is: each file and directory once, literals once for each name.

    Attributes:
        directories: that could be read.
        unreadable: directories that could not.
        unopened: entries of directories that could not be opened.
        files: with shares in the grid.
        literals: files whose cap holds their data.
        again: ways to what was counted before.
        bytes_files: size of the files, bytes.
        bytes_literals: size of the literals, bytes.
        largest_file: size, bytes.
        largest_directory: children.
        classes: files by the power of ten, in bytes, that they are not larger than.
    """

    directories: int = 0
    unreadable: int = 0
    unopened: int = 0
    files: int = 0
    literals: int = 0
    again: int = 0
    bytes_files: int = 0
    bytes_literals: int = 0
    largest_file: int = 0
    largest_directory: int = 0
    classes: dict[int, int] = field(factory=dict)

    def add(self, visit: Visit) -> None:
        """Count a visit."""
        node = visit.node
        if visit.again:
            self.again += 1
        elif isinstance(node, DirectoryNode):
            self.unreadable += visit.error is not None
            self.directories += visit.error is None
            self.unopened += len(visit.problems)
            self.largest_directory = max(self.largest_directory, visit.children)
        else:
            self._add_file(node.get_size(), literal=node.get_refresh_capability() is None)

    def _add_file(self, size: int, *, literal: bool) -> None:
        if literal:
            self.literals += 1
            self.bytes_literals += size
        else:
            self.files += 1
            self.bytes_files += size
        self.largest_file = max(self.largest_file, size)
        bound = next((bound for bound in SIZE_CLASSES if size <= bound), size)
        self.classes[bound] = self.classes.get(bound, 0) + 1

    def to_json(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "directories": self.directories,
            "unreadable": self.unreadable,
            "unopened": self.unopened,
            "files": self.files,
            "literals": self.literals,
            "again": self.again,
            "bytes_files": self.bytes_files,
            "bytes_literals": self.bytes_literals,
            "largest_file": self.largest_file,
            "largest_directory": self.largest_directory,
            "sizes": [[bound, count] for bound, count in sorted(self.classes.items())],
        }


@frozen
class Finding:
    """What came of one thing.

    Attributes:
        path: names from where the walk began.
        kind: ``directory``, ``file`` or ``literal``.
        verify_cap: the text of its verify cap; None of a literal.
        size: of a file, bytes.
        again: whether it was looked at before; then nothing else is told.
        healthy: whether all is well with it now; None if that was not looked at.
        recoverable: whether it can be read; None if that was not looked at, or is not known.
        unreachable: whether it is a directory of which too few replicas answered, or do not
            agree yet: nothing says that it is gone.
        repaired: whether something was written.
        renewed: whether this node's leases were renewed.
        problems: one line for each thing that went wrong.
        report: of the check or the repair, for JSON; None without one.
    """

    path: tuple[str, ...]
    kind: str
    verify_cap: str | None
    size: int | None = None
    again: bool = False
    healthy: bool | None = None
    recoverable: bool | None = None
    unreachable: bool = False
    repaired: bool = False
    renewed: bool = False
    problems: tuple[str, ...] = ()
    report: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the finding for JSON."""
        return {
            "path": list(self.path),
            "type": self.kind,
            "verify_cap": self.verify_cap,
            "size": self.size,
            "again": self.again,
            "healthy": self.healthy,
            "recoverable": self.recoverable,
            "unreachable": self.unreachable,
            "repaired": self.repaired,
            "renewed": self.renewed,
            "problems": list(self.problems),
            "report": self.report,
        }


@define
class DeepSummary:
    """How many findings of each kind there were."""

    directories: int = 0
    files: int = 0
    literals: int = 0
    again: int = 0
    healthy: int = 0
    unhealthy: int = 0
    unrecoverable: int = 0
    unreachable: int = 0
    repaired: int = 0
    renewed: int = 0
    troubled: int = 0

    def add(self, finding: Finding) -> None:
        """Count a finding."""
        if finding.again:
            self.again += 1
            return
        self.directories += finding.kind == "directory"
        self.files += finding.kind == "file"
        self.literals += finding.kind == "literal"
        self.healthy += finding.healthy is True
        self.unhealthy += finding.healthy is False
        self.unrecoverable += finding.recoverable is False
        self.unreachable += finding.unreachable
        self.repaired += finding.repaired
        self.renewed += finding.renewed
        self.troubled += bool(finding.problems)

    def to_json(self) -> dict[str, Any]:
        """Return the counts for JSON."""
        return {
            "directories": self.directories,
            "files": self.files,
            "literals": self.literals,
            "again": self.again,
            "healthy": self.healthy,
            "unhealthy": self.unhealthy,
            "unrecoverable": self.unrecoverable,
            "unreachable": self.unreachable,
            "repaired": self.repaired,
            "renewed": self.renewed,
            "troubled": self.troubled,
        }
