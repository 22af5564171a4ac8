"""Material for tests: bytes, whole shares, shelves that hold them."""

import hashlib

from ampgrid.crypto.hashing import ConvergentKey
from ampgrid.formats.chkwriter import FileEncoder
from ampgrid.formats.segments import segment_size_for
from ampgrid.testing.shelves import Shelf
from tests.hygiene import marked


def some_bytes(size, seed=b"s"):
    """Return bytes that look random, but for `tests.hygiene.MARK`, and are always the same."""
    return marked(hashlib.shake_128(seed).digest(size))


def make_shares(data, needed, total, max_segment_size=1024 * 1024):
    """Return (cap, list of whole shares)."""
    segment_size = segment_size_for(len(data), needed, max_segment_size)
    hasher = ConvergentKey(b"c" * 32, needed, total, segment_size)
    hasher.update(data)
    encoder = FileEncoder(hasher.digest(), len(data), needed, total, segment_size)
    bodies = [bytearray() for _ in range(total)]
    for index, start in enumerate(range(0, len(data), segment_size)):
        encoded = encoder.encode_segment(index, data[start : start + segment_size])
        encoder.absorb(encoded)
        for body, block in zip(bodies, encoded.blocks, strict=True):
            body.extend(block)
    tail = encoder.finish()
    header = encoder.layout.header()
    shares = [
        header + bytes(body) + encoder.share_tail(tail, number)
        for number, body in enumerate(bodies)
    ]
    return tail.cap, shares


def shelves_for(cap, shares):
    """Return a shelf for each (number, share)."""
    return [
        Shelf(bytes([number]) * 20, {(cap.storage_index, number): share})
        for number, share in shares
    ]
