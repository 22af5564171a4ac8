"""Speaking with the node of the directory: one Command over its socket, watched and stoppable."""

from __future__ import annotations

import random
import shlex
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

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
    operation = random.SystemRandom().randrange(1, 2**63)
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
