"""The grid's public root: made by an introducer, told to its peers, answered to who asks.

Only introducers of this node's own configuration are believed, and only once: another cap than
the known one is refused and told of in the status.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.protocols import amp

from ampgrid.caps import DirCap
from ampgrid.commands.errors import (
    BadArgumentError,
    BusyError,
    NoPublicRootError,
    NotAllowedError,
)
from ampgrid.commands.vdrive import GetPublicRoot
from ampgrid.errors import AmpgridError, BadCapError, IntegrityError
from ampgrid.node.roots import Root, parse_root
from ampgrid.ports import Clock, DelayedCall

_log = Logger()

#: So many peers that keep directories are enough to make it at once.
ENOUGH_PEERS = 4
#: With fewer it is made when for so long no further one has come, seconds.
SETTLE_SECONDS = 20.0
_LOOK_SECONDS = 1.0
#: After a failure it is tried again so much later, seconds.
_RETRY_SECONDS = 30.0


class PublicRoot:
    """What a node knows of the public root.

    Args:
        root: keeps its cap.
        known: called with the text of the cap as soon as it is known.

    Attributes:
        refused: how often an introducer told another root than the known one.
    """

    def __init__(self, root: Root, known: Callable[[str], None]) -> None:
        self.root = root
        self.refused = 0
        self._known = known

    def announce(self) -> None:
        """Tell the cap, if it is known."""
        if self.root.cap is not None:
            self._known(self.root.cap.to_string())

    async def told(self, uri: str) -> None:
        """Take the cap that a believed introducer tells; durable when this returns.

        Raises:
            BadArgumentError: it is no cap of a directory.
            NotAllowedError: another root is known here.
            BusyError: it cannot be written now.
        """
        try:
            cap = parse_root(uri)
            if isinstance(cap, DirCap):
                _ = cap.keys  # a cap whose parts do not belong together is of no use for ever
        except BadCapError as error:
            raise BadArgumentError(str(error)) from None
        try:
            if await self.root.take(cap):
                self.announce()
        except IntegrityError as error:
            self.refused += 1
            _log.error("an introducer told another public root than the known one: refused")
            raise NotAllowedError(str(error)) from None
        except AmpgridError as error:
            raise BusyError("the public root could not be noted now") from error


class PublicRootMaker:
    """Makes the public root once there are peers that can keep it (of an introducer).

    Args:
        public: what is known of it.
        create: makes an empty directory of a cap on the grid.
        exists: tells whether the directory of a cap can be found there.
        count: returns how many peers that keep directories are connected.
        clock: time and timers.
    """

    def __init__(
        self,
        public: PublicRoot,
        create: Callable[[DirCap], Awaitable[Any]],
        exists: Callable[[DirCap], Awaitable[bool]],
        count: Callable[[], int],
        clock: Clock,
    ) -> None:
        self._public = public
        self._create = create
        self._exists = exists
        self._count = count
        self._clock = clock
        self._timer: DelayedCall | None = None
        self._most = 0
        self._since = 0.0
        self._stopped = False

    def start(self) -> None:
        """Begin to look for peers, unless the root is there."""
        if self._public.root.cap is None:
            self._later(_LOOK_SECONDS)

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _later(self, seconds: float) -> None:
        if not self._stopped:
            self._timer = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        if self._public.root.cap is not None:
            return  # another introducer's
        count, now = self._count(), self._clock.seconds()
        if count != self._most:
            self._most, self._since = count, now
        if count >= ENOUGH_PEERS or (count and now - self._since >= SETTLE_SECONDS):
            Deferred.fromCoroutine(self._make()).addErrback(
                lambda failure: _log.failure("the public root could not be made", failure)
            )
        else:
            self._later(_LOOK_SECONDS)

    async def _make(self) -> None:
        try:
            await self._public.root.made(self._create, self._exists)
        except AmpgridError as error:
            _log.warn("the public root could not be made yet: {error}", error=str(error))
            self._later(_RETRY_SECONDS)
        else:
            _log.info("the public root is made")
            self._public.announce()


class PublicRootResponder(amp.CommandLocator):
    """Answers peers that ask for the public root.

    Args:
        root: what is known of it.
    """

    def __init__(self, root: Root) -> None:
        super().__init__()
        self._root = root

    @GetPublicRoot.responder
    async def get_public_root(self) -> dict[str, Any]:
        """Tell the cap."""
        if self._root.cap is None:
            raise NoPublicRootError("this peer knows no public root")
        return {"uri": self._root.cap.to_string()}
