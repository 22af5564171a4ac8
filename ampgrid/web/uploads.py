"""Uploading what came in a body, and linking it."""

from __future__ import annotations

from collections.abc import Sequence

from ampgrid.immutable import Uploadable, Uploaded, needs_shares
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

    Nothing is uploaded where it is known beforehand that one could not be linked.
    The work is one job, under the handle that ``ophandle=`` gives, and ends when the client goes.

    Args:
        call: what asked for it.
        sources: what is uploaded, and where it is linked (None for nowhere).

    Raises:
        NotHappyError: the shares of one could not be placed; it was not linked.
        ChildExistsError: something has a name, and may not be replaced.
        PreconditionError: what has it is not what the client knows.
    """
    core = call.gateway.core
    core.require_uploads()
    sizes = [source.get_size() for source, _ in sources]
    for size, (_, linking) in zip(sizes, sources, strict=True):
        # A single file that its entry holds is not uploaded before it is linked.
        if linking is not None and (len(sources) > 1 or needs_shares(size, inline=True)):
            await linking.look()
    done: list[Uploaded] = []
    with call.under_way("upload", sum(sizes)) as job:
        call.request.cancels(job.operation)
        for size, (source, linking) in zip(sizes, sources, strict=True):
            inline = linking is not None
            if needs_shares(size, inline=inline):
                await core.settle(None, job.operation.check)
            link = None if linking is None else linking.link
            done.append(
                await core.uploader.upload(
                    source, core.encoding(), job.operation, link, inline=inline
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
