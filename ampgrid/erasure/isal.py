"""Intel's ISA-L through ctypes, with the matrix of zfec, so that the bytes are the same.

The library comes with the system (``libisal.so.2``) or inside the wheel of pyeclib. ctypes
releases the interpreter lock around each call. Results are written straight into new bytes
objects, and read-only buffers are read where they are: nothing is copied.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ampgrid.crypto.hashing import Buffer
from ampgrid.erasure.zfec_ import ZFEC, generator_matrix

_SYSTEM_NAMES = ("libisal.so.2", "libisal.2.dylib")
#: Bytes of lookup tables a coefficient. Source: ``ec_init_tables`` in ISA-L's erasure_code.h.
_TABLE_BYTES = 32


class _PyBuffer(ctypes.Structure):
    """CPython's ``Py_buffer``, of which the address alone is of interest."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
_get_buffer = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int
)(("PyObject_GetBuffer", ctypes.pythonapi))
_release_buffer = ctypes.PYFUNCTYPE(None, ctypes.POINTER(_PyBuffer))(
    ("PyBuffer_Release", ctypes.pythonapi)
)


class _Pinned:
    """Buffers that stay where they are while C code reads them; a context manager.

    Attributes:
        addresses: where each of them begins.
    """

    __slots__ = ("_views", "addresses")

    def __init__(self, buffers: Iterable[Buffer]) -> None:
        self._views: list[_PyBuffer] = []
        self.addresses: list[int] = []
        for buffer in buffers:
            view = _PyBuffer()
            # Flags 0 is PyBUF_SIMPLE; anything but plain bytes in a row raises BufferError.
            _get_buffer(buffer, ctypes.byref(view), 0)
            self._views.append(view)
            self.addresses.append(view.buf)

    def __enter__(self) -> list[int]:
        return self.addresses

    def __exit__(self, *exception: object) -> None:
        for view in self._views:
            _release_buffer(ctypes.byref(view))


def _pointers(addresses: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(addresses))(*addresses)


class IsalEngine:
    """ISA-L as an `ampgrid.erasure.engines.Engine`.

    Args:
        library: the loaded libisal.
    """

    name = "isal"

    def __init__(self, library: ctypes.CDLL) -> None:
        self._init_tables = library.ec_init_tables
        self._init_tables.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p]
        self._init_tables.restype = None
        self._encode_data = library.ec_encode_data
        self._encode_data.argtypes = [
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        self._encode_data.restype = None
        self._invert = library.gf_invert_matrix
        self._invert.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]
        self._invert.restype = ctypes.c_int
        self._encode_tables = functools.lru_cache(maxsize=64)(self._make_encode_tables)
        self._rebuild_tables = functools.lru_cache(maxsize=64)(self._make_rebuild_tables)

    def _tables(self, needed: int, rows: Sequence[bytes]) -> bytes:
        """Return the lookup tables for some rows of ``needed`` coefficients each."""
        tables = ctypes.create_string_buffer(_TABLE_BYTES * needed * len(rows))
        self._init_tables(needed, len(rows), b"".join(rows), tables)
        return tables.raw

    def _make_encode_tables(self, needed: int, total: int, wanted: tuple[int, ...]) -> bytes:
        matrix = generator_matrix(needed, total)
        return self._tables(needed, [matrix[number] for number in wanted])

    def _make_rebuild_tables(
        self, needed: int, total: int, numbers: tuple[int, ...], missing: tuple[int, ...]
    ) -> bytes:
        """Return tables that make the missing primary blocks of those that are there.

        The rows of the blocks that are there form a matrix that makes them of the primary
        blocks; its inverse goes the other way.
        """
        matrix = generator_matrix(needed, total)
        square = b"".join(matrix[number] for number in numbers)
        # The input is overwritten, so it must be a buffer of its own.
        scratch = ctypes.create_string_buffer(square, len(square))
        inverse = ctypes.create_string_buffer(needed * needed)
        if self._invert(scratch, inverse, needed) != 0:
            # Any k rows of the code are independent; only a broken library comes here.
            raise ArithmeticError("ISA-L could not invert a matrix that has an inverse")
        rows = inverse.raw
        return self._tables(
            needed, [rows[number * needed : (number + 1) * needed] for number in missing]
        )

    def _multiply(self, tables: bytes, size: int, sources: list[int], count: int) -> list[bytes]:
        """Return ``count`` new blocks of ``size`` bytes made of the blocks at ``sources``."""
        # Uninitialised bytes objects that nobody else has seen yet: C fills them in.
        made: list[bytes] = [_new_bytes(None, size) for _ in range(count)]
        with _Pinned(made) as targets:
            self._encode_data(
                size, len(sources), count, tables, _pointers(sources), _pointers(targets)
            )
        return made

    def encode(
        self, needed: int, total: int, segment: Buffer, wanted: tuple[int, ...]
    ) -> list[bytes]:
        """Compute secondary blocks."""
        size = len(segment) // needed
        if not wanted or not size:
            return [b""] * len(wanted)
        tables = self._encode_tables(needed, total, wanted)
        with _Pinned([segment]) as (start,):
            sources = [start + i * size for i in range(needed)]
            return self._multiply(tables, size, sources, len(wanted))

    def rebuild(
        self,
        needed: int,
        total: int,
        blocks: Sequence[Buffer],
        numbers: tuple[int, ...],
        missing: tuple[int, ...],
    ) -> list[bytes]:
        """Compute primary blocks from others."""
        size = len(blocks[0])
        if not missing or not size:
            return [b""] * len(missing)
        tables = self._rebuild_tables(needed, total, numbers, missing)
        with _Pinned(blocks) as sources:
            return self._multiply(tables, size, sources, len(missing))


def agrees_with_zfec(engine: IsalEngine) -> bool:
    """Tell whether ``engine`` gives zfec's bytes: several codes, odd lengths, both ways."""
    for needed, total, size in ((1, 1, 1), (1, 4, 33), (3, 10, 1021), (10, 14, 257), (25, 60, 70)):
        segment = bytes((i * i * 7 + i // 251) % 256 for i in range(needed * size))
        wanted = tuple(range(needed, total))
        secondary = engine.encode(needed, total, segment, wanted)
        if secondary != ZFEC.encode(needed, total, segment, wanted):
            return False
        whole = [segment[i * size : (i + 1) * size] for i in range(needed)] + secondary
        numbers = tuple(range(total - 1, total - 1 - needed, -1))
        missing = tuple(i for i in range(needed) if i not in numbers)
        rebuilt = engine.rebuild(needed, total, [whole[i] for i in numbers], numbers, missing)
        if rebuilt != [whole[i] for i in missing]:
            return False
    return True


def _candidates() -> list[str]:
    """Return what may be loaded, the library of the system first."""
    found = list(_SYSTEM_NAMES)
    specification = importlib.util.find_spec("pyeclib")
    if specification is not None and specification.origin:
        beside = Path(specification.origin).parent.parent / "pyeclib.libs"
        found += sorted(str(path) for path in beside.glob("libisal*"))
    return found


@functools.cache
def load() -> IsalEngine | None:
    """Return the engine, or None where there is no libisal or one that disagrees with zfec."""
    if sys.implementation.name != "cpython":
        return None
    for name in _candidates():
        try:
            # Not PyDLL: CDLL releases the interpreter lock while it works.
            library: Any = ctypes.CDLL(name)
            engine = IsalEngine(library)
        except (OSError, AttributeError):
            continue
        if agrees_with_zfec(engine):
            return engine
    return None
