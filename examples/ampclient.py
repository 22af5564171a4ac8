"""Talk to a running node over its control socket, with nothing but Twisted and the Commands.

    python examples/ampclient.py NODE_DIRECTORY FILE

waits for storage peers, uploads FILE, prints its cap, downloads it again beside the original
and compares, and prints how the node fares. The control socket speaks plain AMP, so any AMP
library in any language can do the same.
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

from ampgrid.commands.control import Download, Status, Upload, WaitForPeers


async def main(reactor, node_directory, file_name):
    """Do it all over one connection."""
    original = Path(file_name).resolve()
    if not original.is_file():
        sys.exit(f"{file_name} is no file")
    socket_path = str(Path(node_directory).resolve() / "ampgrid.sock")
    try:
        node = await connectProtocol(UNIXClientEndpoint(reactor, socket_path), AMP())
    except ConnectError:
        sys.exit(f"the node in {node_directory} does not run")

    waited = await node.callRemote(WaitForPeers, count=1, timeout_seconds=60)
    print(f"{waited['connected']} storage peers are connected")

    uploaded = await node.callRemote(Upload, path=str(original))
    print(f"{uploaded['size']} bytes on {uploaded['servers_happy']} servers")
    print(uploaded["cap"])

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        await node.callRemote(Download, cap=uploaded["cap"], path=str(copy))
        same = filecmp.cmp(original, copy, shallow=False)
    print("the copy is the same" if same else "the copy differs")

    status = json.loads((await node.callRemote(Status))["status"])
    print(f"{status['software']}, running for {status['running_seconds']} seconds")
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    react(main, sys.argv[1:])
