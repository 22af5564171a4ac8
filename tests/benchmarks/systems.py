"""Names of the systems that `compare.py` measures, in the order in which all tables have them."""

from __future__ import annotations

TAHOE = "Tahoe-LAFS"
OURS = "ampgrid"
BY_SOCKET = "ampgrid, socket"
HASTY = "ampgrid, no fsync"
SYSTEMS = (TAHOE, OURS, BY_SOCKET, HASTY)
