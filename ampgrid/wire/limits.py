"""What one end of a connection bears from the other, and how patient it is."""

from __future__ import annotations

import attrs

from ampgrid.wire import boxes
from ampgrid.wire.hello import MAX_BYTES, MAX_CALLS


@attrs.frozen
class Limits:
    """What one end bears from the other, and how patient it is.

    Attributes:
        calls: calls of the other end in flight.
        bytes: bytes of those calls.
        box_bytes: the largest box.
        ping_seconds: silence of either end after which a Ping is sent.
        dead_seconds: silence after which the connection is dead.
        stuck_seconds: time that the other end may take nothing of what is queued for it, or owe
            an answer beyond the caller's deadline.
        close_seconds: time that an orderly close may take before it is an abort.
        look_seconds: how often at least silence and progress are looked at.
    """

    calls: int = MAX_CALLS
    bytes: int = MAX_BYTES
    box_bytes: int = boxes.MAX_BOX_BYTES
    ping_seconds: float = 60.0
    dead_seconds: float = 90.0
    stuck_seconds: float = 60.0
    close_seconds: float = 5.0
    look_seconds: float = 10.0
