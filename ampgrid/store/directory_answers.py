"""What a store of directories answers."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import attrs

from ampgrid.errors import StoreError


class Verdict(StrEnum):
    """What became of a prepare or a record; the words are those of the wire."""

    DONE = "done"
    REFUSED = "refused"
    MISSING = "missing"
    CONFLICT = "conflict"
    STRANGER = "stranger"


class NoLeaseError(StoreError):
    """The caller has no lease on the directory."""


class SnapshotLostError(StoreError):
    """Nodes that were asked for are no longer kept."""


class LongWorkError(StoreError):
    """A job has to look at more than one transaction may; `DirectoryStore.go_on` helps it.

    Attributes:
        job: which one.
    """

    def __init__(self, job: Any) -> None:
        super().__init__("this takes more than one transaction")
        self.job = job


@attrs.frozen
class Judged:
    """The answer to a prepare or a record.

    Attributes:
        verdict: what became of it.
        held: the accepted record, packed; with a promise, the base; else what stands in the way.
        prepared: the promised prepare, packed, if one stands in the way.
        missing: hashes of nodes that are not here.
        nodes: those that were asked for with a promise.
    """

    verdict: Verdict
    held: bytes | None = attrs.field(default=None, repr=False)
    prepared: bytes | None = attrs.field(default=None, repr=False)
    missing: tuple[bytes, ...] = ()
    nodes: tuple[bytes, ...] = attrs.field(default=(), repr=False)


@attrs.frozen
class Shown:
    """What is kept of a directory.

    Attributes:
        held: the accepted record, packed, if there is one.
        prepared: the promised prepare, packed, if there is one.
        nodes: that were asked for.
    """

    held: bytes | None = attrs.field(repr=False)
    prepared: bytes | None = attrs.field(repr=False)
    nodes: tuple[bytes, ...] = attrs.field(default=(), repr=False)
