"""Base32 as capabilities, node ids and secrets are spelled: RFC 4648, lower case, no padding.

Every string of bytes has exactly one spelling: upper case, foreign characters, impossible
lengths and non-zero trailing bits are all refused.

Source: Tahoe-LAFS since 2008-02-14 spells everything so (before: z-base-32).
"""

from __future__ import annotations

import base64

from ampgrid.errors import FormatError

#: Characters left over after whole groups of eight that some number of bytes can give.
_POSSIBLE_REMAINDERS = frozenset({0, 2, 4, 5, 7})
_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_ALPHABET = frozenset(_DIGITS)
#: The same as digits of a number to the base 32, which Python reads in one step.
_AS_NUMBER = str.maketrans(_DIGITS, "0123456789abcdefghijklmnopqrstuv")


def b2a(data: bytes) -> str:
    """Spell ``data`` in base32."""
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def a2b(text: str, length: int | None = None) -> bytes:
    """Read base32 strictly.

    Args:
        text: the characters, no white space.
        length: the number of bytes that it must give, if that is known.

    Raises:
        FormatError: the text is not the one spelling of any bytes, or not of ``length`` bytes.
    """
    if not _ALPHABET.issuperset(text):
        raise FormatError("The base32 text holds a character that is not one of a-z and 2-7.")
    if len(text) % 8 not in _POSSIBLE_REMAINDERS:
        raise FormatError("The base32 text has a length that no bytes can have.")
    if length is not None and len(text) * 5 // 8 != length:
        raise FormatError(f"The base32 text is not of {length} bytes.")
    size, stray_bits = divmod(len(text) * 5, 8)
    number = int(text.translate(_AS_NUMBER) or "0", 32)
    if number & ((1 << stray_bits) - 1):
        raise FormatError("The base32 text has stray bits at its end.")
    return (number >> stray_bits).to_bytes(size, "big")
