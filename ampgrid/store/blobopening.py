"""Opening a local store of blobs with a key or a passphrase, and giving it another one.

Beside the database stands its key file (`ampgrid.formats.blobkey`). Giving the store another key
writes both into the file first, then the database anew, then the new one alone into the file: a
process that is killed on the way leaves a store that opens with one of the two.
"""

from __future__ import annotations

import os
from pathlib import Path

from attrs import define

from ampgrid.crypto.sealed import DEFAULT_COST, Cost
from ampgrid.errors import BadArgumentValueError, ConfigError, FormatError, WrongKeyError
from ampgrid.formats.blobkey import MAX_KEY_FILE_BYTES, KeyFile, Slot, key_of, new_slot
from ampgrid.ports import Entropy
from ampgrid.store.filesystem import FileSystem, PosixFileSystem
from ampgrid.store.localblobs import LocalBlobStore
from ampgrid.store.sql import find_driver
from ampgrid.store.sqlcipher import FORMATS, cipher_format

#: What opens a store: a key of 32 bytes, or a passphrase.
Opener = bytes | str

_DRIVERS = {3: "pysqlcipher3", 4: "sqlcipher3"}


@define
class BlobStoreFiles:
    """The files of a local store: the database, and beside it its key file.

    Attributes:
        path: of the database; its directory is made if it does not exist.
        files: where they are.
    """

    path: Path
    files: FileSystem

    @classmethod
    def at(cls, path: Path) -> BlobStoreFiles:
        """Return the files of a store on the disk."""
        return cls(path, PosixFileSystem())

    @property
    def key_path(self) -> Path:
        """Path of the key file."""
        return self.path.with_name(self.path.name + ".key")

    def open(
        self, opener: Opener, entropy: Entropy = os.urandom, cost: Cost = DEFAULT_COST
    ) -> LocalBlobStore:
        """Open the store; it is made if it does not exist.

        Args:
            opener: a key of 32 bytes, or a passphrase.
            entropy: where the salt of a new store comes from.
            cost: of a guess at the passphrase of a new store.

        Raises:
            BadArgumentValueError: ``opener`` is no key, or no passphrase.
            ConfigError: it is the wrong one, another process has the store open, it was made
                with the other driver, or it cannot be opened.
            FormatError: the files are damaged, or of another kind.
        """
        self._make_directories()
        if not self.files.size_of(self.path):
            return self._make(opener, entropy, cost)
        stored = self._read()
        if stored is None:
            return self._open_without(opener, entropy)
        self._check_driver(stored)
        slot, key = _right_slot(stored, opener)
        try:
            store = LocalBlobStore(self.path, key)
        except FormatError:
            if len(stored.slots) == 1:
                raise
            raise ConfigError(
                "The store of blobs was being given another key when that was cut short: open it "
                "with the other one, the former or the new, and give it the new one again."
            ) from None
        if len(stored.slots) > 1:
            self._write(KeyFile(stored.cipher_format, (slot,)))
        return store

    def rekey(
        self,
        store: LocalBlobStore,
        former: Opener,
        opener: Opener,
        entropy: Entropy = os.urandom,
        cost: Cost = DEFAULT_COST,
    ) -> None:
        """Give an open store another key; all of it is enciphered anew.

        Args:
            store: the one that `open` returned.
            former: what opens it now.
            opener: what shall open it: a key of 32 bytes, or a passphrase.
            entropy: where the salt comes from.
            cost: of a guess at the passphrase.

        Raises:
            BadArgumentValueError: ``opener`` is no key, or no passphrase.
            ConfigError: ``former`` is the wrong one.
            StoreError: it could not be done; the store is as it was.
        """
        stored = self._read()
        if stored is None:
            raise ConfigError("The key file of the store of blobs is gone.")
        old, _key = _right_slot(stored, former)
        slot, key = new_slot(opener, entropy, cost)
        self._write(KeyFile(stored.cipher_format, (old, slot)))
        store.rekey(key)
        self._write(KeyFile(stored.cipher_format, (slot,)))

    def export(
        self,
        store: LocalBlobStore,
        opener: Opener,
        number: int | None = None,
        entropy: Entropy = os.urandom,
        cost: Cost = DEFAULT_COST,
    ) -> None:
        """Write all of an open store to these files, which must not be there yet.

        Args:
            store: what is to be copied.
            opener: what shall open the copy.
            number: the format of SQLCipher, 3 (for ``pysqlcipher3``) or 4 (for ``sqlcipher3``);
                None for that of the driver.
            entropy: where the salt comes from.
            cost: of a guess at the passphrase.

        Raises:
            BadArgumentValueError: the driver does not know that format.
            ConfigError: something is there already.
            StoreError: it could not be done.
        """
        own = cipher_format(find_driver())
        if number not in (None, own) and (own < max(FORMATS) or number not in FORMATS):
            raise BadArgumentValueError("This driver cannot write that format of SQLCipher.")
        if self.files.size_of(self.path) is not None:
            raise ConfigError(f"{self.path} is there already; it was left as it is.")
        self._make_directories()
        slot, key = new_slot(opener, entropy, cost)
        self._write(KeyFile(number or own, (slot,)))
        store.copy_to(self.path, key, None if number == own else number)

    def _make_directories(self) -> None:
        """Make the directory of the files, and what lacks above it.

        Raises:
            ConfigError: it cannot be made.
        """
        missing = [self.path.parent]
        while not missing[-1].exists() and missing[-1] != missing[-1].parent:
            missing.append(missing[-1].parent)
        try:
            for directory in reversed(missing[:-1]):
                self.files.make_directory(directory)
            self.files.make_directory(self.path.parent)
        except OSError as error:
            raise ConfigError(
                f"The directory {self.path.parent} cannot be used: {error.strerror}."
            ) from error

    def _make(self, opener: Opener, entropy: Entropy, cost: Cost) -> LocalBlobStore:
        slot, key = self._slot_there(opener) or new_slot(opener, entropy, cost)
        self._write(KeyFile(cipher_format(find_driver()), (slot,)))
        return LocalBlobStore(self.path, key)

    def _slot_there(self, opener: Opener) -> tuple[Slot, bytes] | None:
        """Return what a key file without a database says of this key, None if nothing.

        The database may be only away, and its passphrase opens it with that salt alone.
        """
        try:
            stored = self._read()
            return None if stored is None else _right_slot(stored, opener)
        except (FormatError, ConfigError):
            return None

    def _open_without(self, opener: Opener, entropy: Entropy) -> LocalBlobStore:
        """Open a store whose key file is gone, which a key does alone."""
        if isinstance(opener, str):
            raise ConfigError(
                f"{self.key_path} is gone; without it no passphrase opens the store of blobs: "
                "put it back from a copy."
            )
        slot, key = new_slot(opener, entropy)
        store = LocalBlobStore(self.path, key)
        self._write(KeyFile(cipher_format(find_driver()), (slot,)))
        return store

    def _check_driver(self, stored: KeyFile) -> None:
        if stored.cipher_format != cipher_format(find_driver()):
            driver = _DRIVERS[stored.cipher_format]
            raise ConfigError(
                f"The store of blobs {self.path.name} was made with the driver {driver}: set "
                f"AMPGRID_SQLCIPHER={driver}, or export it from there in the other format."
            )

    def _read(self) -> KeyFile | None:
        size = self.files.size_of(self.key_path)
        if size is None:
            return None
        if size > MAX_KEY_FILE_BYTES:
            raise FormatError("The key file of the store of blobs is too large.")
        descriptor = self.files.open_read(self.key_path)
        try:
            return KeyFile.unpack(self.files.read_at(descriptor, 0, size))
        finally:
            self.files.close(descriptor)

    def _write(self, key_file: KeyFile) -> None:
        """Replace the key file, durably; a crash leaves the former or the new one."""
        new = self.key_path.with_name(self.key_path.name + ".new")
        if self.files.size_of(new) is not None:
            self.files.unlink(new)
        descriptor = self.files.open_new(new)
        try:
            self.files.write_at(descriptor, 0, [key_file.pack()])
            self.files.fsync(descriptor)
        finally:
            self.files.close(descriptor)
        self.files.rename(new, self.key_path)
        self.files.fsync_directory(self.key_path.parent)


def _right_slot(stored: KeyFile, opener: Opener) -> tuple[Slot, bytes]:
    for slot in stored.slots:
        key = key_of(slot, opener)
        if key is not None:
            return slot, key
    raise WrongKeyError("The key or passphrase of the store of blobs is not the right one.")
