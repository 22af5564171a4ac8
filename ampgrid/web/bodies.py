"""What is made of the body of a request while it comes in: nothing, text, a file or a form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from attrs import frozen

from ampgrid.immutable import Data, EarlyKey, Uploadable
from ampgrid.web.errors import BadRequestError, TooLargeError
from ampgrid.web.spool import Keeping, SpoolRoom

#: The longest body that is kept as text, bytes.
TEXT_BYTES = 1024 * 1024

Kind = Literal["none", "text", "file", "form"]


@frozen
class Want:
    """What an action wants of a body.

    Attributes:
        kind: what is made of it.
        most: bytes of a text, or of a file, at most; None for a file of any size.
        keyed: whether a file goes to the grid, so that its key is found while it comes in.
    """

    kind: Kind
    most: int | None = TEXT_BYTES
    keyed: bool = False


NOTHING = Want("none")
A_TEXT = Want("text")
A_FILE = Want("file", None)
AN_UPLOAD = Want("file", None, keyed=True)
A_FORM = Want("form")


@frozen
class Flow:
    """How a body speaks to the connection that it comes over.

    Attributes:
        pause: called when no more can be taken for now.
        resume: called when more can.
        fail: called with what went wrong, as soon as it did.
    """

    pause: Callable[[], None]
    resume: Callable[[], None]
    fail: Callable[[Exception], None]


class NoBody:
    """Takes a little, and throws it away: some clients send a body with whatever they ask."""

    def __init__(self) -> None:
        self._taken = 0

    def add(self, data: bytes) -> None:
        """Throw bytes away."""
        self._taken += len(data)
        if self._taken > TEXT_BYTES:
            raise TooLargeError("no body is wanted here")

    async def complete(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class TextBody:
    """A small body, in memory.

    Args:
        most: bytes at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = bytearray()

    def add(self, data: bytes) -> None:
        """Keep bytes."""
        if len(self._taken) + len(data) > self._most:
            raise TooLargeError(f"this takes a body of {self._most} bytes at most")
        self._taken += data

    async def complete(self) -> None:
        """Do nothing: all is here."""

    @property
    def data(self) -> bytes:
        """All bytes."""
        return bytes(self._taken)

    @property
    def text(self) -> str:
        """All of it as text.

        Raises:
            BadRequestError: it is no UTF-8.
        """
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError:
            raise BadRequestError("the body is no UTF-8 text") from None

    def close(self) -> None:
        """Let go of it."""
        self._taken = bytearray()


class GivenText(TextBody):
    """A text that did not come as a body of its own.

    Args:
        text: what it is.
    """

    def __init__(self, text: str) -> None:
        super().__init__(TEXT_BYTES)
        self.add(text.encode("utf-8", "replace"))


class FileBody:
    """A body of any size, kept in the spool.

    Args:
        room: where.
        flow: of the connection.
        most: bytes at most; None for any size.
        early_key: finds the key of the file as it comes in; None if nobody wants it.
    """

    def __init__(
        self,
        room: SpoolRoom,
        flow: Flow,
        most: int | None = None,
        early_key: EarlyKey | None = None,
    ) -> None:
        self._keeping = Keeping(room, flow.pause, flow.resume, flow.fail, most, early_key)
        self._source: Uploadable | None = None

    def add(self, data: bytes) -> None:
        """Keep bytes."""
        self._keeping.add(data)

    async def complete(self) -> None:
        """Wait until all is kept."""
        self._source = await self._keeping.whole()

    @property
    def source(self) -> Uploadable:
        """What can be uploaded; the request closes it."""
        assert self._source is not None
        return self._source

    def close(self) -> None:
        """Let go of it."""
        self._keeping.close()


class GivenBody(NoBody):
    """Contents that did not come as a body of their own, in memory.

    Args:
        data: all of it.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.source: Uploadable = Data(data)


#: What stands for a body where a request came in another form.
AnyGiven = NoBody | GivenBody | GivenText
