"""A long piece of work: how far it is, and a way to end it early."""

from __future__ import annotations

from collections.abc import Callable

from ampgrid.errors import OperationCancelledError


class Operation:
    """Progress and cancelling of one upload or download.

    Attributes:
        phase: what is being done now, for people.
        done: bytes of the file that are done in this phase.
        total: bytes of the file in all, 0 while not known.
    """

    def __init__(self) -> None:
        self.phase = "starting"
        self.done = 0
        self.total = 0
        self._cancelled = False
        self._cancellers: list[Callable[[], None]] = []

    def enter(self, phase: str, total: int | None = None) -> None:
        """Begin a phase, at 0 of ``total`` bytes (of as many as before if None)."""
        self.phase = phase
        self.done = 0
        if total is not None:
            self.total = total

    @property
    def cancelled(self) -> bool:
        """True once somebody has cancelled it."""
        return self._cancelled

    def cancel(self) -> None:
        """End the work at its next step."""
        self._cancelled = True
        cancellers, self._cancellers = self._cancellers, []
        for canceller in cancellers:
            canceller()

    def on_cancel(self, canceller: Callable[[], None]) -> None:
        """Call ``canceller`` when the work is cancelled (at once if it already is)."""
        if self._cancelled:
            canceller()
        else:
            self._cancellers.append(canceller)

    def check(self) -> None:
        """Go on, or not.

        Raises:
            OperationCancelledError: somebody has cancelled the work.
        """
        if self._cancelled:
            raise OperationCancelledError("cancelled")
