"""Speaking with the node of the directory: one Command over its socket, watched and stoppable."""

from __future__ import annotations

import random
import shlex
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from ampgrid.cli.console import ProgressBar
from ampgrid.cli.reactor import Stop, first_of, run_with_reactor
from ampgrid.cli.session import Session
from ampgrid.commands import control
from ampgrid.errors import NotConnectedError, NotRunningError, PeerError
from ampgrid.ports import Clock, Connection

T = TypeVar("T")

#: How the Commands call the number of an operation.
_OPERATION: str = control.Progress.arguments[0][0].decode("ascii")
#: What the user calls what a Command does.
_CALLED: dict[Any, str] = {control.Upload: "the upload", control.Download: "the download"}
#: A long Command may take so long, seconds: 30 days.
LONG = 30 * 86_400.0
#: One on a directory, seconds: it may wait for peers, and for others who change it.
_SHORT = 600.0
#: Seconds between two looks at how far it is.
_LOOK = 0.2
#: Seconds that a cancelled Command has to end.
_PATIENCE = 5.0


async def connect(reactor: Any, session: Session) -> Connection:
    """Connect to the node of the session's directory.

    Raises:
        NotRunningError: the node does not run.
        NotConnectedError: it runs, and cannot be reached.
    """
    from ampgrid.wire.unixsocket import connect_control

    directory = session.directory
    try:
        connection: Connection = await connect_control(reactor, directory.socket_path)
    except NotRunningError:
        raise NotRunningError(
            f"The node in {directory.path} does not run; start it with: "
            f"ampgrid -d {shlex.quote(str(directory.path))} run"
        ) from None
    return connection


async def call_watched(
    clock: Clock,
    connection: Connection,
    stop: Stop,
    bar: ProgressBar,
    command: Any,
    **arguments: Any,
) -> dict[str, Any]:
    """Call a long Command, show how far it is, and cancel it on Ctrl-C.

    Raises:
        KeyboardInterrupt: it was interrupted; the Command was cancelled.
        NotConnectedError: the node stopped meanwhile.
        PeerError: what the node answers.
    """
    operation = new_operation()
    work = _started(
        connection.call(command, deadline=LONG, **{_OPERATION: operation}, **arguments)
    )
    stopped = stop.wait()
    looking = _started(_watch(clock, connection, bar, operation, work)) if bar.shown else None
    try:
        try:
            answers: list[dict[str, Any]] = await first_of(work, stopped)
        except NotConnectedError:
            what = _CALLED.get(command, "this")
            raise NotConnectedError(
                f"the node stopped during {what}; start it again and repeat"
            ) from None
        if answers:
            return answers[0]
        await _cancel(clock, connection, operation, work)
        raise KeyboardInterrupt
    finally:
        for each in (stopped, looking):
            if each is not None and not each.called:
                each.addErrback(lambda _: None)
                each.cancel()


def new_operation() -> int:
    """Return a number for an operation that nobody else has."""
    return random.SystemRandom().randrange(1, 2**63)


def _started(coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


async def _watch(
    clock: Clock, connection: Connection, bar: ProgressBar, operation: int, work: Deferred[Any]
) -> None:
    while not work.called:
        await deferLater(clock, _LOOK)  # type: ignore[arg-type]  # needs no more than a Clock
        try:
            answer = await connection.call(control.Progress, **{_OPERATION: operation})
        except PeerError:
            continue
        if not work.called:
            bar.show(answer["phase"], answer["done"], answer["total"])


async def _cancel(
    clock: Clock, connection: Connection, operation: int, work: Deferred[Any]
) -> None:
    try:
        await connection.call(control.Cancel, deadline=_PATIENCE, **{_OPERATION: operation})
    except PeerError:
        return
    patience: Deferred[None] = Deferred()
    timer = clock.callLater(_PATIENCE, patience.callback, None)
    # However it ends: its outcome went with the interruption.
    await first_of(work, patience)
    if timer.active():
        timer.cancel()


def ask(session: Session, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
    """Connect to the node, let ``work`` call short Commands, and return what it returns.

    Raises:
        AmpgridError: whatever went wrong.
    """
    session.directory.require()

    async def connected(reactor: Any, _stop: Stop) -> T:
        return await work(await connect(reactor, session))

    return run_with_reactor(connected)


@frozen
class Conversation:
    """A connection to the node, and what a long Command needs beside it.

    Attributes:
        clock: time and timers.
        connection: to the node.
        stop: whether the user wants it to end.
        bar: where progress is shown.
    """

    clock: Clock
    connection: Connection
    stop: Stop
    bar: ProgressBar

    async def call(self, command: Any, **arguments: Any) -> dict[str, Any]:
        """Call a Command that is soon answered, as those on one directory are.

        Raises:
            KeyboardInterrupt: the user does not wait for it.
            NotConnectedError: the node stopped meanwhile.
            PeerError: what the node answers.
        """
        work = _started(self.connection.call(command, deadline=_SHORT, **arguments))
        stopped = self.stop.wait()
        try:
            answers: list[dict[str, Any]] = await first_of(work, stopped)
        finally:
            if not stopped.called:
                stopped.addErrback(lambda _: None)
                stopped.cancel()
        if not answers:
            raise KeyboardInterrupt
        return answers[0]

    async def watched(
        self, command: Any, *, bar: ProgressBar | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Call a long Command (see `call_watched`).

        Args:
            command: what is called.
            bar: where its own progress is shown; the bar of all of it if left out.
            arguments: the Command's arguments.
        """
        shown = self.bar if bar is None else bar
        return await call_watched(
            self.clock, self.connection, self.stop, shown, command, **arguments
        )


def converse(
    session: Session,
    work: Callable[[Conversation], Coroutine[Any, Any, T]],
    *,
    bar: ProgressBar | None = None,
) -> T:
    """Connect to the node, let ``work`` speak with it, and return what it returns.

    Args:
        session: whose node it is.
        work: given the conversation.
        bar: shows progress; nothing is shown if left out.

    Raises:
        AmpgridError: whatever went wrong.
        KeyboardInterrupt: the user has ended it.
    """
    session.directory.require()

    async def connected(reactor: Any, stop: Stop) -> T:
        connection = await connect(reactor, session)
        nothing = ProgressBar(shown=False)
        return await work(Conversation(reactor, connection, stop, bar or nothing))

    return run_with_reactor(connected)
