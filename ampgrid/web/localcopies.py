"""``t=download`` and ``t=upload`` with ``localfile=`` or ``localdir=`` (seed 004, section 5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ampgrid.errors import FileError
from ampgrid.immutable import FileNode
from ampgrid.web.answers import Answer, as_json, text
from ampgrid.web.call import Call
from ampgrid.web.errors import BadRequestError
from ampgrid.web.folders import Folder
from ampgrid.web.found import child_place, found, settle
from ampgrid.web.linking import linking_at, replacing
from ampgrid.web.localtrees import download_file, download_tree, upload_file, upload_tree
from ampgrid.web.places import place_of
from ampgrid.web.writing import made_directory


def _named(call: Call) -> tuple[str, Path]:
    """Return which of the two arguments was given, and its path.

    Raises:
        ForbiddenError: it is not allowed.
        BadRequestError: not exactly one of the two was given.
    """
    local = call.gateway.localfiles
    local.require(call)
    given = [name for name in ("localfile", "localdir") if call.arg(name)]
    if len(given) != 1:
        raise BadRequestError("give either localfile= or localdir=")
    return given[0], local.allowed(call.need(given[0]))


@contextmanager
def _told() -> Iterator[None]:
    """Tell of what this machine refuses as of a bad request: it was named there."""
    try:
        yield
    except FileError as error:
        raise BadRequestError(str(error)) from error


async def download(call: Call) -> Answer:
    """GET t=download: write a file, or all below a directory, to this machine."""
    with _told():
        return await _download(call)


async def upload(call: Call) -> Answer:
    """PUT t=upload: put a file, or all below a directory, of this machine."""
    with _told():
        return await _upload(call)


async def _download(call: Call) -> Answer:
    kind, path = _named(call)
    here = await found(call)
    core = call.gateway.core
    with call.under_way("download") as job:
        call.request.cancels(job.operation)
        if isinstance(here.node, FileNode):
            if kind == "localdir":
                raise BadRequestError("localdir= is of directories, and a file is there")
            with await core.work.run(Folder.at, path.parent) as folder:
                await download_file(core, here.node, folder, path.name, job.operation)
            return text(f"{here.node.get_size()} bytes were written\n")
        if kind == "localfile":
            raise BadRequestError("localfile= is of files, and a directory is there")
        with await core.work.run(Folder.at, path.parent) as folder:
            copied = await download_tree(core, here.node, folder, path.name, job.operation)
        job.result = copied.to_json()
    return as_json(copied.to_json())


async def _upload(call: Call) -> Answer:
    kind, path = _named(call)
    core = call.gateway.core
    core.require_uploads()
    if kind == "localdir":
        return await _upload_directory(call, path)
    with await core.work.run(Folder.at, path.parent) as folder:
        return await _upload_file(call, folder, path.name)


async def _upload_file(call: Call, folder: Folder, name: str) -> Answer:
    core = call.gateway.core
    await core.work.run(folder.require_file, name)
    place = child_place(call)
    await settle(call, place)
    linking = await linking_at(call, place, replacing(call, "only-files"))
    await linking.look()
    with call.under_way("upload") as job:
        call.request.cancels(job.operation)
        await core.settle(None, job.operation.check)
        cap = await upload_file(core, folder, name, job.operation)
        await linking.link(cap)
    return text(cap.to_string(), linking.status)


async def _upload_directory(call: Call, path: Path) -> Answer:
    core = call.gateway.core
    with await core.work.run(_directory_at, path) as folder:
        return await _upload_all(call, folder)


def _directory_at(path: Path) -> Folder:
    """Open a directory that is to be uploaded (in a thread)."""
    with Folder.at(path.parent) as above:
        above.require_directory(path.name)
        return above.below(path.name)


async def _upload_all(call: Call, folder: Folder) -> Answer:
    core = call.gateway.core
    place = place_of(call.target.names)
    await settle(call, place)
    directory, made = await made_directory(call, place)
    with call.under_way("upload") as job:
        call.request.cancels(job.operation)
        await core.settle(None, job.operation.check)
        copied = await upload_tree(core, folder, directory, job.operation)
        job.result = copied.to_json()
    return as_json(copied.to_json(), 201 if made else 200)
