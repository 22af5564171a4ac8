"""``t=share`` and ``t=move-form``: pages that give a cap away, and that ask where something goes.

What a cap lets its holder do is said in words, for it cannot be taken back.
"""

from __future__ import annotations

from urllib.parse import urlencode

import segno
from attrs import frozen
from markupsafe import Markup

from ampgrid.caps import LitCap, parse_cap
from ampgrid.immutable import FileNode
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.paths import GridPath
from ampgrid.web.answers import Answer, page
from ampgrid.web.call import Call
from ampgrid.web.found import Found, found, found_directory
from ampgrid.web.pages import title_of, trail_of
from ampgrid.web.places import URI, place_of, quoted, url_of

#: Directories to which a page offers to move something, at most.
MOST_TARGETS = 200


@frozen
class Gift:
    """One way to share something.

    Attributes:
        access: ``read``, ``content`` (of a file that its cap holds whole) or ``write``.
        cap: the text of the cap that gives it.
        url: of it at this gateway.
    """

    access: str
    cap: str
    url: str

    @property
    def code(self) -> Markup:
        """The cap as a QR code, an SVG that can stand in a page."""
        return qr_code(self.cap)


def qr_code(text: str) -> Markup:
    """Return a text as a QR code: an SVG without any style or script, dark on white."""
    code = segno.make(text, error="m", micro=False)
    # What segno makes of numbers alone; the text is in it as modules, never as characters.
    return Markup(  # noqa: S704
        code.svg_inline(omitsize=True, svgclass=None, lineclass=None, dark="#000", light="#fff")
    )


def gifts_of(node: FileNode | DirectoryNode, name: str, origin: str) -> list[Gift]:
    """Return the ways to share something, the one that gives least first.

    Args:
        node: the file or the directory.
        name: under which a file is saved and shown.
        origin: of this gateway.
    """
    if isinstance(node, DirectoryNode):
        caps = [("read", node.get_immutable_uri())]
        if node.is_mutable():
            caps.append(("write", node.get_uri()))
        return [Gift(access, cap, f"{origin}/{URI}/{quoted(cap)}/") for access, cap in caps]
    cap = node.get_uri()
    access = "content" if isinstance(parse_cap(cap), LitCap) else "read"
    url = f"{origin}/{URI}/{quoted(cap)}?{urlencode({'filename': name})}"
    return [Gift(access, cap, url)]


async def _meant(call: Call) -> Found:
    """Return what is at the URL, or the child of it that ``name=`` names."""
    name = call.arg("name")
    if not name:
        return await found(call)
    directory = await found_directory(call)
    child = await directory.get_child(name)
    return Found(place_of(call.target.names).child(name), child.node, child)


async def share(call: Call) -> Answer:
    """Return a page with the caps of something, and what they let their holder do (t=share)."""
    here = await _meant(call)
    directory = isinstance(here.node, DirectoryNode)
    title = title_of(here.place)
    made = call.gateway.pages.made(
        "share.html",
        call,
        title=title,
        url=url_of(here.place, directory=directory),
        directory=directory,
        gifts=gifts_of(here.node, title, call.admission.origin),
    )
    return page(made)


async def move_form(call: Call) -> Answer:
    """Return a page that asks where a child goes (t=move-form)."""
    name = call.need("name")
    directory = await found_directory(call)
    await directory.get_child(name)
    place = place_of(call.target.names)
    below = await _directories_in(directory, place, name)
    made = call.gateway.pages.made(
        "move.html",
        call,
        name=name,
        url=url_of(place, directory=True),
        above=trail_of(place),
        below=below[:MOST_TARGETS],
        left_out=max(0, len(below) - MOST_TARGETS),
    )
    return page(made)


async def _directories_in(
    directory: DirectoryNode, place: GridPath, name: str
) -> list[tuple[str, str]]:
    """Return (name, URL) of the directories beside a child that can be changed."""
    listing = await directory.read()
    return [
        (child.name, url_of(place.child(child.name), directory=True))
        for child in listing.children.values()
        if isinstance(child.node, DirectoryNode) and child.node.is_mutable() and child.name != name
    ]
