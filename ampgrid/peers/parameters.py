"""The encoding parameters that an introducer advises for its grid: checked and packed."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ampgrid.errors import BadArgumentValueError, FormatError

_PACKED = struct.Struct(">HHH")

#: Under which name the database of peers keeps what the introducers advised last.
ADVICE_KEY = "introduced/parameters"
#: The most shares that a file can have (erasure coding in bytes).
MOST_SHARES = 256


class GridParameters(NamedTuple):
    """How files are spread on a grid.

    Attributes:
        needed: shares that give a file back (k).
        happy: distinct servers that must hold them at least.
        total: shares that are made (n).
    """

    needed: int
    happy: int
    total: int

    def check(self) -> GridParameters:
        """Return these parameters if they make sense.

        Raises:
            BadArgumentValueError: not 1 <= needed <= total <= 256, or happy not from 1 to total.
        """
        if not 1 <= self.needed <= self.total <= MOST_SHARES:
            raise BadArgumentValueError("It must be that 1 <= needed <= total <= 256.")
        if not 1 <= self.happy <= self.total:
            raise BadArgumentValueError("Happiness must be from 1 to the number of shares.")
        return self

    def pack(self) -> bytes:
        """Return 6 bytes for the database."""
        return _PACKED.pack(*self)

    @classmethod
    def unpack(cls, packed: bytes) -> GridParameters:
        """Read what `pack` wrote.

        Raises:
            FormatError: it is something else.
        """
        try:
            return cls(*_PACKED.unpack(packed)).check()
        except (struct.error, BadArgumentValueError):
            raise FormatError("The stored encoding parameters are damaged.") from None
