"""What a walk of the keeper came to: counts, and the files that are worth a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ampgrid.crypto.identity import node_id_text
from ampgrid.immutable.operation import Operation
from ampgrid.immutable.renewal import Lateness
from ampgrid.immutable.schedule import Verdict
from ampgrid.store.keptdb import KeptFile

if TYPE_CHECKING:
    from ampgrid.immutable.walker import Look

#: What is counted, of a run and of a period.
COUNTED = (
    "walked",
    "renewed",
    "checked",
    "verified",
    "repaired",
    "shares_written",
    "waiting",
    "skipped",
    "failed",
    "lost",
)
#: Files of which a report tells one by one.
_MOST_NAMED = 200


class Run:
    """One walk over files, and what came of it.

    Args:
        operation: progress and cancelling.
        everything: whether files are walked before their moment.
        dry: whether nothing is written anywhere.
        started_at: seconds since 1970.
        lateness: which servers keep it waiting.

    Attributes:
        complete: whether it went to its end.
        error: what ends it.
    """

    def __init__(
        self,
        operation: Operation,
        started_at: float,
        lateness: Lateness,
        *,
        everything: bool,
        dry: bool,
    ) -> None:
        self.operation = operation
        self.everything = everything
        self.dry = dry
        self.started_at = started_at
        self.complete = True
        self.lateness = lateness
        self.error: BaseException | None = None
        self.counts = dict.fromkeys(COUNTED, 0)
        self._named: list[dict[str, Any]] = []
        self._unnamed = 0

    def add(self, before: KeptFile, look: Look) -> dict[str, int]:
        """Count a look at a file; returns what it adds to each count."""
        failed = look.file.failures > before.failures or look.verdict is Verdict.LOST
        added = {
            "walked": 1,
            "renewed": int(look.renewed),
            "checked": 1,
            "verified": int(look.verified),
            "repaired": int(look.repaired),
            "shares_written": look.written,
            "waiting": int(look.verdict is Verdict.SECOND_LOOK),
            "skipped": int(look.verdict is Verdict.TOO_FEW_SERVERS),
            "failed": int(failed),
            "lost": int(look.verdict is Verdict.LOST),
        }
        self._count(added)
        if look.verdict is not Verdict.WELL or look.file.problem:
            self._name(look.file, look.verdict.value)
        return added

    def add_unforeseen(self, file: KeptFile) -> dict[str, int]:
        """Count a look that failed as nobody foresaw."""
        added = {"walked": 1, "failed": 1}
        self._count(added)
        self._name(file, "error")
        return added

    def _count(self, added: Mapping[str, int]) -> None:
        for name, count in added.items():
            self.counts[name] += count

    def _name(self, file: KeptFile, outcome: str) -> None:
        if len(self._named) >= _MOST_NAMED:
            self._unnamed += 1
            return
        self._named.append(
            {
                "cap": file.cap.to_string(),
                "outcome": outcome,
                "shares_good": file.good,
                "servers_happy": file.servers_happy,
                "problem": file.problem,
            }
        )

    def to_json(self, ended_at: float) -> dict[str, Any]:
        """Return the report for JSON (``docs/reference/keeper.md``)."""
        return {
            "now": self.everything,
            "dry_run": self.dry,
            "started_at": self.started_at,
            "ended_at": ended_at,
            "complete": self.complete,
            **self.counts,
            "slow_servers": [node_id_text(each) for each in sorted(self.lateness.patients.slow)],
            "files": self._named,
            "files_left_out": self._unnamed,
        }
