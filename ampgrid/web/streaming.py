"""Answers that are too long to be made whole: they are sent while they are made."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ampgrid.errors import OperationCancelledError
from ampgrid.immutable import Operation
from ampgrid.web.call import Call
from ampgrid.web.outflow import Outflow


async def stream(
    call: Call,
    content_type: str,
    pieces: AsyncIterator[str],
    operation: Operation | None = None,
) -> None:
    """Send an answer in pieces, as fast as the client reads them.

    The head goes out with the first piece, so what fails before it gets a status of its own; what
    fails later cuts the answer short.

    Args:
        call: what is answered.
        content_type: of the answer.
        pieces: of text.
        operation: cancelled when the client is gone.

    Raises:
        OperationCancelledError: the client is gone.
    """
    request = call.request
    operation = operation or Operation()
    out: Outflow | None = None
    try:
        async for piece in pieces:
            if out is None:
                request.begin(200, content_type)
                if call.target.method == "HEAD":
                    request.finish()
                    return
                out = Outflow(request, call.gateway.core.clock, operation)
            await out.send(piece.encode("utf-8", "replace"))
            operation.check()
    except BaseException:
        if out is not None:
            out.leave()
        if request.gone:
            raise OperationCancelledError("the client is gone") from None
        raise
    if out is None:
        request.begin(200, content_type)
        request.finish()
    else:
        out.end()
