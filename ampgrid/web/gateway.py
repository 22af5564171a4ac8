"""The composition of the web gateway: what every request works with."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING

from ampgrid.node.core import NodeCore
from ampgrid.ports import Entropy
from ampgrid.web.channel import GatewayFactory
from ampgrid.web.gate import Gate
from ampgrid.web.glances import KeptGlances
from ampgrid.web.guesses import Guesses
from ampgrid.web.jobs import Jobs
from ampgrid.web.localfiles import LocalFiles
from ampgrid.web.password import Password
from ampgrid.web.routing import Router
from ampgrid.web.sections import sections
from ampgrid.web.spool import SpoolRoom
from ampgrid.web.tokens import Tokens

if TYPE_CHECKING:
    from ampgrid.web.pages import Pages


class Gateway:
    """A gateway over the services of one node.

    Args:
        core: the node's services.
        tokens: what browsers need.
        hosts: names of this gateway beside those of the loopback.
        password: what it asks for; None for nothing.
        localfiles: whether, and which, files of this machine may be read and written.

    Attributes:
        factory: accepts connections.
    """

    def __init__(
        self,
        core: NodeCore,
        tokens: Tokens,
        hosts: Collection[str] = (),
        password: Password | None = None,
        localfiles: LocalFiles | None = None,
    ) -> None:
        self.core = core
        self.tokens = tokens
        self.password = password
        self.localfiles = localfiles or LocalFiles(None)
        self.entropy: Entropy = core.entropy
        self.gate = Gate(tokens, hosts)
        self.guesses = Guesses(core.clock)
        self.spool = SpoolRoom(core.spool_path, core.entropy, core.work, core.spool_reserve)
        self.glances = KeptGlances(core.clock, core.work)
        self.jobs = Jobs(core.operations, core.wall, core.entropy)
        self.router = Router(sections())
        self.factory = GatewayFactory(self, core.clock)

    @cached_property
    def pages(self) -> Pages:
        """Makes pages for people; scripts do without."""
        from ampgrid.web.pages import Pages

        return Pages(self.core.config.nickname)

    def stop(self) -> None:
        """Close every connection."""
        self.factory.close()
        self.glances.forget()
