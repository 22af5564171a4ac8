"""The page ``/xmlrpc``: takes the body of a call, does it, and answers its value or a fault.

The body is spooled, and what is in memory of it is bounded: few calls that hold contents are
worked on at once. A web page cannot get here: its browser tells where it comes from, and the
content type of a call is none that a form can send.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import DeferredSemaphore

from ampgrid.errors import AmpgridError
from ampgrid.immutable import Data
from ampgrid.web.answers import Answer
from ampgrid.web.bodies import FileBody, Want
from ampgrid.web.call import Call
from ampgrid.web.errors import WebError
from ampgrid.web.refusals import unforeseen
from ampgrid.web.routing import Fixed, Route, Target
from ampgrid.web.streaming import stream
from ampgrid.web.xmlrpc.envelope import answer_xml, fault_xml, read_call
from ampgrid.web.xmlrpc.faults import Fault, fault_of
from ampgrid.web.xmlrpc.methods import method_of

#: The longest body, bytes: contents of nearly 12 MiB in base64.
MOST_BYTES = 16 * 1024 * 1024
#: Bodies up to this size do not wait for each other, bytes.
_LIGHT_BYTES = 64 * 1024
#: Calls at once that hold contents.
MOST_HEAVY = 4
_XML = "text/xml; charset=utf-8"
_TYPES = frozenset({"text/xml", "application/xml"})


class XmlRpc(Fixed):
    """The one page of XML-RPC."""

    def __init__(self) -> None:
        super().__init__(POST=Route(self._post, Want("file", MOST_BYTES)))
        self._heavy = DeferredSemaphore(MOST_HEAVY)

    def route(self, target: Target) -> Route:
        """Return the route of a call.

        Raises:
            WebError: the body is of another type.
        """
        route = super().route(target)
        kind = target.content_type.partition(";")[0].strip().lower()
        if kind not in _TYPES:
            raise WebError("a call has the content type text/xml", 415)
        return route

    async def _post(self, call: Call) -> Answer | None:
        source = call.body.source if isinstance(call.body, FileBody) else Data(b"")
        if source.get_size() <= _LIGHT_BYTES:
            return await self._answered(call, source, held=False)
        await self._heavy.acquire()
        try:
            return await self._answered(call, source, held=True)
        finally:
            self._heavy.release()

    async def _answered(self, call: Call, source: Any, *, held: bool) -> Answer | None:
        try:
            asked = await call.gateway.core.work.run(read_call, source)
            method = method_of(asked.name)
            method.check(asked.params)
            if method.heavy and not held:
                await self._heavy.acquire()
                held = True
                try:
                    return await _told(call, await method.run(call, *asked.params))
                finally:
                    self._heavy.release()
            return await _told(call, await method.run(call, *asked.params))
        except Exception as error:
            if call.request.gone or call.request.startedWriting:
                raise
            return _answer(fault_xml(_fault(call, error)))


def _fault(call: Call, error: Exception) -> Fault:
    if isinstance(error, AmpgridError):
        return fault_of(error)
    return Fault(500, unforeseen(error, call.gateway))


async def _told(call: Call, result: Any) -> Answer | None:
    if isinstance(result, AsyncIterator):
        await stream(call, _XML, result)
        return None
    return _answer(answer_xml(result))


def _answer(xml: str) -> Answer:
    return Answer(xml.encode("utf-8"), 200, _XML)
