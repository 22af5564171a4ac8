"""The tables of the store of directories.

A row of ``directories`` is one acceptor of the register (``docs/specs/register.md``): the record
that it accepted last, and the highest prepare that it promised if that is above what the record
binds, packed as they were signed. Its ``live`` is what the nodes under that record's root take.
``nodes`` has the nodes of the trie by their hash, written once and never changed; ``gone`` names
those that are not under an accepted root, since when, and the peer if one staged them for a record
to come. ``kept_until`` is the end of a directory's last lease; any word on a lease takes the mark
of its end away (triggers see to that, so no way of renewing can forget it). ``forgotten`` has the
ballot of what was dropped, below which nothing may ever come back. ``pointers`` are those to
snapshots.

The number of a directory is never used again, so its nodes can be removed after it.

Spec: ``docs/specs/store.md``.
"""

from __future__ import annotations

from ampgrid.store.sql import Schema

DIRECTORY_SCHEMA = Schema(
    name="the store of directories",
    application_id=0x616D7044,  # "ampD"
    # Records of earlier versions are of an earlier form, in which none named a following ballot.
    version=3,
    oldest=3,
    statements=(
        """CREATE TABLE marks (
            name TEXT PRIMARY KEY,
            value BLOB NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE peers (
            id INTEGER PRIMARY KEY,
            node_id BLOB NOT NULL UNIQUE
        )""",
        """CREATE TABLE directories (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name BLOB NOT NULL UNIQUE,
            maker INTEGER NOT NULL REFERENCES peers (id),
            made_at INTEGER NOT NULL,
            retired_at INTEGER,
            live INTEGER NOT NULL DEFAULT 0,
            kept_until INTEGER NOT NULL DEFAULT 0,
            marked_at INTEGER,
            prepare BLOB,
            accepted BLOB
        )""",
        """CREATE INDEX directories_ending ON directories (kept_until)
            WHERE marked_at IS NULL AND retired_at IS NULL""",
        "CREATE INDEX directories_marked ON directories (marked_at) WHERE marked_at IS NOT NULL",
        """CREATE INDEX directories_retired ON directories (retired_at)
            WHERE retired_at IS NOT NULL""",
        "CREATE INDEX directories_unused ON directories (made_at) WHERE accepted IS NULL",
        """CREATE TABLE forgotten (
            name BLOB PRIMARY KEY,
            ballot BLOB NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE nodes (
            id INTEGER PRIMARY KEY,
            directory INTEGER NOT NULL,
            hash BLOB NOT NULL,
            data BLOB NOT NULL,
            UNIQUE (directory, hash)
        )""",
        """CREATE TABLE gone (
            node INTEGER PRIMARY KEY,
            directory INTEGER NOT NULL,
            size INTEGER NOT NULL,
            since INTEGER NOT NULL,
            peer INTEGER
        )""",
        "CREATE INDEX gone_by_age ON gone (since)",
        """CREATE TABLE leases (
            directory INTEGER NOT NULL,
            peer INTEGER NOT NULL,
            expires_at INTEGER NOT NULL,
            PRIMARY KEY (directory, peer)
        ) WITHOUT ROWID""",
        """CREATE TRIGGER lease_added AFTER INSERT ON leases BEGIN
            UPDATE directories SET marked_at = NULL,
                kept_until = max(kept_until, NEW.expires_at) WHERE id = NEW.directory;
        END""",
        """CREATE TRIGGER lease_renewed AFTER UPDATE ON leases BEGIN
            UPDATE directories SET marked_at = NULL,
                kept_until = max(kept_until, NEW.expires_at) WHERE id = NEW.directory;
        END""",
        """CREATE TRIGGER lease_gone AFTER DELETE ON leases BEGIN
            UPDATE directories SET kept_until = coalesce(
                (SELECT max(expires_at) FROM leases WHERE directory = OLD.directory), 0)
            WHERE id = OLD.directory;
        END""",
        """CREATE TABLE pointers (
            name BLOB PRIMARY KEY,
            peer INTEGER NOT NULL,
            version BLOB NOT NULL,
            put_at INTEGER NOT NULL,
            pointer BLOB NOT NULL
        )""",
        "CREATE INDEX pointers_by_peer ON pointers (peer)",
        "CREATE INDEX pointers_by_age ON pointers (put_at)",
        """CREATE TABLE walks (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            directory INTEGER NOT NULL,
            kind TEXT NOT NULL,
            root BLOB NOT NULL,
            since INTEGER NOT NULL,
            start TEXT NOT NULL
        )""",
        "CREATE INDEX walks_by_directory ON walks (directory)",
    ),
)
