"""How much of what a remote says a local store takes in.

What opens under the user's secret was put by the user. Anything else may be of the remote's own
making: blobs of other schemes, of which nothing can be checked, and names in a listing.
"""

from __future__ import annotations

from attrs import field, frozen, validators


def _bound(default: int) -> int:
    bound: int = field(default=default, validator=[validators.instance_of(int), validators.ge(0)])
    return bound


@frozen
class Bounds:
    """What a local store takes in at most.

    Attributes:
        external_bytes: of blobs of other schemes in all, sealed bytes as announced; each counts
            4,096 more. 0 to have none here.
        wanted: blobs that the remote lists and that are not here.
    """

    external_bytes: int = _bound(2**30)
    wanted: int = _bound(1_000_000)
