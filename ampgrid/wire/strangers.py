"""Accepted connections that have not proved themselves: so many at once and no more.

When there are too many, a new one pushes out an old one, so that whoever opens connections and
says nothing keeps nobody else out. The one pushed out is the oldest of the neighbourhood that
has the most, a neighbourhood being one IPv4 address or one /64 of IPv6.
"""

from __future__ import annotations

import ipaddress
from typing import Generic, TypeVar

from twisted.internet.address import IPv4Address, IPv6Address

T = TypeVar("T")


def neighbourhood(address: object) -> str:
    """Return what the address has in common with others of the same owner."""
    if isinstance(address, IPv6Address):
        try:
            number = ipaddress.IPv6Address(address.host.partition("%")[0])
        except ValueError:
            return address.host
        if number.ipv4_mapped is not None:
            return str(number.ipv4_mapped)
        return str(ipaddress.IPv6Network((number, 64), strict=False))
    return address.host if isinstance(address, IPv4Address) else ""


class Strangers(Generic[T]):
    """The strangers of a listener, by neighbourhood.

    Args:
        most: how many are borne.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._by_place: dict[str, dict[T, None]] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, stranger: T, place: str) -> T | None:
        """Add one; returns the one that must go to make room for it."""
        self._by_place.setdefault(place, {})[stranger] = None
        self._count += 1
        if self._count <= self._most:
            return None
        crowded = max(self._by_place, key=lambda place: len(self._by_place[place]))
        oldest = next(iter(self._by_place[crowded]))
        self.remove(oldest, crowded)
        return oldest

    def remove(self, stranger: T, place: str) -> None:
        """Remove one, if it is there."""
        here = self._by_place.get(place, {})
        if stranger in here:
            del here[stranger]
            self._count -= 1
            if not here:
                del self._by_place[place]
