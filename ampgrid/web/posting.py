"""POST on ``/uri`` and ``/vdrive``: what the forms of a page do."""

from __future__ import annotations

from urllib.parse import unquote

from ampgrid.formats.names import checked_name
from ampgrid.vdrive.paths import GridPath, parse_grid_path
from ampgrid.web import checking
from ampgrid.web.answers import Answer, redirect, text
from ampgrid.web.call import Call
from ampgrid.web.errors import BadRequestError
from ampgrid.web.forms import FormFile
from ampgrid.web.found import found_directory, settle
from ampgrid.web.linking import linking_in, replacing
from ampgrid.web.places import URI, VDRIVE, place_of
from ampgrid.web.redirects import when_done
from ampgrid.web.routing import Action
from ampgrid.web.uploads import upload, upload_all
from ampgrid.web.writing import given_cap, made_directory, make_unlinked


async def post(call: Call) -> Answer | None:
    """Do what ``t=`` says, then lead to ``when_done=`` if that is given."""
    return await _done(call, ACTIONS)


async def post_unlinked(call: Call) -> Answer | None:
    """POST /uri: upload, or make a directory, linked nowhere."""
    return await _done(call, UNLINKED)


async def _done(call: Call, actions: dict[str, Action]) -> Answer | None:
    action = actions.get(call.t)
    if action is None:
        raise BadRequestError(
            f"t= is one of {', '.join(actions)}" if not call.t else f"t={call.t[:30]} is unknown"
        )
    # Looked at first, so that nothing is done if the browser cannot be led on.
    target = when_done(call)
    answer = await action(call)
    return answer if target is None or answer is None else redirect(target)


def child_name(call: Call, argument: str) -> str:
    """Return the name of a child that an argument gives.

    Raises:
        BadRequestError: it is missing.
        BadNameError: it holds a slash, or cannot be a child's for another reason.
    """
    return checked_name(call.need(argument))


def _files(call: Call) -> list[tuple[str, FormFile]]:
    """Return (name, file) of all that a form uploads.

    Raises:
        BadRequestError: there is none, or its name is missing.
    """
    sent = call.form.files if call.form is not None else []
    # A field in which nothing was chosen is sent as a nameless file of no bytes.
    files = [each for each in sent if each.name or each.source.get_size()]
    if not files:
        raise BadRequestError("the form holds no file (a field named file)")
    given = call.arg("name")
    if given and len(files) > 1:
        raise BadRequestError("name= is for one file, and several were sent")
    names = [checked_name(given or each.name) for each in files]
    if len(set(names)) < len(names):
        raise BadRequestError("two files of the form have one name")
    return list(zip(names, files, strict=True))


async def _upload(call: Call) -> Answer:
    files = _files(call)
    call.gateway.core.require_uploads()
    directory = await found_directory(call)
    replace = replacing(call, "only-files")
    linkings = [linking_in(directory, name, replace) for name, _ in files]
    sources = [file.source for _, file in files]
    uploaded = await upload_all(call, list(zip(sources, linkings, strict=True)))
    status = 200 if all(linking.replaced for linking in linkings) else 201
    return text("\n".join(each.cap.to_string() for each in uploaded), status)


async def _upload_unlinked(call: Call) -> Answer:
    files = call.form.files if call.form is not None else []
    if len(files) != 1:
        raise BadRequestError("the form has to hold one file (a field named file)")
    return text((await upload(call, files[0].source)).cap.to_string(), 201)


async def _make(call: Call) -> Answer:
    call.gateway.core.require_uploads()
    if not call.arg("name"):
        place = place_of(call.target.names)
        await settle(call, place)
        node, made = await made_directory(call, place)
        return text(node.get_uri(), 201 if made else 200)
    name = child_name(call, "name")
    directory = await found_directory(call)
    made_now = await directory.create_empty_directory(name, overwrite=False)
    return text(made_now.get_uri(), 201)


async def _link(call: Call) -> Answer:
    name, cap = child_name(call, "name"), given_cap(call.need("uri"))
    call.gateway.core.require_uploads()
    directory = await found_directory(call)
    linking = linking_in(directory, name, replacing(call, "all"))
    await linking.link(cap)
    return text(cap.to_string(), linking.status)


async def _delete(call: Call) -> Answer:
    name = child_name(call, "name")
    directory = await found_directory(call)
    child = await directory.delete(name)
    return text("" if child is None else child.node.get_uri())


async def _rename(call: Call) -> Answer:
    old, new = child_name(call, "from_name"), child_name(call, "to_name")
    here = place_of(call.target.names)
    await _move(call, here.child(old), here.child(new))
    return text(f"renamed to {new}\n")


async def _relink(call: Call) -> Answer:
    """Move to another directory: ``to_dir=`` is its cap, its URL or its grid path."""
    old = child_name(call, "from_name")
    new = child_name(call, "to_name") if call.arg("to_name") else old
    target = _other_place(call.need("to_dir").strip())
    await _move(call, place_of(call.target.names).child(old), target.child(new))
    return text(f"moved to {new}\n")


def _other_place(said: str) -> GridPath:
    if not said.startswith("/"):
        return parse_grid_path(said)
    parts = [unquote(part) for part in said[1:].split("/")]
    if len(parts) < 2 or parts[0] not in {URI, VDRIVE}:
        raise BadRequestError("to_dir= is a cap, or a path such as /vdrive/private/a")
    return place_of(parts)


async def _move(call: Call, source: GridPath, target: GridPath) -> None:
    """Move a child; as ``mv -f`` does, whatever has the new name is replaced."""
    await settle(call, source)
    drive = call.gateway.core.drive
    here, there = await drive.place(source), await drive.place(target)
    replace = replacing(call, "all")
    if replace == "only-files" and here != there:
        await linking_in(*await drive.virtual.get_parent(there), replace).look()
    await drive.virtual.move(here, there, overwrite=replace != "none")


#: What a form on a directory can do.
ACTIONS: dict[str, Action] = {
    "upload": _upload,
    "mkdir": _make,
    "uri": _link,
    "delete": _delete,
    "unlink": _delete,
    "rename": _rename,
    "relink": _relink,
    "check": checking.check,
    "start-deep-check": checking.start_check,
    "start-deep-stats": checking.start_size,
    "stream-deep-check": checking.stream_check,
    "stream-manifest": checking.stream_manifest,
}
#: What a form can do that links nothing.
UNLINKED: dict[str, Action] = {"upload": _upload_unlinked, "mkdir": make_unlinked}
