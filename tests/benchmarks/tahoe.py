"""Tahoe-LAFS as the other system of a comparison: installed on its own, and a grid of it.

It comes from PyPI into a virtual environment of its own, in the versions that
``tahoe-requirements.txt`` names, and is used as its users use it: by its command, its settings
and its gateway. Nothing of it is imported.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.benchmarks.grids import (
    HOST,
    SHARES,
    STORAGE_NODES,
    Grid,
    GridError,
    free_ports,
    wait_until,
)

REQUIREMENTS = Path(__file__).with_name("tahoe-requirements.txt")
VERSION = "1.20.0"


def default_home() -> Path:
    """Return where it is kept between runs when nothing else is said."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "ampgrid" / f"tahoe-lafs-{VERSION}"


def install(home: Path) -> Path:
    """Install it if it is not there yet; return its command.

    Args:
        home: the directory of its virtual environment; what is in it is replaced when the
            requirements have changed.

    Raises:
        GridError: it could not be installed.
    """
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest() + f" {sys.version}"
    command, note = home / "bin" / "tahoe", home / "installed"
    if command.exists() and note.exists() and note.read_text() == wanted:
        return command
    if home.exists() and not (home / "pyvenv.cfg").exists() and any(home.iterdir()):
        raise GridError(f"{home} holds something else: name an empty directory")
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home, with_pip=True)
    words = [home / "bin" / "python", "-m", "pip", "install", "-q", "-r", REQUIREMENTS]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise GridError(f"Tahoe-LAFS {VERSION} could not be installed: {' '.join(last)}")
    note.write_text(wanted)
    return command


class TahoeGrid(Grid):
    """A grid of Tahoe-LAFS.

    Args:
        tahoe: its command.
    """

    def __init__(self, name: str, root: Path, tahoe: Path, slow: list[str] | None = None) -> None:
        super().__init__(name, root, slow)
        self._tahoe = tahoe
        (self._introducer_port,) = free_ports(1)

    def _run(self, *words: str) -> None:
        done = subprocess.run(
            [self._tahoe, *words],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(),
        )
        if done.returncode:
            raise GridError(f"tahoe {words[0]} failed: {done.stderr.strip()[-300:]}")

    def make_introducer(self) -> None:
        """Make the introducer's directory."""
        port = self._introducer_port
        self._run(
            "create-introducer",
            f"--port=tcp:{port}:interface={HOST}",
            f"--location=tcp:{HOST}:{port}",
            str(self.root / "introducer"),
        )

    @property
    def _furl_path(self) -> Path:
        return self.root / "introducer" / "private" / "introducer.furl"

    def introducer_is_up(self) -> bool:
        """Tell whether the introducer has written its address."""
        return self._furl_path.exists()

    def make_nodes(self) -> None:
        """Make the directories of all others."""
        common = [
            "create-node",
            f"--introducer={self._furl_path.read_text().strip()}",
            f"--shares-needed={SHARES.needed}",
            f"--shares-happy={SHARES.happy}",
            f"--shares-total={SHARES.total}",
        ]
        places = zip(self.node_names, self.listen_ports, self.outer_ports, strict=True)
        for name, inner, outer in places:
            self._run(
                *common,
                f"--nickname={name}",
                f"--port=tcp:{inner}:interface={HOST}",
                f"--location=tcp:{HOST}:{outer}",
                "--webport=none",
                str(self.root / name),
            )
        (port,) = free_ports(1)
        self._run(
            *common,
            "--no-storage",
            "--nickname=client",
            f"--port=tcp:{port}:interface={HOST}",
            f"--location=tcp:{HOST}:{port}",
            f"--webport=tcp:{self.web_port}:interface={HOST}",
            str(self.root / "client"),
        )

    def wait_connected(self) -> None:
        """Wait until the client is connected to every storage node."""

        def all_there() -> bool:
            connection = http.client.HTTPConnection(HOST, self.web_port)
            connection.request("GET", "/?t=json")
            servers = json.loads(connection.getresponse().read())["servers"]
            connection.close()
            up = [each for each in servers if each["connection_status"] == "connected"]
            return len(up) >= STORAGE_NODES

        wait_until(all_there, "all storage nodes of Tahoe-LAFS are connected")

    def command(self, name: str) -> list[str]:
        """Return the command that runs a node; it ends when its standard input is closed."""
        return [str(self._tahoe), "run", str(self.root / name)]

    def environment(self) -> dict[str, str]:
        """Return an environment in which nothing of ours is found."""
        return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
