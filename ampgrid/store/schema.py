"""The tables of the store of shares.

``shares`` names every share that is stored: with its bytes in ``data`` if it is small, else
they are the file ``shares/<first two>/<storage index>/<number>``. The account of a peer (``bytes``
and ``shares`` of ``peers``) is kept by triggers, so nothing can change a share and forget it.
``lost`` remembers shares whose file was found missing or of a wrong size, until it comes back.
Leases are a file's, not a share's; of their secrets only digests are kept. ``marked`` names the
files whose last lease has run out, and any new word on a lease takes the mark away; ``doomed``,
the files of shares that are gone and still have to be removed; ``findings``, what was found bad;
``aside``, what of it lies in the quarantine. The number of a share's row is never used again (the
mark ``last_row`` sees to that): who has looked at a share must not take another one for it.

Spec: ``docs/specs/store.md``.
"""

from __future__ import annotations

from ampgrid.store.sql import Schema

#: "ampS", in the header of the file.
APPLICATION_ID = 0x616D7053

#: What version 2 has beside the tables of version 1.
_SINCE_2 = (
    "ALTER TABLE shares ADD COLUMN tail BLOB",
    "CREATE INDEX leases_by_end ON leases (expires_at, storage_index)",
    """CREATE TABLE marked (
        storage_index BLOB PRIMARY KEY,
        marked_at INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX marked_by_age ON marked (marked_at)",
    """CREATE TABLE doomed (
        storage_index BLOB NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (storage_index, number)
    ) WITHOUT ROWID""",
    """CREATE TABLE findings (
        id INTEGER PRIMARY KEY,
        storage_index BLOB NOT NULL,
        number INTEGER NOT NULL,
        size INTEGER NOT NULL,
        peer BLOB NOT NULL,
        reason TEXT NOT NULL,
        found_at INTEGER NOT NULL
    )""",
    """CREATE TRIGGER lease_added AFTER INSERT ON leases BEGIN
        DELETE FROM marked WHERE storage_index = NEW.storage_index;
    END""",
    """CREATE TRIGGER lease_renewed AFTER UPDATE ON leases BEGIN
        DELETE FROM marked WHERE storage_index = NEW.storage_index;
    END""",
)

#: What version 3 has beside these: the number of leases, which counts for the room.
_SINCE_3 = (
    "INSERT OR REPLACE INTO marks (name, value) SELECT 'leases', count(*) FROM leases",
    """CREATE TRIGGER lease_counted AFTER INSERT ON leases BEGIN
        UPDATE marks SET value = value + 1 WHERE name = 'leases';
    END""",
    """CREATE TRIGGER lease_uncounted AFTER DELETE ON leases BEGIN
        UPDATE marks SET value = value - 1 WHERE name = 'leases';
    END""",
)

#: What version 4 has beside these: who took a lease, and whose shares lie in the quarantine.
_SINCE_4 = (
    "ALTER TABLE leases ADD COLUMN peer INTEGER",
    "ALTER TABLE peers ADD COLUMN aside INTEGER NOT NULL DEFAULT 0",
    """CREATE TABLE aside (
        name TEXT PRIMARY KEY,
        storage_index BLOB NOT NULL,
        number INTEGER NOT NULL,
        size INTEGER NOT NULL,
        peer INTEGER NOT NULL REFERENCES peers (id),
        set_aside_at INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX aside_by_age ON aside (set_aside_at)",
    """CREATE TRIGGER aside_added AFTER INSERT ON aside BEGIN
        UPDATE peers SET aside = aside + NEW.size WHERE id = NEW.peer;
    END""",
    """CREATE TRIGGER aside_gone AFTER DELETE ON aside BEGIN
        UPDATE peers SET aside = aside - OLD.size WHERE id = OLD.peer;
    END""",
)

SHARES_SCHEMA = Schema(
    name="the store of shares",
    application_id=APPLICATION_ID,
    version=4,
    upgrades={1: _SINCE_2, 2: _SINCE_3, 3: _SINCE_4},
    statements=(
        """CREATE TABLE marks (
            name TEXT PRIMARY KEY,
            value INTEGER NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE peers (
            id INTEGER PRIMARY KEY,
            node_id BLOB NOT NULL UNIQUE,
            bytes INTEGER NOT NULL DEFAULT 0,
            shares INTEGER NOT NULL DEFAULT 0
        )""",
        """CREATE TABLE shares (
            id INTEGER PRIMARY KEY,
            storage_index BLOB NOT NULL,
            number INTEGER NOT NULL,
            size INTEGER NOT NULL,
            peer INTEGER NOT NULL REFERENCES peers (id),
            stored_at INTEGER NOT NULL,
            data BLOB,
            UNIQUE (storage_index, number)
        )""",
        "CREATE INDEX shares_in_files ON shares (id) WHERE data IS NULL",
        """CREATE TABLE lost (
            storage_index BLOB NOT NULL,
            number INTEGER NOT NULL,
            size INTEGER NOT NULL,
            peer INTEGER NOT NULL REFERENCES peers (id),
            stored_at INTEGER NOT NULL,
            PRIMARY KEY (storage_index, number)
        ) WITHOUT ROWID""",
        """CREATE TABLE leases (
            storage_index BLOB NOT NULL,
            renew BLOB NOT NULL,
            cancel BLOB NOT NULL,
            expires_at INTEGER NOT NULL,
            PRIMARY KEY (storage_index, renew)
        ) WITHOUT ROWID""",
        """CREATE TABLE advisories (
            storage_index BLOB NOT NULL,
            number INTEGER NOT NULL,
            peer BLOB NOT NULL,
            reason TEXT NOT NULL,
            advised_at INTEGER NOT NULL,
            PRIMARY KEY (storage_index, number)
        ) WITHOUT ROWID""",
        """CREATE TRIGGER share_stored AFTER INSERT ON shares BEGIN
            UPDATE peers SET bytes = bytes + NEW.size, shares = shares + 1 WHERE id = NEW.peer;
        END""",
        """CREATE TRIGGER share_gone AFTER DELETE ON shares BEGIN
            UPDATE peers SET bytes = bytes - OLD.size, shares = shares - 1 WHERE id = OLD.peer;
        END""",
        *_SINCE_2,
        *_SINCE_3,
        *_SINCE_4,
    ),
)
