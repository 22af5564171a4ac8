"""``/uri`` and ``/vdrive``: which action answers, by method and by ``t=``."""

from __future__ import annotations

from collections.abc import Mapping

from ampgrid.web import checking, localcopies, posting, reading, sharing, writing
from ampgrid.web.answers import Answer, as_json, page
from ampgrid.web.bodies import A_FORM, AN_UPLOAD, NOTHING, Want
from ampgrid.web.call import Call
from ampgrid.web.errors import BadRequestError
from ampgrid.web.places import URI
from ampgrid.web.routing import Action, Route, Target, chosen

#: The longest body that holds a cap, bytes.
_A_CAP = Want("text", 2_048)

#: What ``GET ?t=`` does.
GETS: dict[str, Action] = {
    "": reading.get,
    "json": reading.as_json_text,
    "uri": reading.cap,
    "readonly-uri": reading.readonly_cap,
    "info": reading.info,
    "rename-form": reading.rename_form,
    "move-form": sharing.move_form,
    "share": sharing.share,
    "manifest": checking.manifest,
    "stream-manifest": checking.stream_manifest,
}
#: What ``PUT ?t=`` does.
PUTS: dict[str, Route] = {
    "": Route(writing.put_file, AN_UPLOAD, announces=True),
    "uri": Route(writing.put_cap, _A_CAP),
    "mkdir": Route(writing.make_directories, NOTHING),
    "upload": Route(localcopies.upload, NOTHING, always_token=True),
}
#: What ``PUT /uri?t=`` does.
UNLINKED_PUTS: dict[str, Route] = {
    "": Route(writing.put_unlinked, AN_UPLOAD, announces=True),
    "mkdir": Route(writing.make_unlinked, NOTHING),
}


class Tree:
    """All that is at ``/uri/CAP/...`` or at ``/vdrive/DRIVE/...``.

    Args:
        word: ``uri`` or ``vdrive``.
    """

    def __init__(self, word: str) -> None:
        self._word = word

    def route(self, target: Target) -> Route:
        """Return what a method and its ``t=`` do."""
        if not any(target.names[1:]):
            return self._root(target)
        method = target.method
        if method in {"GET", "HEAD"}:
            if target.t == "download" and method == "GET":
                return Route(localcopies.download, always_token=True)
            handle = GETS.get(target.t, reading.unknown)
            return Route(handle, linkable=self._word == URI and not target.t)
        puts = _of(PUTS, target) if method == "PUT" else None
        routes = {
            "GET": Route(reading.get),
            "POST": Route(posting.post, A_FORM, announces=True),
            "DELETE": Route(writing.delete),
        }
        if puts is not None:
            return puts
        return chosen({**routes, "PUT": PUTS[""]}, method)

    def _root(self, target: Target) -> Route:
        """Return what is done at ``/uri`` or ``/vdrive`` itself."""
        if self._word != URI:
            return chosen({"GET": Route(drives)}, target.method)
        routes = {
            "GET": Route(reading.by_argument, linkable=True),
            "POST": Route(posting.post_unlinked, A_FORM, announces=True),
            "PUT": UNLINKED_PUTS[""],
        }
        if target.method == "PUT":
            return _of(UNLINKED_PUTS, target)
        return chosen(routes, target.method)


def _of(routes: Mapping[str, Route], target: Target) -> Route:
    found = routes.get(target.t)
    if found is None:
        raise BadRequestError(f"t={target.t[:30]} means nothing here")
    return found


async def drives(call: Call) -> Answer:
    """Tell which drives there are."""
    drive = call.gateway.core.drive
    names = ["global"] if drive.public.cap is not None else []
    names += ["private", *(name for name, _ in drive.aliases.sound())]
    if call.wants() != "html":
        return as_json({"drives": names})
    return page(call.gateway.pages.made("drives.html", call, drives=names))
