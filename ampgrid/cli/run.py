"""``ampgrid run``: the node in the foreground."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO

import click

from ampgrid.cli.params import json_option
from ampgrid.cli.session import Session
from ampgrid.errors import FileError

if TYPE_CHECKING:
    from ampgrid.cli.reactor import Stop

#: Seconds that a node has to stop once the program that keeps it has gone.
_LAST_SECONDS = 10.0


@contextlib.contextmanager
def _log_stream(path: str | None) -> Any:
    if path is None:
        yield sys.stderr
        return
    try:
        # Append, and readable by the user alone.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FileError(f"{path} could not be written: {error.strerror}.") from error
    with open(descriptor, "a", encoding="utf-8", buffering=1) as stream:  # noqa: PTH123
        yield stream


def _begin_logging(stream: TextIO, *, debug: bool) -> None:
    from twisted.logger import (
        FilteringLogObserver,
        LogLevel,
        LogLevelFilterPredicate,
        globalLogBeginner,
        textFileLogObserver,
    )

    from ampgrid.node.faults import TextlessObserver

    least = LogLevel.debug if debug else LogLevel.info
    predicate = LogLevelFilterPredicate(defaultLogLevel=least)
    if not debug:
        # That the reactor has ended stands before the error that it ended for.
        predicate.setLogLevelForNamespace("twisted.internet.base", LogLevel.warn)
    written = TextlessObserver(textFileLogObserver(stream))
    observer = FilteringLogObserver(written, [predicate])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)


def _log_stop(number: int) -> None:
    from twisted.logger import Logger

    Logger().info("stopping on {name}", name=signal.Signals(number).name)


def _stop_with_stdin(reactor: Any, stop: Stop) -> None:
    """Stop once the standard input ends: whoever holds its other end has gone."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        reactor.callFromThread(stop.came, int(signal.SIGTERM))
        # A node that cannot stop in peace must not outlive its grid.
        timer = threading.Timer(_LAST_SECONDS, os._exit, [1])
        timer.daemon = True
        timer.start()

    threading.Thread(target=wait, name="standard input", daemon=True).start()


@click.command()
@click.option("--log-file", metavar="FILE", help="Log there instead of to standard error.")
@click.option("--until-stdin-closes", is_flag=True, hidden=True)
@json_option
@click.pass_obj
def run(
    session: Session, *, log_file: str | None, until_stdin_closes: bool, as_json: bool
) -> None:
    """Run the node in the foreground.

    It prints one line when it is ready, and stops in peace on SIGTERM, SIGHUP and Ctrl-C.
    """
    from ampgrid.cli.reactor import run_with_reactor

    directory = session.directory
    config = directory.load_config()
    if until_stdin_closes:
        # Ctrl-C reaches all processes of a terminal; the one that keeps this node decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def work(reactor: Any, stop: Stop) -> None:
        from ampgrid.cli.faces import face_of
        from ampgrid.node.memory import settle_memory, share_one_heap
        from ampgrid.node.node import Node

        share_one_heap()

        if until_stdin_closes:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _stop_with_stdin(reactor, stop)
        node = Node(directory, config, reactor, face_of(directory, config, reactor))
        try:
            await node.start()
            settle_memory()
            _tell_ready(session, as_json=as_json)
            await stop.wait()
            _log_stop(stop.signal)
        finally:
            await node.stop()
        stop.raise_if_interrupted()

    lock = directory.lock()
    try:
        with _log_stream(log_file) as stream:
            _begin_logging(stream, debug=session.debug)
            run_with_reactor(work)
    finally:
        lock.release()


def _tell_ready(session: Session, *, as_json: bool) -> None:
    from ampgrid.cli.console import print_json
    from ampgrid.crypto.identity import node_id_text
    from ampgrid.formats.address import format_hint
    from ampgrid.node.addresses import advertised_hints

    directory = session.directory
    config = directory.load_config()
    port = (config.listen[1] or directory.listen_port()) if config.listen else None
    hints = [format_hint(hint) for hint in advertised_hints(config, port)]
    node_id = node_id_text(directory.identity().node_id)
    url = directory.node_url()
    if as_json:
        facts = {"node_id": node_id, "kind": config.kind, "addresses": hints, "web": url}
        print_json(facts, in_one_line=True)
    else:
        where = f"reached at {', '.join(hints)}" if hints else "dialling only"
        click.echo(f"Ready: {config.kind} {node_id}, {where}")
        if url is not None:
            click.echo(f"Web gateway: {url} (open it with 'ampgrid web')")
    sys.stdout.flush()
