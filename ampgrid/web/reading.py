"""GET and HEAD on ``/uri`` and ``/vdrive``."""

from __future__ import annotations

from ampgrid.caps import parse_cap
from ampgrid.immutable import FileNode
from ampgrid.node.nodeinfo import info_of
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.metadata import NOTHING
from ampgrid.web.answers import HTML, JSON, Answer, as_json, page, redirect, text
from ampgrid.web.call import Call
from ampgrid.web.downloads import send_file, stored
from ampgrid.web.errors import BadRequestError
from ampgrid.web.found import Found, found, found_directory, may_only_verify, settle
from ampgrid.web.nodejson import directory_json, node_json
from ampgrid.web.pages import as_pieces, title_of, with_arguments
from ampgrid.web.places import URI, place_of, quoted, url_of
from ampgrid.web.streaming import stream


async def get(call: Call) -> Answer | None:
    """Send a file, or the page of a directory."""
    here = await found(call)
    if isinstance(here.node, FileNode):
        return await send_file(call, stored(call, here.node, here.child))
    await _directory_page(call, here, here.node)
    return None


async def _directory_page(call: Call, here: Found, node: DirectoryNode) -> None:
    glances = await call.gateway.glances.of(node)
    pieces = call.gateway.pages.directory(call, here.place, node, glances)
    await stream(call, HTML, as_pieces(pieces))


async def as_json_text(call: Call) -> Answer | None:
    """Tell of a file or a directory in JSON (t=json)."""
    here = await found(call)
    if isinstance(here.node, FileNode):
        told = node_json(here.node, NOTHING if here.child is None else here.child.metadata)
        return as_json(told)
    await stream(call, JSON, directory_json(here.node, here.child))
    return None


async def cap(call: Call) -> Answer:
    """Tell the best cap (t=uri)."""
    return text((await found(call)).node.get_uri())


async def readonly_cap(call: Call) -> Answer:
    """Tell the cap that only reads (t=readonly-uri)."""
    node = (await found(call)).node
    return text(node.get_uri() if isinstance(node, FileNode) else node.get_immutable_uri())


async def info(call: Call) -> Answer:
    """Tell all that is known of a file or a directory (t=info), as a page or in JSON."""
    place = place_of(call.target.names)
    maker = call.gateway.core.drive.maker
    if may_only_verify(place):
        assert not isinstance(place.root, str)
        await settle(call, place)
        told = await info_of(maker, place.root, None)
    else:
        here = await found(call)
        told = await info_of(maker, parse_cap(here.node.get_uri()), here.child)
    if call.wants() == "json":
        return as_json(told)
    url = url_of(place, directory=told["type"] == "directory")
    return page(
        call.gateway.pages.made("info.html", call, title=title_of(place), url=url, info=told)
    )


async def rename_form(call: Call) -> Answer:
    """Return a page that asks for the new name of a child (t=rename-form)."""
    name = call.need("name")
    directory = await found_directory(call)
    await directory.get_child(name)
    made = call.gateway.pages.made("rename.html", call, name=name, url=call.target.path)
    return page(made)


async def by_argument(call: Call) -> Answer:
    """Lead from ``/uri?uri=CAP`` to ``/uri/CAP``, and keep the other arguments."""
    said = call.need("uri").strip()
    # What is no cap is refused here, so nothing else is ever led to.
    known = parse_cap(said).to_string()
    others = {name: value for name, value in call.target.arguments.items() if name != "uri"}
    return redirect(with_arguments(f"/{URI}/{quoted(known)}", **others), 302)


async def unknown(call: Call) -> Answer:
    """Refuse a ``t=`` that means nothing.

    Raises:
        BadRequestError: always.
    """
    raise BadRequestError(f"t={call.t[:30]} means nothing here")
