"""An allowance: how many bytes may be held, by one and by all together."""

from __future__ import annotations


class Allowance:
    """Bytes that may be held, out of what a larger allowance has left.

    Args:
        most: how many, bytes.
        within: an allowance that is drawn on too, or None.

    Attributes:
        held: how many are held now, bytes.
    """

    def __init__(self, most: int, within: Allowance | None = None) -> None:
        self.held = 0
        self._most = most
        self._within = within

    def take(self, size: int) -> bool:
        """Hold so many bytes more; False, and nothing is done, if that is too much."""
        if self.held + size > self._most:
            return False
        if self._within is not None and not self._within.take(size):
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        """Hold so many bytes less."""
        self.held -= size
        if self._within is not None:
            self._within.give_back(size)
