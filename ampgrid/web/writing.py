"""PUT and DELETE on ``/uri`` and ``/vdrive``."""

from __future__ import annotations

from ampgrid.caps import Cap, parse_cap
from ampgrid.immutable import Data, Uploadable
from ampgrid.vdrive.children import linkable
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.paths import GridPath
from ampgrid.web.answers import Answer, text
from ampgrid.web.bodies import FileBody, GivenBody, TextBody
from ampgrid.web.call import Call
from ampgrid.web.errors import BadRequestError
from ampgrid.web.found import child_place, settle
from ampgrid.web.linking import linking_at, replacing
from ampgrid.web.places import place_of
from ampgrid.web.uploads import upload


async def put_file(call: Call) -> Answer:
    """PUT a file: upload the body, link it; answers its cap."""
    place = child_place(call)
    if place.as_directory:
        raise BadRequestError("a file cannot be put at a path that ends with a slash")
    core = call.gateway.core
    core.require_uploads()
    await settle(call, place)
    linking = await linking_at(call, place, replacing(call, "only-files"))
    uploaded = await upload(call, _source(call), linking)
    return text(uploaded.cap.to_string(), linking.status)


def _source(call: Call) -> Uploadable:
    # Without any body there is nothing in the file.
    return call.body.source if isinstance(call.body, FileBody | GivenBody) else Data(b"")


async def put_unlinked(call: Call) -> Answer:
    """PUT /uri: upload the body and link it nowhere; answers its cap."""
    uploaded = await upload(call, _source(call))
    return text(uploaded.cap.to_string(), 201)


async def make_unlinked(call: Call) -> Answer:
    """PUT /uri?t=mkdir: make a directory that is linked nowhere; answers its cap."""
    core = call.gateway.core
    core.require_uploads()
    await core.settle_directories(lambda: None)
    made = await core.drive.virtual.create_directory()
    return text(made.get_uri(), 201)


async def make_directories(call: Call) -> Answer:
    """PUT t=mkdir: make a directory and those on the way; one that is there stays as it is."""
    place = place_of(call.target.names)
    core = call.gateway.core
    core.require_uploads()
    await settle(call, place)
    node, made = await made_directory(call, place)
    return text(node.get_uri(), 201 if made else 200)


async def made_directory(call: Call, place: GridPath) -> tuple[DirectoryNode, bool]:
    """Return the directory at a place, and whether it was made now.

    Raises:
        NotDirectoryError: a file is there, or in the way.
    """
    drive = call.gateway.core.drive
    if not place.names:
        return await drive.directory(place), False
    parent, name = await drive.parent(place, make=True)
    there = await parent.has_child(name)
    return await drive.virtual.make_directories(await drive.place(place)), not there


def given_cap(said: str) -> Cap:
    """Read a cap that is to be linked.

    Raises:
        BadCapError: it is none, or one that can only verify.
    """
    return linkable(parse_cap(said))


async def put_cap(call: Call) -> Answer:
    """PUT t=uri: link the cap in the body; answers it."""
    place = child_place(call)
    said = call.body.text if isinstance(call.body, TextBody) else ""
    cap = given_cap(said)
    call.gateway.core.require_uploads()
    await settle(call, place)
    linking = await linking_at(call, place, replacing(call, "all"))
    await linking.link(cap)
    return text(cap.to_string(), linking.status)


async def delete(call: Call) -> Answer:
    """DELETE: take a name out of its directory; answers the cap that it stood for."""
    place = child_place(call)
    await settle(call, place)
    parent, name = await call.gateway.core.drive.parent(place)
    child = await parent.delete(name)
    return text("" if child is None else child.node.get_uri())
