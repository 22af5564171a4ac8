"""How a file is cut into segments, and a segment into blocks. Sizes and offsets in bytes.

Source: Tahoe-LAFS 1.20; `docs/specs/share.md`.
"""

from __future__ import annotations

from ampgrid.caps import MAX_SHARES
from ampgrid.errors import BadArgumentValueError

#: The largest segment that files are cut into by default, bytes.
DEFAULT_MAX_SEGMENT_SIZE = 1024 * 1024
#: The largest segment that is read at all, bytes: what bounds the memory of a download.
MAX_SEGMENT_SIZE = 16 * 1024 * 1024


def check_parameters(needed: int, total: int, max_segment_size: int) -> None:
    """Check what a user may ask of an encoding.

    Args:
        needed: number of shares needed (k).
        total: number of shares made (n).
        max_segment_size: bytes.

    Raises:
        BadArgumentValueError: a number is out of bounds.
    """
    if not 1 <= needed <= total <= MAX_SHARES:
        raise BadArgumentValueError(
            f"The numbers of shares must be 1 <= needed <= total <= {MAX_SHARES}."
        )
    if not 1 <= max_segment_size <= MAX_SEGMENT_SIZE:
        raise BadArgumentValueError(
            f"The segment size must be from 1 to {MAX_SEGMENT_SIZE} bytes."
        )


#: The most segments of a file: what bounds the memory of its hash trees.
MAX_SEGMENTS = 2**20


def round_up(size: int, unit: int) -> int:
    """Return the smallest multiple of ``unit`` that is not below ``size``."""
    return -(-size // unit) * unit


def segment_size_for(size: int, needed: int, max_segment_size: int) -> int:
    """Return the segment size of a file: a multiple of k that is hardly above either limit.

    Args:
        size: of the file, at least 1.
        needed: number of shares needed (k).
        max_segment_size: the largest segment wanted; up to k - 1 bytes more come of rounding.
    """
    return round_up(min(max_segment_size, size), needed)


def num_segments(size: int, segment_size: int) -> int:
    """Return the number of segments of a file."""
    return -(-size // segment_size)


def tail_size(size: int, segment_size: int) -> int:
    """Return the length of the last segment, without padding."""
    return size - (num_segments(size, segment_size) - 1) * segment_size


def padded_tail_size(size: int, segment_size: int, needed: int) -> int:
    """Return the length of the last segment as it is coded: padded to a multiple of k."""
    return round_up(tail_size(size, segment_size), needed)


def segment_length(index: int, size: int, segment_size: int) -> int:
    """Return the length of segment ``index``, without padding."""
    return min(segment_size, size - index * segment_size)


def block_length(index: int, size: int, segment_size: int, needed: int) -> int:
    """Return the length of each block of segment ``index``."""
    return -(-segment_length(index, size, segment_size) // needed)


def share_data_size(size: int, needed: int) -> int:
    """Return the length of all blocks of one share together.

    Whole segments are multiples of k, so only the tail is rounded.
    """
    return -(-size // needed)
