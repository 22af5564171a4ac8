"""``/static``: styles, scripts and pictures of the pages, which come with ampgrid."""

from __future__ import annotations

import re
from importlib.resources import files

from ampgrid.web.answers import Answer
from ampgrid.web.call import Call
from ampgrid.web.errors import NotFoundError
from ampgrid.web.headers import content_type
from ampgrid.web.ranges import etag_of, matches
from ampgrid.web.routing import Route, Target, chosen

_NAME = re.compile(r"[a-z0-9-]{1,60}\.(css|js|svg|png|ico|txt)")


class Static:
    """The files in the folder ``static`` of this package, each read once."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def route(self, target: Target) -> Route:
        """Return what sends one file."""
        return chosen({"GET": Route(self._send)}, target.method)

    async def _send(self, call: Call) -> Answer:
        name = "/".join(call.target.names[1:])
        data = self._read(name)
        etag = etag_of(data.hex())
        headers = {"Cache-Control": "no-cache", "ETag": etag}
        known = call.request.getHeader("If-None-Match")
        if known is not None and matches(known, etag):
            return Answer(b"", 304, content_type(name), headers)
        return Answer(data, 200, content_type(name), headers)

    def _read(self, name: str) -> bytes:
        if name not in self._files:
            if not _NAME.fullmatch(name):
                raise NotFoundError("there is no such file")
            path = files("ampgrid.web") / "static" / name
            if not path.is_file():
                raise NotFoundError("there is no such file")
            self._files[name] = path.read_bytes()
        return self._files[name]
