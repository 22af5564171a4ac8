"""All that the gateway serves, by the first word of the path."""

from __future__ import annotations

from ampgrid.web import welcome
from ampgrid.web.blobs import BLOBS, Blobs
from ampgrid.web.metrics import metrics
from ampgrid.web.operations import OperationsSection
from ampgrid.web.places import URI, VDRIVE
from ampgrid.web.remote_blobs import REMOTE_BLOBS, RemoteBlobs
from ampgrid.web.routing import Fixed, Route, Section
from ampgrid.web.static import Static
from ampgrid.web.status import StatusSection, tell_health
from ampgrid.web.tree import Tree
from ampgrid.web.xmlrpc.section import XmlRpc


def sections() -> dict[str, Section]:
    """Return the sections of a gateway."""
    return {
        "": Fixed(GET=Route(welcome.welcome, linkable=True)),
        "enter": Fixed(GET=Route(welcome.enter, linkable=True)),
        "static": Static(),
        "operations": OperationsSection(),
        "status": StatusSection(),
        "health": Fixed(GET=Route(tell_health)),
        "metrics": Fixed(GET=Route(metrics)),
        BLOBS: Blobs(),
        "xmlrpc": XmlRpc(),
        REMOTE_BLOBS: RemoteBlobs(),
        URI: Tree(URI),
        VDRIVE: Tree(VDRIVE),
    }
