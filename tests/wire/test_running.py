"""Coroutines that need not wait: run at once, with what stock AMP would answer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands import errors as e
from ampgrid.commands.running import Responders, begin
from tests.wire.kit import Break, Echo, Hold, Recorder


class BeginTest(SynchronousTestCase):
    def test_what_need_not_wait(self) -> None:
        async def work(given: Deferred[int]) -> int:
            return await given + 1

        self.assertEqual(begin(work(succeed(1))), 2)
        with self.assertRaises(ZeroDivisionError):
            begin(work(fail(ZeroDivisionError())))

    def test_what_waits_several_times(self) -> None:
        first, second, third = waits = [Deferred[int]() for _ in range(3)]

        async def work() -> list[object]:
            seen: list[object] = []
            for wait in waits:
                try:
                    seen.append(await wait)
                except ValueError as error:
                    seen.append(error.args)
            return seen

        result: Any = begin(work())
        first.callback(1)
        # Fired before it is waited for.
        third.callback(3)
        self.assertNoResult(result)
        second.errback(ValueError(2))
        self.assertEqual(self.successResultOf(result), [1, (2,), 3])

    def test_what_fails_later(self) -> None:
        for outcome in (ValueError(), None):
            wait: Deferred[None] = Deferred()

            async def work(wait: Deferred[None] = wait) -> None:
                await wait
                raise KeyError

            result: Any = begin(work())
            if outcome is None:
                wait.callback(None)
            else:
                wait.errback(outcome)
            self.failureResultOf(result, KeyError if outcome is None else ValueError)


class _Held(Responders):
    """Answers when it is told to, or at once."""

    def __init__(self) -> None:
        super().__init__()
        self.wait: Deferred[None] = Deferred()

    @Echo.responder
    async def echo(self, data: bytes) -> dict[str, Any]:
        await self.wait
        return {"data": data}

    @Break.responder
    async def break_(self, how: str) -> dict[str, Any]:
        await self.wait
        if how == "declared":
            raise e.NoSpaceError("full")
        if how == "response":
            return {"number": 10}
        raise RuntimeError("a secret of the responder")


class RespondersTest(SynchronousTestCase):
    def outcomes(self, made: Any, before: bool) -> list[object]:
        """Return what becomes of each call, comparable."""
        found: list[object] = []
        calls = [(Echo, {"data": b"x"}), *[(Break, {"how": h}) for h in _WAYS]]
        for command, arguments in calls:
            locator = made()
            if before and isinstance(locator, _Held):
                locator.wait.callback(None)
            box = command.makeArguments(arguments, None)
            answer = locator.locateResponder(command.commandName)(box)
            if not before:
                self.assertNoResult(answer)
                locator.wait.callback(None)
            if not isinstance(answer, Deferred):
                answer = succeed(answer)
            outcome: list[Any] = []
            answer.addBoth(outcome.append)
            value = getattr(outcome[0], "value", outcome[0])
            known = isinstance(value, amp.RemoteAmpError)
            more = (value.errorCode, value.description) if known else None
            found.append(dict(value) if isinstance(value, dict) else (type(value), more))
        return found

    def test_the_same_as_stock_amp(self) -> None:
        stock = self.outcomes(Recorder, True)
        self.assertEqual(stock[0], {b"data": b"x"})
        self.assertEqual(stock[1], (amp.RemoteAmpError, (e.NoSpaceError.code, "full")))
        self.assertEqual(self.outcomes(_Held, True), stock)
        self.assertEqual(self.outcomes(_Held, False), stock)

    def test_at_once_is_without_a_deferred(self) -> None:
        held = _Held()
        held.wait.callback(None)
        box = Echo.makeArguments({"data": b"x"}, None)
        self.assertEqual(dict(held.locateResponder(b"Echo")(box)), {b"data": b"x"})

    def test_malformed_arguments_are_the_callers_fault(self) -> None:
        with self.assertRaises(KeyError):
            _Held().locateResponder(b"Break")(amp.Box())
        self.assertIsNone(_Held().locateResponder(Hold.commandName))


_WAYS = ("declared", "response", "otherwise")
