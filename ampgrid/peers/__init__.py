"""Peers: who they are, how they are found, and the connections to them.

* `PeerBook`: the newest announcement of every node, kept in the node's database.
* `ConnectionTable`: at most one connection to each peer, and who may connect.
* `ConnectionKeeper`: keeps this node connected, with one `Dialler` a peer.
* `Introducer`: takes announcements and passes them on.
* `Introduced`: announces this node and takes what introducers pass on.
* `OwnAnnouncement`: makes this node's announcements.

All of it is policy over `ampgrid.ports`; no socket is opened here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ampgrid.lazily import names_of

if TYPE_CHECKING:
    from ampgrid.peers._ports import Dial, PeerConnection, PeerStore, Uniform
    from ampgrid.peers.announcements import KnownPeer, Learned, PeerBook
    from ampgrid.peers.dialler import Dialler
    from ampgrid.peers.introduced import Introduced, IntroducedResponder
    from ampgrid.peers.introducer import Introducer, IntroducerResponder
    from ampgrid.peers.keeping import INTRODUCER_SERVICE, ConnectionKeeper
    from ampgrid.peers.own import OwnAnnouncement
    from ampgrid.peers.parameters import ADVICE_KEY, GridParameters
    from ampgrid.peers.table import ConnectionTable
else:
    __getattr__ = names_of(
        __name__,
        {
            "_ports": ["Dial", "PeerConnection", "PeerStore", "Uniform"],
            "announcements": ["KnownPeer", "Learned", "PeerBook"],
            "dialler": ["Dialler"],
            "introduced": ["Introduced", "IntroducedResponder"],
            "introducer": ["Introducer", "IntroducerResponder"],
            "keeping": ["INTRODUCER_SERVICE", "ConnectionKeeper"],
            "own": ["OwnAnnouncement"],
            "parameters": ["ADVICE_KEY", "GridParameters"],
            "table": ["ConnectionTable"],
        },
    )

__all__ = [
    "ADVICE_KEY",
    "INTRODUCER_SERVICE",
    "ConnectionKeeper",
    "ConnectionTable",
    "Dial",
    "Dialler",
    "GridParameters",
    "Introduced",
    "IntroducedResponder",
    "Introducer",
    "IntroducerResponder",
    "KnownPeer",
    "Learned",
    "OwnAnnouncement",
    "PeerBook",
    "PeerConnection",
    "PeerStore",
    "Uniform",
]
