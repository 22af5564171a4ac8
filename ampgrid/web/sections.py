"""All that the gateway serves, by the first word of the path.

A section is imported and made at the first request for it: a gateway that has just started, and
one that is asked for a few things only, need not load all that it could do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

from ampgrid.web.places import URI, VDRIVE
from ampgrid.web.routing import Fixed, Route, Section, Target


class Later:
    """A section that is made when it is asked for.

    Args:
        make: makes it.
    """

    def __init__(self, make: Callable[[], Section]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Section:
        return self._make()

    def route(self, target: Target) -> Route:
        """Return how a request is answered."""
        return self._made.route(target)


def sections() -> dict[str, Section]:
    """Return the sections of a gateway."""
    return {
        "": Later(_welcome),
        "enter": Later(_enter),
        "static": Later(_static),
        "operations": Later(_operations),
        "status": Later(_status),
        "health": Later(_health),
        "metrics": Later(_metrics),
        "blobs": Later(_blobs),
        "xmlrpc": Later(_xmlrpc),
        "remote-blobs": Later(_remote_blobs),
        URI: Later(partial(_tree, URI)),
        VDRIVE: Later(partial(_tree, VDRIVE)),
    }


def _welcome() -> Section:
    from ampgrid.web.welcome import welcome

    return Fixed(GET=Route(welcome, linkable=True))


def _enter() -> Section:
    from ampgrid.web.welcome import enter

    return Fixed(GET=Route(enter, linkable=True))


def _health() -> Section:
    from ampgrid.web.status import tell_health

    return Fixed(GET=Route(tell_health))


def _metrics() -> Section:
    from ampgrid.web.metrics import metrics

    return Fixed(GET=Route(metrics))


def _static() -> Section:
    from ampgrid.web.static import Static

    return Static()


def _operations() -> Section:
    from ampgrid.web.operations import OperationsSection

    return OperationsSection()


def _status() -> Section:
    from ampgrid.web.status import StatusSection

    return StatusSection()


def _blobs() -> Section:
    from ampgrid.web.blobs import Blobs

    return Blobs()


def _xmlrpc() -> Section:
    from ampgrid.web.xmlrpc.section import XmlRpc

    return XmlRpc()


def _remote_blobs() -> Section:
    from ampgrid.web.remote_blobs import RemoteBlobs

    return RemoteBlobs()


def _tree(word: str) -> Section:
    from ampgrid.web.tree import Tree

    return Tree(word)
