"""A node with a gateway for blobs, as a process: ``blob_server.py FOLDER``.

It prints the address of its blobs and a token for the user ``alice`` as one JSON object, and ends
with its standard input.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO

from ampgrid.cli.reactor import run_with_reactor
from tests.campaigns.blob_remotes import gateway


class UntilTheEnd(Protocol):
    """Fires a Deferred when the standard input ends."""

    def __init__(self):
        self.ended = Deferred()

    def connectionLost(self, _reason):
        self.ended.callback(None)


async def serve(reactor, _stop):
    """Serve until nobody wants it any more."""
    async with gateway(reactor, Path(sys.argv[1])) as (url, token):
        sys.stdout.write(json.dumps({"url": url, "token": token}) + "\n")
        sys.stdout.flush()
        until = UntilTheEnd()
        StandardIO(until)
        await until.ended


if __name__ == "__main__":
    run_with_reactor(serve)
