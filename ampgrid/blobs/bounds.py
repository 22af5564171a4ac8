"""How much of what a remote says a local store takes in.

What opens under the user's secret was put by the user. Anything else may be of the remote's own
making: blobs of other schemes, of which nothing can be checked, and names in a listing.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from ampgrid.errors import BadArgumentValueError


def _check(_bounds: Bounds, attribute: Any, value: int) -> None:
    if value < 0:
        raise BadArgumentValueError(f"The bound {attribute.name} of blobs is a number from 0 on.")


@frozen
class Bounds:
    """What a local store takes in at most.

    Attributes:
        external_bytes: of blobs of other schemes in all, sealed bytes as announced; each counts
            4,096 more. 0 to have none here.
        wanted: blobs that the remote lists and that are not here.

    Raises:
        BadArgumentValueError: a bound is below 0.
    """

    external_bytes: int = field(default=2**30, validator=_check)
    wanted: int = field(default=1_000_000, validator=_check)
