"""Search of every state that can be reached, and the way to one where something is wrong."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from tests.model.bounds import Wrong
from tests.model.register_model import RegisterModel


class Found(NamedTuple):
    """What a search came to.

    Attributes:
        states: how many were reached.
        steps: how many steps between them were tried.
        seconds: how long it took.
        wrong: what was wrong, or "".
        way: the steps that lead there.
        ends: how attempts and reads ended on the way, each kind once.
        whole: whether there was nothing more to try.
    """

    states: int
    steps: int
    seconds: float
    wrong: str
    way: tuple
    ends: frozenset
    whole: bool


def explore(bounds, *, most=None, traced=False, deep=False, each=None) -> Found:
    """Try everything within the bounds.

    Args:
        bounds: of the model.
        most: stop after so many states (then it is not the whole).
        traced: whether to keep the way to each state, at the price of memory. Without, the
            search begins anew with it where something is wrong.
        deep: whether to go on from the last state that was found and not from the first, which
            often leads sooner to what is wrong, by a longer way.
        each: called with the model and each state.
    """
    begun = time.process_time()
    model = RegisterModel(bounds)
    first = model.start()
    seen = {first: None} if traced else {first}
    queue = deque([first])
    steps = 0
    state, label = first, ("start",)
    try:
        model.check(first)
        while queue:
            state = queue.pop() if deep else queue.popleft()
            if each is not None:
                each(model, state)
            for label, raw in model.successors(state):
                steps += 1
                if raw in seen:
                    continue
                after = model.canonical(raw)
                if after in seen:
                    continue
                if traced:
                    seen[after] = (state, label)
                else:
                    seen.add(after)
                model.check(after)
                queue.append(after)
            if most is not None and len(seen) >= most:
                break
    except Wrong as wrong:
        if not traced:
            return explore(bounds, most=most, traced=True, each=each)
        way = (*_way(seen, state), label)
        seconds = time.process_time() - begun
        return Found(len(seen), steps, seconds, str(wrong), way, frozenset(model.ends), False)
    seconds = time.process_time() - begun
    return Found(len(seen), steps, seconds, "", (), frozenset(model.ends), not queue)


def _way(seen, state):
    way = []
    while seen[state] is not None:
        state, label = seen[state]
        way.append(label)
    return tuple(reversed(way))
