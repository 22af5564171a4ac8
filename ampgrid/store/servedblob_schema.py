"""The tables of the store of other people's blobs.

A row of ``blobs`` is a blob that is coming, one that is here, or the memory of one that was
deleted (`COMING`, `HERE`, `DELETED`); a name has one row at most, so it can be only one of them.
``place`` is its number in the order in which blobs came and were deleted. ``at`` is when
something happened to it last, by the store's own time (`ampgrid.store.timekeeping`), which says
when it is too old; ``stored_at``, by the wall clock, is only shown. ``durable`` is how much of a
blob that is coming has reached the disk for certain. ``contents`` has the bytes of small blobs;
those of others are in files named by the row's id, which is never used again.

``tallies`` has the number of rows of each kind, so that a count looks at none of them.
``used`` of an account is the sum over its rows of their sizes and of `ROW_BYTES` for each.

Spec: ``docs/specs/store.md#blobs``.
"""

from __future__ import annotations

from ampgrid.store.sql import Schema

COMING, HERE, DELETED = 0, 1, 2

#: What a row counts beside the bytes of its blob: its name stands in it three times.
ROW_BYTES = 1024

_ADD = """INSERT OR IGNORE INTO tallies (account, namespace, state, flags, count)
                VALUES (NEW.account, NEW.namespace, NEW.state, NEW.flags, 0);
            UPDATE tallies SET count = count + 1
                WHERE account = NEW.account AND namespace = NEW.namespace
                AND state = NEW.state AND flags = NEW.flags;"""
_TAKE = """UPDATE tallies SET count = count - 1
                WHERE account = OLD.account AND namespace = OLD.namespace
                AND state = OLD.state AND flags = OLD.flags;
            DELETE FROM tallies
                WHERE account = OLD.account AND namespace = OLD.namespace
                AND state = OLD.state AND flags = OLD.flags AND count = 0;"""

_SINCE_2 = (
    """CREATE TABLE tallies (
            account INTEGER NOT NULL,
            namespace TEXT NOT NULL,
            state INTEGER NOT NULL,
            flags INTEGER NOT NULL,
            count INTEGER NOT NULL,
            PRIMARY KEY (account, namespace, state, flags)
        ) WITHOUT ROWID""",
    """INSERT INTO tallies SELECT account, namespace, state, flags, count(*)
            FROM blobs GROUP BY account, namespace, state, flags""",
    f"CREATE TRIGGER tally_added AFTER INSERT ON blobs BEGIN {_ADD} END",
    f"CREATE TRIGGER tally_gone AFTER DELETE ON blobs BEGIN {_TAKE} END",
    f"CREATE TRIGGER tally_moved AFTER UPDATE OF state, flags ON blobs BEGIN {_TAKE} {_ADD} END",
)

SERVED_BLOBS_SCHEMA = Schema(
    name="the store of blobs",
    application_id=0x616D7042,  # "ampB"
    version=2,
    upgrades={1: _SINCE_2},
    statements=(
        """CREATE TABLE marks (
            name TEXT PRIMARY KEY,
            value BLOB NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE tokens (
            user TEXT PRIMARY KEY,
            digest BLOB NOT NULL,
            issued_at INTEGER NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE accounts (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            used INTEGER NOT NULL DEFAULT 0
        )""",
        """CREATE TABLE blobs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            account INTEGER NOT NULL,
            namespace TEXT NOT NULL,
            blob_id TEXT NOT NULL,
            state INTEGER NOT NULL,
            size INTEGER NOT NULL,
            tag BLOB NOT NULL,
            place INTEGER NOT NULL DEFAULT 0,
            at INTEGER NOT NULL,
            stored_at INTEGER NOT NULL DEFAULT 0,
            flags INTEGER NOT NULL DEFAULT 0,
            durable INTEGER NOT NULL DEFAULT 0,
            UNIQUE (account, namespace, blob_id)
        )""",
        """CREATE INDEX blobs_by_place
            ON blobs (account, namespace, state, place, at, flags, blob_id)""",
        "CREATE INDEX blobs_coming ON blobs (at) WHERE state = 0",
        "CREATE INDEX blobs_deleted ON blobs (at) WHERE state = 2",
        """CREATE TABLE contents (
            id INTEGER PRIMARY KEY,
            data BLOB NOT NULL
        )""",
        """CREATE TRIGGER row_added AFTER INSERT ON blobs BEGIN
            UPDATE accounts SET used = used + NEW.size + 1024 WHERE id = NEW.account;
        END""",
        """CREATE TRIGGER row_resized AFTER UPDATE OF size ON blobs BEGIN
            UPDATE accounts SET used = used + NEW.size - OLD.size WHERE id = NEW.account;
        END""",
        """CREATE TRIGGER row_gone AFTER DELETE ON blobs BEGIN
            UPDATE accounts SET used = used - OLD.size - 1024 WHERE id = OLD.account;
            DELETE FROM contents WHERE id = OLD.id;
        END""",
        *_SINCE_2,
    ),
)
