"""All that the gateway serves, by the first word of the path."""

from __future__ import annotations

from ampgrid.web import welcome
from ampgrid.web.places import URI, VDRIVE
from ampgrid.web.routing import Fixed, Route, Section
from ampgrid.web.static import Static
from ampgrid.web.tree import Tree


def sections() -> dict[str, Section]:
    """Return the sections of a gateway."""
    return {
        "": Fixed(GET=Route(welcome.welcome, linkable=True)),
        "enter": Fixed(GET=Route(welcome.enter, linkable=True)),
        "static": Static(),
        URI: Tree(URI),
        VDRIVE: Tree(VDRIVE),
    }
