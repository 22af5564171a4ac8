"""``ampgrid demo``: a grid of five, a file up, two nodes killed, the file down and compared."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import asdict, define

from ampgrid.cli import console
from ampgrid.cli.params import json_option
from ampgrid.cli.session import Session
from ampgrid.errors import FileError, IntegrityError

if TYPE_CHECKING:
    from ampgrid.cli.reactor import Stop
    from ampgrid.node.local_grid import LocalGrid

_NODES = 5
_SHARES = "3/5/5"
_KILLED = 2
_BACK = "back"
_DEFAULT_SIZE = 10_000_000
_PIECE = 1024 * 1024


@define
class Report:
    """What a demo did, in bytes and seconds."""

    file: str = ""
    size: int = 0
    shares: str = _SHARES
    grid_seconds: float = 0.0
    cap: str = ""
    shares_placed: int = 0
    upload_seconds: float = 0.0
    killed: tuple[str, ...] = ()
    download_seconds: float = 0.0
    sha256_before: str = ""
    sha256_after: str = ""
    same: bool = False


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"{path} could not be read: {error.strerror}.") from error


def _check_file(path: Path) -> None:
    """Return if it is a file.

    Raises:
        FileError: it is none; the message says what it is.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}.") from error
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise FileError(f"{path} is {what}; name a file.")


def _example_file(folder: Path) -> Path:
    path = folder / "example"
    with path.open("wb") as file:
        for start in range(0, _DEFAULT_SIZE, _PIECE):
            file.write(os.urandom(min(_PIECE, _DEFAULT_SIZE - start)))
    return path


def _speed(size: int, seconds: float) -> str:
    return f"{seconds:.2f} s, {size / max(seconds, 1e-9) / 1e6:.1f} MB/s"


async def _up_and_down(
    reactor: Any, stop: Stop, grid: LocalGrid, source: Path, report: Report
) -> None:
    """Upload ``source``, kill two storage nodes, download to ``back`` beside the grid."""
    from ampgrid.cli.control import call_watched
    from ampgrid.commands.control import Download, Upload

    target = str(grid.root.with_name(_BACK))
    connection = await grid.processes["client"].connect(reactor)
    with console.ProgressBar() as bar:
        begun = time.monotonic()
        answer = await call_watched(reactor, connection, stop, bar, Upload, path=str(source))
        report.upload_seconds = time.monotonic() - begun
    report.cap = answer["cap"]
    report.shares_placed = answer["shares_placed"] + answer["shares_already_there"]
    victims = random.SystemRandom().sample([node.path.name for node in grid.nodes], _KILLED)
    report.killed = tuple(sorted(victims))
    for victim in report.killed:
        await grid.kill(victim)
    with console.ProgressBar() as bar:
        begun = time.monotonic()
        await call_watched(
            reactor,
            connection,
            stop,
            bar,
            Download,
            cap=report.cap,
            path=target,
        )
        report.download_seconds = time.monotonic() - begun


async def _show(reactor: Any, stop: Stop, folder: Path, source: Path, report: Report) -> None:
    from ampgrid.cli.grid import started_unless_stopped
    from ampgrid.node.config import EncodingParameters
    from ampgrid.node.local_grid import LocalGrid

    shares = EncodingParameters.parse(_SHARES)
    grid = LocalGrid(reactor, folder / "grid", _NODES, shares, console.note)
    try:
        begun = time.monotonic()
        if await started_unless_stopped(grid, stop) is None:
            raise KeyboardInterrupt
        report.grid_seconds = time.monotonic() - begun
        await _up_and_down(reactor, stop, grid, source, report)
    finally:
        await grid.stop()


@click.command()
@click.argument("file", metavar="[FILE]", required=False)
@json_option
@click.pass_obj
def demo(_session: Session, *, file: str | None, as_json: bool) -> None:
    """Show it all, with two nodes killed between up and down.

    A grid of five storage nodes is started in a temporary directory and FILE (10 MB of random
    bytes if none is named) is uploaded 3-of-5. Two of the five are killed, the file is
    downloaded and compared.
    """
    from ampgrid.cli.reactor import run_with_reactor

    report = Report()
    folder = Path(tempfile.mkdtemp(prefix="ampgrid-demo-"))
    try:
        source = Path(os.path.abspath(file)) if file else _example_file(folder)  # noqa: PTH100
        _check_file(source)
        report.file = file or "10 MB of random bytes"
        report.size = source.stat().st_size
        report.sha256_before = _hash_file(source)

        async def work(reactor: Any, stop: Stop) -> None:
            await _show(reactor, stop, folder, source, report)

        run_with_reactor(work)
        report.sha256_after = _hash_file(folder / _BACK)
        report.same = report.sha256_after == report.sha256_before
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _print(report, as_json=as_json)
    if not report.same:
        raise IntegrityError("What came back is not what was uploaded.")


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        console.print_json(asdict(report))
        return
    kind = ":".join(report.cap.split(":")[:2])
    rows = [
        ("file", f"{report.file}, {report.size} bytes"),
        ("grid", f"{_NODES} storage nodes up and connected in {report.grid_seconds:.1f} s"),
        ("upload", f"{_speed(report.size, report.upload_seconds)}, {_spread(report)}"),
        ("cap", f"{report.cap} ({kind})" if len(report.cap) < 200 else kind),
        ("killed", " and ".join(report.killed)),
        ("download", _speed(report.size, report.download_seconds)),
        ("sha256 before", report.sha256_before),
        ("sha256 after", report.sha256_after),
    ]
    for name, value in rows:
        click.echo(f"{name:<14} {value}")
    if report.same:
        click.echo(f"The file came back byte for byte with {_KILLED} of {_NODES} nodes dead.")


def _spread(report: Report) -> str:
    if report.cap.startswith("URI:LIT:"):
        return "so small that the cap holds all of it"
    from ampgrid.node.sizes import format_count

    return f"{format_count(report.shares_placed, 'share')} placed ({report.shares})"
