"""Whether a node could be brought back: when it was exported last, and what has come since."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ampgrid.node.directory import NodeDirectory

_MAX_MARK_BYTES = 1000
_NEVER = (
    "never exported; run 'ampgrid recovery export FILE' and keep FILE and its passphrase on "
    "another machine"
)


def exported_at(directory: NodeDirectory) -> float | None:
    """Return when a recovery file was last exported, seconds since 1970; None for never."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        with directory.exported_path.open("rb") as file:
            found = json.loads(file.read(_MAX_MARK_BYTES)).get("exported_at")
        if isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found < 2**40:
            return found
    return None


class Reminder:
    """Says in a node's status whether it could be brought back.

    Args:
        directory: of the node.
        kept_since: returns how many files are kept that were added after a time (seconds since
            1970); None for a node that keeps none.
    """

    def __init__(
        self, directory: NodeDirectory, kept_since: Callable[[float], int] | None = None
    ) -> None:
        self._directory = directory
        self._kept_since = kept_since

    def status(self) -> dict[str, Any]:
        """Return when the last recovery file was exported and what it lacks, for JSON.

        Returns:
            exported_at (seconds since 1970, None for never), kept_added_since (number of files,
            None if the node keeps no list), reminder (a sentence, empty if nothing is due).
        """
        at = exported_at(self._directory)
        added = None if self._kept_since is None else self._kept_since(at or 0)
        if at is None:
            reminder = _NEVER
        elif added:
            day = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
            files = "1 file was" if added == 1 else f"{added} files were"
            reminder = f"{files} put since the last export, on {day}; export again"
        else:
            reminder = ""
        return {
            "exported_at": None if at is None else int(at),
            "kept_added_since": added,
            "reminder": reminder,
        }
