"""SQLite's own I/O under watch: a layer between SQLite and the system that may fail its calls.

SQLite does its I/O through a table of functions (a VFS). `SqliteShim` puts a table of its own in
front of the system's, in the very library that the driver has loaded, so that every read, write,
truncation, synchronisation, creation and removal of a database, its log and its journal passes
by here: it can be made to fail as a disk fails, and it can be recorded. Nothing of SQLite is
replaced by a model.

    with SqliteShim.installed() as shim:
        shim.tap = something           # a `Tap`; None lets everything pass
        ... open databases, in this process, with the driver of `ampgrid.store.sql` ...

Databases opened before the shim was installed are not watched. One process has one shim.

Source: https://www.sqlite.org/c3ref/vfs.html and https://www.sqlite.org/c3ref/io_methods.html
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import attrs

from ampgrid.store.sql import find_driver

# Result codes. Source: https://www.sqlite.org/rescode.html
SQLITE_OK = 0
SQLITE_FULL = 13
SQLITE_CANTOPEN = 14
SQLITE_IOERR_READ = 266
SQLITE_IOERR_WRITE = 778
SQLITE_IOERR_FSYNC = 1034
SQLITE_IOERR_TRUNCATE = 1546
SQLITE_IOERR_DELETE = 2570

_OPEN_CREATE = 0x4
#: Files whose first synchronisation also synchronises their directory: journal, its parent, log.
_OPEN_KINDS_SYNCED_BY_NAME = 0x800 | 0x4000 | 0x80000

Operation = Literal["open", "read", "write", "truncate", "sync", "delete"]

_XOpen = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_XDelete = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_XClose = ctypes.CFUNCTYPE(c_int, c_void_p)
_XRead = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_XWrite = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_XTruncate = ctypes.CFUNCTYPE(c_int, c_void_p, c_int64)
_XSync = ctypes.CFUNCTYPE(c_int, c_void_p, c_int)


class _Vfs(Structure):
    _fields_: ClassVar[Any] = [
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        ("xOpen", _XOpen),
        ("xDelete", _XDelete),
        ("others", c_void_p * 14),
    ]


class _Methods(Structure):
    _fields_: ClassVar[Any] = [
        ("iVersion", c_int),
        ("xClose", _XClose),
        ("xRead", _XRead),
        ("xWrite", _XWrite),
        ("xTruncate", _XTruncate),
        ("xSync", _XSync),
        ("others", c_void_p * 13),
    ]


class _File(Structure):
    _fields_: ClassVar[Any] = [("pMethods", POINTER(_Methods))]


@attrs.frozen
class Call:
    """One call of SQLite to the system.

    Attributes:
        operation: which.
        path: of the file.
        offset: of a write, bytes.
        data: of a write.
        size: what a file is truncated to, bytes.
        names: a synchronisation or removal makes the names in the directory durable too; an
            opening makes the file.
    """

    operation: Operation
    path: Path
    offset: int = 0
    data: bytes = b""
    size: int = 0
    names: bool = False


@attrs.frozen
class Refusal:
    """What a tap answers to make a call fail.

    Attributes:
        code: SQLite's result code.
        part: how many bytes of a write reach the file all the same.
        done: the whole work is done all the same, and only said to have failed.
    """

    code: int
    part: int = 0
    done: bool = False


class Tap(Protocol):
    """Watches SQLite's calls."""

    def before(self, call: Call) -> Refusal | None:
        """Return how the call shall fail, None to let it pass."""
        ...

    def after(self, call: Call) -> None:
        """Take note of a call that did its work; of a refused write, of the part it did."""
        ...


@attrs.define
class _Opened:
    path: Path
    methods: _Methods
    sync_names: bool


def _library() -> ctypes.CDLL:
    driver = find_driver()
    package = driver.__name__.rpartition(".")[0]
    compiled = importlib.import_module(f"{package}._sqlite3")
    library = ctypes.CDLL(compiled.__file__)
    library.sqlite3_vfs_find.restype = POINTER(_Vfs)
    library.sqlite3_vfs_find.argtypes = [c_char_p]
    library.sqlite3_vfs_register.argtypes = [POINTER(_Vfs), c_int]
    return library


