"""Argument types: bounded and canonical, one spelling for one value.

The stock integer of AMP takes ``" +1_0 "`` for ten and four thousand digits for a number; these
take nothing but what they themselves would write. A value out of bounds raises `ValueError`,
which the connection answers with ``BAD_ARGUMENT``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import ClassVar

from twisted.protocols import amp

#: The largest value that an AMP box can hold, bytes.
MAX_VALUE_BYTES = 65_535


class Count(amp.Argument):
    """An integer from 0 to 2**63 - 1 in canonical decimal digits.

    Args:
        most: the largest value taken.
        optional: whether it may be left out.
    """

    def __init__(self, most: int = 2**63 - 1, *, optional: bool = False) -> None:
        super().__init__(optional)
        self.most = most

    def fromString(self, inString: bytes) -> int:  # noqa: N802, N803
        """Read digits without sign, space, underscore or leading zero."""
        if not inString.isdigit() or len(inString) > 19 or inString[:1] == b"0" != inString:
            raise ValueError("not a canonical integer")
        value = int(inString)
        if value > self.most:
            raise ValueError("integer out of bounds")
        return value

    def toString(self, inObject: int) -> bytes:  # noqa: N802, N803
        """Write the digits."""
        if not 0 <= inObject <= self.most:
            raise ValueError("integer out of bounds")
        return b"%d" % inObject


class Octets(amp.Argument):
    """A string of bytes of a bounded length.

    Args:
        most: the largest length taken, bytes.
        least: the smallest length taken, bytes.
        optional: whether it may be left out.
    """

    def __init__(
        self, most: int = MAX_VALUE_BYTES, least: int = 0, *, optional: bool = False
    ) -> None:
        super().__init__(optional)
        self.most = most
        self.least = least

    def fromString(self, inString: bytes) -> bytes:  # noqa: N802, N803
        """Check the length."""
        if not self.least <= len(inString) <= self.most:
            raise ValueError("length out of bounds")
        return inString

    def toString(self, inObject: bytes | memoryview) -> bytes | memoryview:  # noqa: N802, N803
        """Check the length; a view of bytes is not copied before the box is made."""
        value = inObject if isinstance(inObject, memoryview) else bytes(inObject)
        size = value.nbytes if isinstance(value, memoryview) else len(value)
        if size != len(value) or not self.least <= size <= self.most:
            raise ValueError("length out of bounds")
        return value


class Exact(Octets):
    """Exactly so many bytes.

    Args:
        length: the one length taken, bytes.
        optional: whether it may be left out.
    """

    def __init__(self, length: int, *, optional: bool = False) -> None:
        super().__init__(length, length, optional=optional)


class Text(amp.Argument):
    """Text in UTF-8, its length bounded in bytes, without control characters.

    Args:
        most: the largest length taken, bytes of UTF-8.
        lines: whether line feeds are taken.
        optional: whether it may be left out.
    """

    def __init__(
        self, most: int = MAX_VALUE_BYTES, *, lines: bool = False, optional: bool = False
    ) -> None:
        super().__init__(optional)
        self.most = most
        self.lines = lines

    def _check(self, text: str) -> str:
        if text.isprintable():
            return text
        allowed = "\n" if self.lines else ""
        if any((c < " " or "\x7f" <= c <= "\x9f") and c not in allowed for c in text):
            raise ValueError("control character in text")
        return text

    def fromString(self, inString: bytes) -> str:  # noqa: N802, N803
        """Decode, strictly."""
        if len(inString) > self.most:
            raise ValueError("text too long")
        return self._check(inString.decode("utf-8"))

    def toString(self, inObject: str) -> bytes:  # noqa: N802, N803
        """Encode."""
        data = self._check(inObject).encode("utf-8")
        if len(data) > self.most:
            raise ValueError("text too long")
        return data


class Flag(amp.Argument):
    """A truth value: ``1`` or ``0``."""

    _meaning: ClassVar[dict[bytes, bool]] = {b"1": True, b"0": False}

    def fromString(self, inString: bytes) -> bool:  # noqa: N802, N803
        """Read ``1`` or ``0``."""
        try:
            return self._meaning[inString]
        except KeyError:
            raise ValueError("not a flag") from None

    def toString(self, inObject: bool) -> bytes:  # noqa: N802, N803
        """Write ``1`` or ``0``."""
        return b"1" if inObject else b"0"


#: At most so many shares are named in one request (seed 001's MAX_BUCKETS).
MAX_SHARES_PER_REQUEST = 200

#: The most shares that a file can have, and that an answer names.
MAX_SHARES = 256


class ShareNumbers(amp.Argument):
    """A set of share numbers, 0 to 255, one byte each in rising order.

    Args:
        most: the most numbers taken.
        optional: whether it may be left out.
    """

    def __init__(self, most: int = MAX_SHARES_PER_REQUEST, *, optional: bool = False) -> None:
        super().__init__(optional)
        self.most = most

    def fromString(self, inString: bytes) -> frozenset[int]:  # noqa: N802, N803
        """Read the set; the order is checked, so that one set has one spelling."""
        if len(inString) > self.most:
            raise ValueError("too many share numbers")
        numbers = frozenset(inString)
        if bytes(sorted(numbers)) != inString:
            raise ValueError("share numbers out of order")
        return numbers

    def toString(self, inObject: Iterable[int]) -> bytes:  # noqa: N802, N803
        """Write the set."""
        numbers = sorted(set(inObject))
        if len(numbers) > self.most:
            raise ValueError("too many share numbers")
        return bytes(numbers)


class ShareSizes(amp.Argument):
    """Pairs (share number, size in bytes): per share ``>BQ``, 9 bytes, numbers rising.

    Sizes go up to 2**63 - 1, as every other number does.
    """

    _pair = struct.Struct(">BQ")
    _most = 2**63 - 1

    def fromString(self, inString: bytes) -> dict[int, int]:  # noqa: N802, N803
        """Read {share number: size}."""
        if len(inString) % self._pair.size or len(inString) > MAX_SHARES * self._pair.size:
            raise ValueError("malformed share sizes")
        pairs = list(self._pair.iter_unpack(inString))
        sizes = dict(pairs)
        if max(sizes.values(), default=0) > self._most:
            raise ValueError("share size out of bounds")
        if len(sizes) != len(pairs) or list(sizes) != sorted(sizes):
            raise ValueError("share numbers out of order")
        return sizes

    def toString(self, inObject: dict[int, int]) -> bytes:  # noqa: N802, N803
        """Write {share number: size}."""
        if any(not 0 <= size <= self._most for size in inObject.values()):
            raise ValueError("share size out of bounds")
        return b"".join(self._pair.pack(*item) for item in sorted(inObject.items()))


class ShareHeads(amp.Argument):
    """The first bytes of some shares: per share ``>BH`` (number, length), then the bytes."""

    _head = struct.Struct(">BH")

    def fromString(self, inString: bytes) -> dict[int, bytes]:  # noqa: N802, N803
        """Read {share number: first bytes}."""
        heads: dict[int, bytes] = {}
        position = last = 0
        while position < len(inString):
            if position + self._head.size > len(inString):
                raise ValueError("malformed share heads")
            number, length = self._head.unpack_from(inString, position)
            position += self._head.size
            if (heads and number <= last) or position + length > len(inString):
                raise ValueError("malformed share heads")
            last = number
            heads[number] = inString[position : position + length]
            position += length
        return heads

    def toString(self, inObject: dict[int, bytes]) -> bytes:  # noqa: N802, N803
        """Write {share number: first bytes}."""
        return b"".join(
            self._head.pack(number, len(head)) + head for number, head in sorted(inObject.items())
        )


class Blobs(amp.Argument):
    """A short list of byte strings: per item ``>H`` length, then the bytes.

    Args:
        most: the largest number of items.
        item: the largest length of one item, bytes.
        total: the most bytes that the list takes, two of each item for its length.
        optional: whether it may be left out.
    """

    _length = struct.Struct(">H")

    def __init__(
        self, most: int, item: int, total: int = MAX_VALUE_BYTES, *, optional: bool = False
    ) -> None:
        super().__init__(optional)
        self.most = most
        self.item = item
        self.total = min(total, most * (item + 2))

    def fromString(self, inString: bytes) -> list[bytes]:  # noqa: N802, N803
        """Read the list."""
        if len(inString) > self.total:
            raise ValueError("list too long")
        items: list[bytes] = []
        position = 0
        while position < len(inString):
            if position + 2 > len(inString) or len(items) == self.most:
                raise ValueError("malformed list")
            (length,) = self._length.unpack_from(inString, position)
            position += 2
            if length > self.item or position + length > len(inString):
                raise ValueError("malformed list")
            items.append(inString[position : position + length])
            position += length
        return items

    def toString(self, inObject: Sequence[bytes]) -> bytes:  # noqa: N802, N803
        """Write the list."""
        if len(inObject) > self.most or any(len(item) > self.item for item in inObject):
            raise ValueError("list out of bounds")
        packed = b"".join(self._length.pack(len(item)) + item for item in inObject)
        if len(packed) > self.total:
            raise ValueError("list too long")
        return packed
