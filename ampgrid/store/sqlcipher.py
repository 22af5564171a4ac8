"""The formats of SQLCipher: which one a driver writes, and copies in another.

``sqlcipher3`` brings SQLCipher 4, whose files have other pages and another MAC than those of
SQLCipher 3, which ``pysqlcipher3`` means on old systems. Version 4 can read and write both.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

#: The formats that are known.
FORMATS = (3, 4)


def cipher_format(driver: ModuleType) -> int:
    """Return the version of SQLCipher's format that a driver writes: 3 or 4."""
    connection = driver.connect(":memory:")
    try:
        row = connection.execute("PRAGMA cipher_version").fetchone()
    finally:
        connection.close()
    return int(str(row[0]).split(".")[0]) if row else 0


def opens_in_format(driver: ModuleType, path: Path, key: bytes, number: int) -> bool:
    """Tell whether a file opens under a key in the format of another version of SQLCipher.

    Args:
        driver: of SQLCipher 4 or later.
        path: of the file; it is not changed.
        key: 32 bytes.
        number: of the format.
    """
    try:
        connection = driver.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    except driver.Error:
        return False
    try:
        connection.execute("PRAGMA cipher_log_level = NONE").fetchall()
        connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"").fetchall()
        connection.execute(f"PRAGMA cipher_compatibility = {number:d}").fetchall()
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except driver.Error:
        return False
    finally:
        connection.close()
    return True


def copy_into(connection: Any, path: Path, key: bytes, number: int | None = None) -> None:
    """Copy all of a database into a new file, also what the header says of its kind.

    Args:
        connection: to the database, in no transaction.
        path: of the new file, which must be empty or not there.
        key: of the new file, 32 bytes.
        number: its format; None for that of the driver.
    """
    kind = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.execute("ATTACH ? AS copy KEY ?", (str(path), f"x'{key.hex()}'"))
    try:
        if number is not None:
            connection.execute(f"PRAGMA copy.cipher_compatibility = {number:d}").fetchall()
        connection.execute("SELECT sqlcipher_export('copy')").fetchall()
        connection.execute(f"PRAGMA copy.application_id = {kind:d}").fetchall()
        connection.execute(f"PRAGMA copy.user_version = {version:d}").fetchall()
    finally:
        connection.execute("DETACH copy")
