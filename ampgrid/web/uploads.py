"""Uploading what came in a body, and linking it."""

from __future__ import annotations

from ampgrid.caps import MAX_LIT_SIZE
from ampgrid.immutable import Uploadable, Uploaded
from ampgrid.web.call import Call
from ampgrid.web.linking import Linking


async def upload(call: Call, source: Uploadable, linking: Linking | None = None) -> Uploaded:
    """Upload, and link what was uploaded.

    The work is under the handle that ``ophandle=`` gives, and ends when the client goes.

    Raises:
        NotHappyError: the shares could not be placed; nothing was linked.
        ChildExistsError: something has the name by now, and may not be replaced.
    """
    core = call.gateway.core
    core.require_uploads()
    size = source.get_size()
    with call.gateway.jobs.under_way("upload", call.arg("ophandle"), size) as job:
        call.request.cancels(job.operation)
        if size > MAX_LIT_SIZE:
            await core.settle(None, job.operation.check)
        link = None if linking is None else linking.link
        uploaded = await core.uploader.upload(source, core.encoding(), job.operation, link)
        job.result = {
            "shares_placed": uploaded.shares_placed,
            "servers_happy": uploaded.servers_happy,
            "shares_already_there": uploaded.shares_already_there,
        }
    return uploaded
