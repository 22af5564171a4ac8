"""What a report on a file says beside what was found: whether that is enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def judged(report: Mapping[str, Any], wanted: int) -> dict[str, Any]:
    """Return the report on one file with how many servers of happiness it should have.

    All shares of a file can sit on one server: such a file is not healthy.

    Args:
        report: of a check or a repair, as JSON.
        wanted: servers of happiness.
    """
    told = dict(report)
    told["servers_wanted"] = wanted
    told["healthy"] = bool(report["healthy"]) and report["servers_happy"] >= wanted
    if "before" in report:
        told["before"] = judged(report["before"], wanted)
    return told
