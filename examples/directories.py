"""List, fill and walk a directory of the grid over a node's control socket.

    python examples/directories.py NODE_DIRECTORY GRID_PATH FILE...

makes the directory GRID_PATH (such as private:notes) if it is missing, puts each FILE into it,
lists it, walks everything that it leads to, reads the first file back and compares. The control
socket speaks plain AMP, so any AMP library in any language can do the same.
"""

import filecmp
import json
import sys
import tempfile
from pathlib import Path

from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.task import react
from twisted.protocols.amp import AMP

from ampgrid.commands.control import Download, Upload
from ampgrid.commands.drive import ListDirectory, MakeDirectory, NextResults, StartDeep

WALK = 1  # the number by which this walk is known


async def list_directory(node, grid_path):
    """Return the children of a directory, page by page."""
    children = []
    page = await node.callRemote(ListDirectory, path=grid_path)
    children += json.loads(page["children"])
    while page["next"]:
        page = await node.callRemote(ListDirectory, path=grid_path, start=page["next"])
        children += json.loads(page["children"])
    return children


async def walk(node, grid_path):
    """Return what can be reached from a directory, and the figures of all of it."""
    found = []
    await node.callRemote(StartDeep, path=grid_path, what="manifest", operation=WALK)
    done = False
    while not done:
        page = await node.callRemote(NextResults, operation=WALK)
        found += json.loads(page["results"])
        done = page["done"]
    return found, json.loads(page["summary"])


async def main(reactor, node_directory, grid_path, *file_names):
    """Do it all over one connection."""
    files = [Path(name).resolve() for name in file_names]
    for file in files:
        if not file.is_file():
            sys.exit(f"{file.name} is no file")
    socket_path = str(Path(node_directory).resolve() / "ampgrid.sock")
    try:
        node = await connectProtocol(UNIXClientEndpoint(reactor, socket_path), AMP())
    except ConnectError:
        sys.exit(f"the node in {node_directory} does not run")

    await node.callRemote(MakeDirectory, path=grid_path, parents=True)
    inside = grid_path if grid_path.endswith((":", "/")) else f"{grid_path}/"
    for file in files:
        put = await node.callRemote(Upload, path=str(file), grid_path=f"{inside}{file.name}")
        print(f"put {file.name}, {put['size']} bytes")

    for child in sorted(await list_directory(node, grid_path), key=lambda child: child["name"]):
        print(f"{child['type']} {child['name']}")

    found, figures = await walk(node, grid_path)
    stored = figures["bytes_files"] + figures["bytes_literals"]
    print(f"{len(found)} things can be reached from here, with {stored} bytes")

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        await node.callRemote(Download, cap=f"{inside}{files[0].name}", path=str(copy))
        same = filecmp.cmp(files[0], copy, shallow=False)
    print("the copy is the same" if same else "the copy differs")
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    react(main, sys.argv[1:])
