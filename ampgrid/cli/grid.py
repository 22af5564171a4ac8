"""``ampgrid grid``: a whole grid on this machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ampgrid.cli import console
from ampgrid.cli.params import NODE_COUNT, SHARES, json_option
from ampgrid.cli.session import Session

if TYPE_CHECKING:
    from ampgrid.cli.reactor import Stop
    from ampgrid.node.config import EncodingParameters


async def started_unless_stopped(grid: Any, stop: Stop) -> dict[str, Any] | None:
    """Start a `LocalGrid`; returns its facts, or None if the wish to stop came first."""
    from twisted.internet.defer import Deferred

    from ampgrid.cli.reactor import first_of

    starting: Deferred[dict[str, Any]] = Deferred.fromCoroutine(grid.start())
    facts = await first_of(starting, stop.wait())
    if facts:
        return facts[0]
    starting.cancel()
    return None


@click.command()
@click.argument("path", metavar="DIR")
@click.option(
    "--nodes",
    type=NODE_COUNT,
    metavar="N",
    help="Storage nodes; as many as DIR holds already, or 5.",
)
@click.option("--shares", type=SHARES, metavar="K/HAPPY/N", help="How files are spread.")
@click.option("--public-root", is_flag=True, help="It has a public root, public: in grid paths.")
@json_option
@click.pass_obj
def grid(
    _session: Session,
    *,
    path: str,
    nodes: int | None,
    shares: EncodingParameters | None,
    public_root: bool,
    as_json: bool,
) -> None:
    """Run a whole grid on this machine, in DIR.

    An introducer, N storage nodes and a client, each a process of its own with its directory
    under DIR. When all are connected, DIR/ready.json tells where they are. The grid ends on
    Ctrl-C or SIGTERM and starts again on the same DIR with everything kept.
    """
    from ampgrid.cli.reactor import run_with_reactor
    from ampgrid.node.local_grid import LocalGrid

    async def work(reactor: Any, stop: Stop) -> None:
        running = LocalGrid(
            reactor,
            Path(path).expanduser(),
            nodes,
            shares,
            console.note,
            public_root=public_root,
        )
        try:
            facts = await started_unless_stopped(running, stop)
            if facts is not None:
                _tell_ready(running, facts, as_json=as_json)
                await stop.wait()
        finally:
            await running.stop()
        stop.raise_if_interrupted()

    run_with_reactor(work)


def _tell_ready(running: Any, facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        console.print_json(facts)
    else:
        click.echo(
            f"Ready: {running.count} storage nodes, shares {running.shares}; Ctrl-C ends it."
        )
        click.echo(f"Upload with: ampgrid -d {shlex.quote(str(running.client.path))} put FILE")
    sys.stdout.flush()
