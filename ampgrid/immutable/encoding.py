"""Into how many shares a file is made, and on how many servers they shall be."""

from __future__ import annotations

import attrs


@attrs.frozen
class Encoding:
    """k of n, and happiness.

    Attributes:
        needed: shares that give a file back (k).
        happy: servers at least that must hold shares of their own.
        total: shares that are made (n).
    """

    needed: int
    happy: int
    total: int
