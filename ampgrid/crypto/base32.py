"""Base32 as capabilities, node ids and secrets are spelled: RFC 4648, lower case, no padding.

Every string of bytes has exactly one spelling: upper case, foreign characters, impossible
lengths and non-zero trailing bits are all refused.

Source: Tahoe-LAFS since 2008-02-14 spells everything so (before: z-base-32).
"""

from __future__ import annotations

from functools import lru_cache

from ampgrid.errors import FormatError

#: Characters left over after whole groups of eight that some number of bytes can give.
_POSSIBLE_REMAINDERS = frozenset({0, 2, 4, 5, 7})
_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_ALPHABET = frozenset(_DIGITS)
#: The same as digits of a number to the base 32, which Python reads in one step.
_AS_NUMBER = str.maketrans(_DIGITS, "0123456789abcdefghijklmnopqrstuv")


#: A byte for each digit, as its value, to its character.
_CHARACTERS = bytes.maketrans(bytes(range(32)), _DIGITS.encode("ascii"))


@lru_cache(16)
def _spreading(levels: int) -> list[tuple[int, int, int]]:
    """Return the steps that give each of ``2 ** levels`` digits of 5 bits a byte of its own.

    Each step halves all groups of digits at once: what ``upper`` selects is moved up by ``shift``
    bits, and what ``lower`` selects stays.

    Returns:
        (shift, lower, upper) of each step, from the largest groups to the smallest.
    """
    steps = []
    for level in reversed(range(levels)):
        half = 1 << level
        digits = (1 << 5 * half) - 1
        lower = sum(digits << 16 * half * group for group in range(1 << (levels - level - 1)))
        steps.append((3 * half, lower, lower << 5 * half))
    return steps


def b2a(data: bytes) -> str:
    """Spell ``data`` in base32.

    A number as long as the text is worked on as a whole, in as many steps as it has binary digits
    of length: `base64.b32encode` goes through it in pieces of five bytes.
    """
    length = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big") << (length * 5 - len(data) * 8)
    for shift, lower, upper in _spreading(max(length - 1, 0).bit_length()):
        number = number & lower | (number & upper) << shift
    return number.to_bytes(length, "big").translate(_CHARACTERS).decode("ascii")


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
