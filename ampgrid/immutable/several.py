"""Doing several things at once, each of which may fail by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


async def each(work: Mapping[int, Callable[[], Deferred[T]]]) -> dict[int, T | Exception]:
    """Do several things at once; return each one's result or error.

    Who cancels it cancels all of them.
    """
    started = {number: start() for number, start in work.items()}
    outcomes: dict[int, T | Exception] = {}

    def cancel(_done: Deferred[None]) -> None:
        for one in started.values():
            one.cancel()

    def settle(result: T | Failure, number: int) -> None:
        if not isinstance(result, Failure):
            outcomes[number] = result
        elif isinstance(result.value, Exception):
            outcomes[number] = result.value
        elif not done.called:
            done.errback(result)
        if len(outcomes) == len(started) and not done.called:
            done.callback(None)

    done: Deferred[None] = Deferred(cancel)
    for number, one in started.items():
        one.addBoth(settle, number)
    if started:
        await done
    return {number: outcomes[number] for number in started}
