"""Doing several things at once, each of which may fail by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

T = TypeVar("T")


async def each(work: Mapping[int, Callable[[], Deferred[T]]]) -> dict[int, T | Exception]:
    """Do several things at once; return each one's result or error."""

    def caught(started: Deferred[T]) -> Deferred[T | Exception]:
        return started.addErrback(_error_of)

    results = await gatherResults([caught(start()) for start in work.values()])
    return dict(zip(work, results, strict=True))


def _error_of(failure: Failure) -> Exception:
    if not isinstance(failure.value, Exception):
        failure.raiseException()
    return failure.value
