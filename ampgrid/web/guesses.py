"""Whoever guesses at a password or a token is answered ever more slowly.

Only an answer that tells that a secret was wrong waits. A right one never does, so nobody is
locked out by others who guess from the same address. Of those that wait only some of one address
do so at once: what comes beyond is not looked at, but from the loopback interface, where all
users of the machine, and all clients of a proxy, have one address.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from functools import lru_cache

from attrs import define
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ampgrid.ports import Clock
from ampgrid.web.errors import WebError

_log = Logger()

#: Wrong guesses of one address that cost it nothing.
FREE = 10
#: Every so many seconds one wrong guess is forgotten.
FORGET_SECONDS = 30.0
#: The longest wait for an answer, seconds; the first is one, and each next twice as long.
LONGEST_SECONDS = 30.0
#: Wrong guesses that are counted of one address at most.
MOST_COUNTED = FREE + 10
#: Answers to one address that wait at once.
MOST_WAITING = 8
#: Addresses that are remembered; the one that guessed longest ago is forgotten first.
MOST_ADDRESSES = 1_024
#: An IPv6 network of this size counts as one address: its owner has all of them.
_NETWORK_BITS = 64


class TooManyGuessesError(WebError):
    """Too many answers wait for this address: what it sends is not looked at."""

    status = 429


@define
class _Guesser:
    """What is remembered of an address.

    Attributes:
        count: wrong guesses that are not forgotten yet.
        at: when the last one came, seconds of the clock.
        waiting: answers that wait.
    """

    count: float = 0.0
    at: float = 0.0
    waiting: int = 0


class Guesses:
    """Wrong guesses, by address.

    Args:
        clock: of the waits.
        most: addresses that are remembered.
    """

    def __init__(self, clock: Clock, most: int = MOST_ADDRESSES) -> None:
        self._clock = clock
        self._most = most
        self._known: OrderedDict[str, _Guesser] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def look(self, address: str) -> None:
        """Let an address ask.

        Raises:
            TooManyGuessesError: too many answers wait for it.
        """
        guesser = self._known.get(_network(address))
        if guesser is None or guesser.waiting < MOST_WAITING or is_loopback(address):
            return
        raise TooManyGuessesError(
            "too many wrong passwords or tokens came from this address; try again later",
            Retry_After=str(round(LONGEST_SECONDS)),
        )

    def wrong(self, address: str) -> Deferred[None]:
        """Note a wrong guess; the result fires when it may be told that it was wrong."""
        guesser = self._guesser(_network(address))
        now = self._clock.seconds()
        before = max(0.0, guesser.count - (now - guesser.at) / FORGET_SECONDS)
        guesser.count, guesser.at = min(before + 1, MOST_COUNTED), now
        may_tell: Deferred[None] = Deferred()
        if guesser.count <= FREE:
            may_tell.callback(None)
            return may_tell
        if before <= FREE:
            _log.warn("wrong passwords or tokens come from {address}", address=address)
        guesser.waiting += 1

        def tell() -> None:
            guesser.waiting -= 1
            may_tell.callback(None)

        self._clock.callLater(min(2 ** (guesser.count - FREE - 1), LONGEST_SECONDS), tell)
        return may_tell

    def _guesser(self, network: str) -> _Guesser:
        guesser = self._known.setdefault(network, _Guesser(at=self._clock.seconds()))
        self._known.move_to_end(network)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return guesser


def _read(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        read = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(read, "ipv4_mapped", None) or read


def is_loopback(address: str) -> bool:
    """Tell whether an address is of the loopback interface."""
    read = _read(address)
    return read is not None and read.is_loopback


@lru_cache(maxsize=1024)
def _network(address: str) -> str:
    """Return the address or, of IPv6, the network that counts as one."""
    read = _read(address)
    if isinstance(read, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((read, _NETWORK_BITS), strict=False))
    return address if read is None else str(read)