class SqliteShim:
    """The layer; made once a process by `installed`.

    Attributes:
        tap: who watches and refuses, or None.
        errors: what a tap raised, which SQLite was told as an I/O error.
    """

    _only: ClassVar[SqliteShim | None] = None

    def __init__(self) -> None:
        self.tap: Tap | None = None
        self.errors: list[BaseException] = []
        self._library = _library()
        self._library.sqlite3_initialize()
        self._real = self._library.sqlite3_vfs_find(None)
        self._files: dict[int, _Opened] = {}
        self._tables: dict[int, tuple[_Methods, _Methods]] = {}
        self._vfs = _Vfs.from_buffer_copy(self._real.contents)
        self._vfs.zName = b"ampgrid-shim"
        self._vfs.pNext = None
        # Kept here: C holds them without Python knowing.
        self._vfs.xOpen = self._on_open = _XOpen(self._open)
        self._vfs.xDelete = self._on_delete = _XDelete(self._delete)

    @classmethod
    @contextmanager
    def installed(cls) -> Iterator[SqliteShim]:
        """Let the databases that are opened in this context be watched, also after its end."""
        if cls._only is None:
            cls._only = cls()
        shim = cls._only
        shim._library.sqlite3_vfs_register(ctypes.byref(shim._vfs), 1)
        try:
            yield shim
        finally:
            shim.tap = None
            shim._library.sqlite3_vfs_register(shim._real, 1)

    # The calls.

    def _pass(
        self, call: Call, work: Callable[[], int], partly: Callable[[int], int] | None = None
    ) -> int:
        """Ask the tap and do the work, or a part of it; return a result code."""
        tap = self.tap
        if tap is None:
            return work()
        try:
            refusal = tap.before(call)
            if refusal is None or refusal.done:
                code = work()
                if code == SQLITE_OK:
                    tap.after(call)
                return code if refusal is None else refusal.code
            if refusal.part and partly is not None and partly(refusal.part) == SQLITE_OK:
                tap.after(attrs.evolve(call, data=call.data[: refusal.part]))
            return refusal.code
        except BaseException as error:  # noqa: BLE001 - nothing may be raised into C
            self.errors.append(error)
            return SQLITE_IOERR_WRITE

    def _open(self, vfs: int, name: int, file: int, flags: int, out: int) -> int:
        if not name:  # a temporary file without a name
            return int(self._real.contents.xOpen(vfs, name, file, flags, out))
        path = Path(ctypes.string_at(name).decode("utf-8", "surrogateescape"))
        opened = _File.from_address(file)
        is_new = bool(flags & _OPEN_CREATE) and not path.exists()

        def work() -> int:
            code = int(self._real.contents.xOpen(vfs, name, file, flags, out))
            if opened.pMethods:
                methods, watched = self._table(ctypes.addressof(opened.pMethods.contents))
                sync_names = is_new and bool(flags & _OPEN_KINDS_SYNCED_BY_NAME)
                self._files[file] = _Opened(path, methods, sync_names)
                opened.pMethods = ctypes.pointer(watched)
            return code

        opened.pMethods = None
        return self._pass(Call("open", path, names=is_new), work)

    def _table(self, address: int) -> tuple[_Methods, _Methods]:
        """Return the real methods and ours for a table of methods of the system's VFS."""
        if address not in self._tables:
            methods = _Methods.from_address(address)
            watched = _Methods.from_buffer_copy(methods)
            watched.xClose = _XClose(self._close)
            watched.xRead = _XRead(self._read)
            watched.xWrite = _XWrite(self._write)
            watched.xTruncate = _XTruncate(self._truncate)
            watched.xSync = _XSync(self._sync)
            self._tables[address] = (methods, watched)
        return self._tables[address]

    def _delete(self, vfs: int, name: int, sync_names: int) -> int:
        path = Path(ctypes.string_at(name).decode("utf-8", "surrogateescape"))
        return self._pass(
            Call("delete", path, names=bool(sync_names)),
            lambda: int(self._real.contents.xDelete(vfs, name, sync_names)),
        )

    def _close(self, file: int) -> int:
        return int(self._files.pop(file).methods.xClose(file))

    def _read(self, file: int, buffer: int, amount: int, offset: int) -> int:
        opened = self._files[file]
        return self._pass(
            Call("read", opened.path, offset, size=amount),
            lambda: int(opened.methods.xRead(file, buffer, amount, offset)),
        )

    def _write(self, file: int, buffer: int, amount: int, offset: int) -> int:
        opened = self._files[file]

        def write(count: int) -> int:
            return int(opened.methods.xWrite(file, buffer, count, offset))

        data = b"" if self.tap is None else ctypes.string_at(buffer, amount)
        call = Call("write", opened.path, offset, data)
        return self._pass(call, lambda: write(amount), write)

    def _truncate(self, file: int, size: int) -> int:
        opened = self._files[file]
        return self._pass(
            Call("truncate", opened.path, size=size),
            lambda: int(opened.methods.xTruncate(file, size)),
        )

    def _sync(self, file: int, flags: int) -> int:
        opened = self._files[file]

        def work() -> int:
            code = int(opened.methods.xSync(file, flags))
            if code == SQLITE_OK:
                opened.sync_names = False
            return code

        return self._pass(Call("sync", opened.path, names=opened.sync_names), work)
