"""docs/reference/status.md names every key of ``ampgrid status --json``, and no other."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.integration.processes import ROOT, GridCase, ampgrid

PAGE = ROOT / "docs" / "reference" / "status.md"
#: Tallies of the keepers: objects or null, described in words.
TALLIES = (
    "keeper.this_period",
    "keeper.last_period",
    "keeper.last_run",
    "drive.keeper.last_walk",
)


def keys_of(value: Any, name: str = "") -> set[str]:
    """Return the names of all values in a status as the page spells them."""
    if isinstance(value, dict) and name not in TALLIES:
        inner = (keys_of(v, f"{name}.{k}" if name else k) for k, v in value.items())
        return set().union(*inner)
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return set().union(*(keys_of(each, f"{name}[]") for each in value))
    return {name}


class StatusPageTests(GridCase):
    def test_it_names_every_key_and_no_other(self) -> None:
        self.put()
        members = [self.grid.ready["introducer"], *self.grid.ready["nodes"]]
        live: set[str] = set()
        for member in [*members, self.grid.ready["client"]]:
            status = ampgrid("-d", member["dir"], "status", "--json")
            self.assertEqual((status.status, status.err), (0, ""))
            live |= keys_of(json.loads(status.out))
        told = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
        self.assertEqual(len(told), len(set(told)))
        # A list without entries does not show what they have.
        empty = {key for key in live if any(each.startswith(f"{key}[]") for each in told)}
        hidden = {each for each in told if any(each.startswith(f"{key}[]") for key in empty)}
        self.assertTrue(hidden)
        self.assertEqual(live - empty, set(told) - hidden | (live & hidden))
