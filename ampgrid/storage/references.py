"""Failures of a store: a peer is told a number, under which the log has the rest."""

from __future__ import annotations

from twisted.logger import Logger

from ampgrid.errors import StoreError
from ampgrid.ports import Entropy


def reference_of(error: StoreError, log: Logger, entropy: Entropy) -> str:
    """Write a failure of a store to the log; return the number that it has there.

    Args:
        error: what it was.
        log: of the service.
        entropy: makes the number, of 8 digits.
    """
    reference = entropy(4).hex()
    log.error("the store failed [{reference}]: {error}", reference=reference, error=error)
    return reference
