"""Computes the cap that a file has, without storing anything."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator

from ampgrid.caps import MAX_LIT_SIZE, ChkCap, LitCap
from ampgrid.crypto.hashing import Buffer, ConvergentKey
from ampgrid.erasure import Engine
from ampgrid.errors import FileChangedError
from ampgrid.formats.chkwriter import FileEncoder
from ampgrid.formats.segments import check_parameters, segment_size_for

_CHANGED = "The file changed while it was read; try again when nothing writes to it."


def cut(parts: Iterable[Buffer], segment_size: int) -> Iterator[Buffer]:
    """Cut a stream of bytes into segments, copying nothing that comes as a whole segment.

    Args:
        parts: the stream, in parts of any length.
        segment_size: bytes a segment.

    Yields:
        Segments of exactly that size, the last one shorter where it must be.
    """
    held = bytearray()
    for part in parts:
        view = memoryview(part)
        while view:
            if not held and len(view) >= segment_size:
                yield view[:segment_size]
                view = view[segment_size:]
                continue
            wanted = segment_size - len(held)
            held += view[:wanted]
            view = view[wanted:]
            if len(held) == segment_size:
                yield held
                held = bytearray()
    if held:
        yield held


def _exactly(parts: Iterable[Buffer], size: int) -> Iterator[Buffer]:
    """Pass a stream on and make sure that it has ``size`` bytes."""
    count = 0
    for part in parts:
        count += len(part)
        if count > size:
            raise FileChangedError(_CHANGED)
        yield part
    if count != size:
        raise FileChangedError(_CHANGED)


def convergent_key(parts: Iterable[Buffer], key: ConvergentKey) -> bytes:
    """Feed a whole plaintext to ``key`` and return the file's key, 16 bytes."""
    for part in parts:
        key.update(part)
    return key.digest()


def compute_cap(
    read_again: Callable[[], Iterable[Buffer]],
    size: int,
    needed: int,
    total: int,
    max_segment_size: int,
    secret: bytes,
    *,
    engine: Engine | None = None,
) -> ChkCap | LitCap:
    """Return the cap that an upload of the file would give.

    The file is read twice, as its key comes from all of it; what is held in memory is a few
    segments, whatever its size.

    Args:
        read_again: opens the file anew; gives its bytes in parts of any length, which must not
            change afterwards.
        size: of the file, bytes.
        needed: number of shares needed (k).
        total: number of shares made (n).
        max_segment_size: bytes, as in `segment_size_for`.
        secret: the convergence secret.
        engine: what does the arithmetic of erasure coding.

    Raises:
        FileChangedError: the file has another length, or changed between the two passes.
        BadArgumentValueError: the numbers of shares or the segment size are out of bounds.
    """
    check_parameters(needed, total, max_segment_size)
    if size <= MAX_LIT_SIZE:
        return LitCap(b"".join(bytes(part) for part in _exactly(read_again(), size)))
    segment_size = segment_size_for(size, needed, max_segment_size)
    key = convergent_key(
        _exactly(read_again(), size), ConvergentKey(secret, needed, total, segment_size)
    )
    encoder = FileEncoder(key, size, needed, total, segment_size, engine=engine)
    again = ConvergentKey(secret, needed, total, segment_size)
    for index, segment in enumerate(cut(_exactly(read_again(), size), segment_size)):
        again.update(segment)
        encoder.absorb(encoder.encode_segment(index, segment))
    if not hmac.compare_digest(again.digest(), key):
        raise FileChangedError(_CHANGED)
    return encoder.finish().cap
