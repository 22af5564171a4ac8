"""An AMP application of one's own that keeps shares beside its own Command, on one port.

    python examples/embed_storage.py FOLDER             serve until Ctrl-C
    python examples/embed_storage.py FOLDER --try       serve, call both, and end

Every connection is ampgrid's: StartTLS, keys as identities, bounded boxes. What it serves is up
to the application: here the storage Commands of a grid, and `CountWords`. An open grid is used,
so that everybody may call; give `Network` a grid's secret to serve its members alone.
"""

import os
import sys
import time
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import react
from twisted.protocols import amp

from ampgrid.commands.storage import GetSpace
from ampgrid.crypto.identity import Identity, node_id_text
from ampgrid.storage.responder import StorageResponder
from ampgrid.storage.service import StorageService
from ampgrid.store.shares import ShareStore
from ampgrid.wire import Facts, Network, PoolThreads, tcp_connector


class CountWords(amp.Command):
    """The application's own Command."""

    arguments = [(b"text", amp.Unicode())]
    response = [(b"words", amp.Integer())]


class OwnResponder(amp.CommandLocator):
    """Answers the application's own Command."""

    @CountWords.responder
    async def count_words(self, text):
        """Count."""
        return {"words": len(text.split())}


def make_network(reactor, roles):
    """Return a way to make connections that serve ``roles``."""
    return Network(
        identity=Identity.create(),
        secret=b"",
        facts=lambda: Facts(frozenset({"storage"}), "embedded", "example"),
        clock=reactor,
        roles=roles,
        admit=lambda node_id: None,
        connected=lambda connection: None,
        connector=tcp_connector(reactor),
    )


async def serve(reactor, folder, disk):
    """Open the store and listen; returns (service, network, listening port)."""
    store = ShareStore.open(Path(folder), reserve=0, quota=None, wall=time.time)
    service = StorageService(
        store, clock=reactor, wall=time.time, threads=disk, entropy=os.urandom
    )
    await service.start()
    own = OwnResponder()
    network = make_network(reactor, lambda c: [StorageResponder(service, c), own])
    listening = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
        network.listening_factory()
    )
    return service, network, listening


async def try_it(reactor, network, port):
    """Call both Commands as another program would."""
    caller = make_network(reactor, lambda c: [])
    connection = await caller.dial(network.node_id, [("127.0.0.1", port)])
    counted = await connection.call(CountWords, text="one two three")
    space = await connection.call(GetSpace)
    print(f"{counted['words']} words; {space['shares']} shares kept")
    connection.close()


async def main(reactor, folder, *options):
    """Serve, and end in peace with Ctrl-C or after the try."""
    interrupted, ended = Deferred(), Deferred()

    def stop():
        interrupted.callback(None)
        return ended

    # The reactor stops only when all is on the disk.
    reactor.addSystemEventTrigger("before", "shutdown", stop)
    disk = PoolThreads(reactor, 4, "disk")
    try:
        service, network, listening = await serve(reactor, folder, disk)
        port = listening.getHost().port
        print(f"amp://{node_id_text(network.node_id)}@127.0.0.1:{port}", flush=True)
        if "--try" in options:
            await try_it(reactor, network, port)
        else:
            await interrupted
        await listening.stopListening()
        network.close()
        await service.stop()
    finally:
        await disk.stop(10)
        ended.callback(None)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    react(main, sys.argv[1:])
