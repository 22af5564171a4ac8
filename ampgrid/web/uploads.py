"""Uploading what came in a body, and linking it."""

from __future__ import annotations

from collections.abc import Sequence

from ampgrid.caps import MAX_INLINE_SIZE, MAX_LIT_SIZE
from ampgrid.immutable import Uploadable, Uploaded
from ampgrid.web.call import Call
from ampgrid.web.linking import Linking


async def upload(call: Call, source: Uploadable, linking: Linking | None = None) -> Uploaded:
    """Upload, and link what was uploaded (see `upload_all`)."""
    (uploaded,) = await upload_all(call, [(source, linking)])
    return uploaded


async def upload_all(
    call: Call, sources: Sequence[tuple[Uploadable, Linking | None]]
) -> list[Uploaded]:
    """Upload one after the other, and link each as soon as it is there.

    The work is one job, under the handle that ``ophandle=`` gives, and ends when the client goes.

    Args:
        call: what asked for it.
        sources: what is uploaded, and where it is linked (None for nowhere).

    Raises:
        NotHappyError: the shares of one could not be placed; it was not linked.
        ChildExistsError: something has a name by now, and may not be replaced.
    """
    core = call.gateway.core
    core.require_uploads()
    sizes = [source.get_size() for source, _ in sources]
    done: list[Uploaded] = []
    with call.under_way("upload", sum(sizes)) as job:
        call.request.cancels(job.operation)
        for source, linking in sources:
            link, small = None, MAX_LIT_SIZE
            if linking is not None:
                link, small = linking.link, MAX_INLINE_SIZE
            if source.get_size() > small:
                await core.settle(None, job.operation.check)
            done.append(
                await core.uploader.upload(
                    source, core.encoding(), job.operation, link, lit_size=small
                )
            )
        job.result = {
            "files": len(done),
            "shares_placed": sum(each.shares_placed for each in done),
            "servers_happy": min(each.servers_happy for each in done),
            "shares_already_there": sum(each.shares_already_there for each in done),
        }
        job.moved = sum(sizes)
    return done
