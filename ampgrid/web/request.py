"""One request: routed and let in or refused by its head, then its body, then its answer."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any, AnyStr, cast

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http

from ampgrid.errors import OperationCancelledError
from ampgrid.immutable import EarlyKey, Operation
from ampgrid.node.faults import without_text
from ampgrid.web.answers import Answer
from ampgrid.web.bodies import TEXT_BYTES, FileBody, Flow, NoBody, TextBody, Want
from ampgrid.web.call import AnyBody, Call
from ampgrid.web.errors import ForbiddenError, TooLargeError, WebError
from ampgrid.web.forms import FieldsForm, FilesForm, is_form
from ampgrid.web.gate import Admission, Head
from ampgrid.web.headers import ALWAYS, OWN_POLICY
from ampgrid.web.jobs import Job
from ampgrid.web.ranges import http_date
from ampgrid.web.refusals import answer_to, as_bytes, shown
from ampgrid.web.routing import Route, Target, read_target
from ampgrid.web.spool import MEMORY_BYTES
from ampgrid.web.tokens import HEADER

if TYPE_CHECKING:
    from ampgrid.web.channel import GatewayChannel
    from ampgrid.web.gateway import Gateway

_log = Logger()

#: A refused body up to this size is read and thrown away, so that the connection goes on, bytes.
_DRAINED_BYTES = 64 * 1024


class GatewayRequest(http.Request):
    """A request to the gateway."""

    channel: GatewayChannel

    def __init__(self, channel: GatewayChannel, queued: bool = False) -> None:  # noqa: ARG002
        super().__init__(cast("Any", channel))
        self._target: Target | None = None
        self._route: Route | None = None
        self._admission: Admission | None = None
        self._body: AnyBody = NoBody()
        self._refusal: Exception | None = None
        self._length: int | None = 0
        #: The job of this request, if its handle was known before the body; until it is taken.
        self._begun: Job | None = None

    def __repr__(self) -> str:
        # Twisted's shows the path, which may hold a cap.
        return f"<GatewayRequest at {id(self):#x}>"

    @property
    def gateway(self) -> Gateway:
        """What the request works for."""
        return self.channel.gateway

    @property
    def length(self) -> int | None:
        """Bytes of its body, None if they are not told before they come."""
        return self._length

    # The head.

    def gotLength(self, length: int | None) -> None:  # noqa: N802
        """Route the request, let it in or refuse it: the head is here, and none of the body."""
        self.content = BytesIO()
        self._length = length
        try:
            self._begin(length)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
            self._refuse(error)

    def _begin(self, length: int | None) -> None:
        command, uri = self.channel.head()
        content_type = self.getHeader("Content-Type") or ""
        target = self._target = read_target(command, uri, content_type)
        self.gateway.guesses.look(self._peer())
        self._route = route = self._let_in(target, uri)
        if length != 0:
            self._body = self._made_body(self._wanted(route), length)
        if isinstance(self._body, FileBody | FilesForm) and (
            length is None or length > MEMORY_BYTES
        ):
            self.channel.expect_much()
        if route.announces and isinstance(self._body, FileBody | FilesForm):
            self._announce(target.arguments.get("ophandle"))

    def _let_in(self, target: Target, uri: bytes) -> Route:
        """Return the route, if the request may take it.

        Raises:
            WebError: it may not, or there is none.
        """
        gateway = self.gateway
        # Before the gate has seen it nothing is told of what is there and what is not.
        route: Route | None = None
        problem: WebError | None = None
        try:
            route = gateway.router.route(target)
        except WebError as error:
            problem = error
        admission = self._admission = self._admitted(target, route)
        if route is not None and route.credentials is not None:
            route.credentials(self)
        elif gateway.password is not None:
            gateway.password.check(self, target.method, uri)
        if route is None:
            assert problem is not None
            raise problem
        if route.always_token and not admission.has_token and not is_form(target.content_type):
            raise ForbiddenError(
                f"this needs the token of the gateway: the header {HEADER}, with what is in "
                "private/web-token, in the node directory"
            )
        return route

    def _admitted(self, target: Target, route: Route | None) -> Admission:
        linkable = route is not None and route.linkable
        head = Head(target.method, self._values, self._local(), self.isSecure(), linkable)
        form = is_form(target.content_type) or (route is not None and route.guards_itself)
        return self.gateway.gate.admit(head, form=form)

    def _announce(self, handle: str | None) -> None:
        """Make a handle known: who gave it may ask at once how much of the body is here."""
        if not handle:
            return
        self._begun = self.gateway.jobs.begin("upload", handle, self._length)
        self._begun.moved = 0
        operation = self._begun.operation
        operation.enter("receiving", self._length or 0)
        operation.on_cancel(lambda: self._refuse(OperationCancelledError("cancelled")))

    def _end_begun(self, error: Exception | None) -> None:
        """End the job of a request that came to its end before any work was begun."""
        begun = self.take_begun()
        if begun is not None:
            self.gateway.jobs.end(begun, error)

    def take_begun(self) -> Job | None:
        """Return the job that is known already, to go on with it; it is the caller's now."""
        begun, self._begun = self._begun, None
        return begun

    def _wanted(self, route: Route) -> Want:
        """Return what is made of the body, under the bound that whoever asks has."""
        most = route.most(self) if route.most is not None else None
        return route.body if most is None else evolve(route.body, most=most)

    def _values(self, name: str) -> list[str]:
        """Return the values of a header; what is no UTF-8 is like nothing that counts."""
        raw = self.requestHeaders.getRawHeaders(name.encode("ascii"), [])
        return [value.decode("utf-8", "replace") for value in raw]

    def getHeader(self, key: AnyStr) -> AnyStr | None:  # noqa: N802
        """Return the last value of a header, None without it; any bytes will do."""
        if isinstance(key, bytes):
            return super().getHeader(key)
        values = self._values(key)
        return values[-1] if values else None

    def _peer(self) -> str:
        return getattr(self.getClientAddress(), "host", "")

    def _local(self) -> tuple[str, int]:
        host = self.channel.getHost()
        return getattr(host, "host", ""), getattr(host, "port", 0)

    def _made_body(self, want: Want, length: int | None) -> AnyBody:
        channel = self.channel
        flow = Flow(channel.hold, channel.release, self._refuse)
        room = self.gateway.spool
        bounded = want.kind in {"file", "text"} and want.most is not None
        if bounded and (length or 0) > (want.most or 0):
            raise TooLargeError(f"this takes a body of {want.most} bytes at most")
        if want.kind == "file":
            room.check(length or 0)
            return FileBody(room, flow, want.most, self._early_key(want, length))
        content_type = self._target.content_type if self._target is not None else ""
        if want.kind == "form" and is_form(content_type):
            if not content_type.lower().startswith("multipart/"):
                return FieldsForm()
            room.check(length or 0)
            return FilesForm(content_type, room, flow)
        if want.kind == "none":
            return NoBody()
        return TextBody(TEXT_BYTES if want.most is None else want.most)

    def _early_key(self, want: Want, length: int | None) -> EarlyKey | None:
        """Return what finds the key of a file while it comes in, if that saves reading it."""
        if not want.keyed or (length is not None and length <= MEMORY_BYTES):
            return None
        core = self.gateway.core
        return core.uploader.early_key(length, core.encoding())

    def _refuse(self, error: Exception) -> None:
        """Note why the request is refused; told at once if much of it is still to come."""
        if self._refusal is not None or self.channel is None or self.method != b"(no method yet)":
            return
        self._refusal = error
        self._end_begun(error)
        self._body.close()
        self._body = NoBody()
        awaited = self._values("Expect") or self._length is None
        if awaited or (self._length or 0) > _DRAINED_BYTES:
            now = http_date(self.gateway.core.wall())
            answer = as_bytes(self._answer_to(error), now)
            self.channel.answer_at_once(answer, self._wait_for(error))

    def _wait_for(self, error: Exception) -> Deferred[None] | None:
        """Return what fires when an error may be told; None for now."""
        guessed = isinstance(error, WebError) and error.guessed
        return self.gateway.guesses.wrong(self._peer()) if guessed else None

    async def _until_told(self, error: Exception) -> None:
        """Wait until an error may be told; not for a client that is gone, whom nobody tells."""
        when = self._wait_for(error)
        if when is None or self._disconnected:
            return
        self.notifyFinish().addErrback(lambda _: when.cancel())
        with suppress(CancelledError):
            await when

    # The body.

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        """Take bytes of the body."""
        if self._refusal is not None:
            return
        try:
            self._body.add(data)
            if self._begun is not None:
                self._begun.operation.done += len(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
            self._refuse(error)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802
        """All of the request is here."""
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path.partition(b"?")[0]
        self.args = {}
        self.process()

    def process(self) -> None:
        """Answer."""
        Deferred.fromCoroutine(self._answered()).addErrback(self._unanswered)

    def _unanswered(self, failure: Failure) -> None:
        _log.failure("a request could not be answered", without_text(failure))
        if not self._disconnected:
            self.channel.transport.abortConnection()

    async def _answered(self) -> None:
        try:
            if self._refusal is not None:
                raise self._refusal
            await self._body.complete()
            assert self._route is not None
            call = self._call()
            call.require_token()
            answer = await self._route.act(call)
        except Exception as error:  # noqa: BLE001 - the client is told
            self._end_begun(error)
            await self._until_told(error)
            self._fail(error)
        else:
            self._end_begun(None)
            if answer is not None:
                self.send(answer)
        finally:
            self._body.close()

    def _call(self) -> Call:
        assert self._target is not None
        assert self._admission is not None
        return Call(self.gateway, self._target, self._admission, self._body, self)

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        """The client is gone."""
        if self.method == b"(no method yet)":
            self._end_begun(OperationCancelledError("the client went away"))
            self._body.close()
        super().connectionLost(reason)

    # The answer.

    @property
    def gone(self) -> bool:
        """Whether the client is gone."""
        return self._disconnected

    def accepted(self) -> str:
        """Return what the client would like: ``html``, ``json`` or ``text``."""
        accept = (self.getHeader("Accept") or "").lower()
        if "text/html" in accept:
            return "html"
        return "json" if "application/json" in accept else "text"

    def begin(self, status: int, content_type: str, policy: str = OWN_POLICY) -> None:
        """Set status and the headers that every answer has."""
        self.setResponseCode(status)
        self.setHeader("Date", http_date(self.gateway.core.wall()))
        for name, value in ALWAYS.items():
            self.setHeader(name, value)
        self.setHeader("Content-Security-Policy", policy)
        self.setHeader("Content-Type", content_type)

    def send(self, answer: Answer) -> None:
        """Send a whole answer."""
        if self._disconnected:
            return
        self.begin(answer.status, answer.content_type)
        for name, value in answer.headers.items():
            self.responseHeaders.setRawHeaders(name, value.split("\n"))
        self.setHeader("Content-Length", str(len(answer.body)))
        self.write(answer.body)
        self.finish()

    def _fail(self, error: Exception) -> None:
        """Tell the client; if the answer has begun already, cut it short."""
        if self._disconnected:
            return
        if self.startedWriting:
            _log.info("an answer was cut short: {why}", why=shown(error))
            self.channel.transport.abortConnection()
            return
        self.send(self._answer_to(error))

    def _answer_to(self, error: Exception) -> Answer:
        wanted, target = self.accepted(), self._target
        if target is not None and (
            target.t == "json" or target.arguments.get("output", "").lower() == "json"
        ):
            wanted = "json"
        return answer_to(error, self.gateway, wanted)

    # What is streamed.

    def cancels(self, operation: Operation) -> None:
        """Cancel an operation when the client is gone."""

        def lost(failure: Failure) -> None:
            failure.trap(ConnectionLost, Exception)
            operation.cancel()

        self.notifyFinish().addErrback(lost)
        if self._disconnected:
            operation.cancel()
