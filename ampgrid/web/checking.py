"""``t=check`` of one thing, and walks over all that a directory leads to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ampgrid.caps import ChkVerifierCap, DirVerifierCap
from ampgrid.errors import AmpgridError
from ampgrid.immutable import Operation
from ampgrid.node.deep import walk_for
from ampgrid.node.faults import without_text
from ampgrid.vdrive.deep import Finding, Wishes
from ampgrid.vdrive.dirnode import DirectoryNode
from ampgrid.vdrive.ports import Table
from ampgrid.vdrive.walking import Visit, walk
from ampgrid.web.answers import HTML, TEXT, Answer, as_json, page, redirect
from ampgrid.web.call import Call
from ampgrid.web.found import found, found_directory, may_only_verify
from ampgrid.web.pages import title_of
from ampgrid.web.places import place_of, url_of
from ampgrid.web.redirects import when_done
from ampgrid.web.streaming import stream

_log = Logger()

#: Findings that are not well and are told of in the result of a deep check, at most.
MOST_FINDINGS = 1_000
#: Content type of JSON, one value a line.
LINES = "application/x-ndjson"
#: Characters of a streamed answer that are sent at once.
_PIECE = 16 * 1024


def wishes_of(call: Call) -> Wishes:
    """Return what ``verify=``, ``repair=`` and ``add-lease=`` wish.

    Raises:
        BadArgumentValueError: something would be written by a node that writes nothing.
    """
    wishes = Wishes(
        verify=call.flag("verify", default=False),
        repair=call.flag("repair", default=False),
        renew=call.flag("add-lease", default=False),
    )
    if wishes.repair or wishes.renew:
        call.gateway.core.require_uploads()
    return wishes


async def check(call: Call) -> Answer:
    """POST t=check: check a file or a directory, and repair it if that is wished."""
    wishes = wishes_of(call)
    target = when_done(call)
    place = place_of(call.target.names)
    here = None if may_only_verify(place) else await found(call)
    with call.under_way("check") as job:
        call.request.cancels(job.operation)
        examiner = call.gateway.core.examiner
        if here is None:
            told = await _checked(call, place.root, wishes, job.operation)
        else:
            finding = await examiner.look(Visit((), here.node), wishes, job.operation)
            told = finding.to_json()
        job.result = _brief(told)
    if target is not None:
        return redirect(target)
    if call.wants() != "html":
        return as_json(told)
    url = url_of(place, directory=told["type"] == "directory")
    facts = {"title": title_of(place), "url": url, "finding": told}
    return page(call.gateway.pages.made("check.html", call, **facts))


async def _checked(
    call: Call, cap: object, wishes: Wishes, operation: Operation
) -> dict[str, Any]:
    """Check what a cap gives that may do no more."""
    core = call.gateway.core
    if isinstance(cap, ChkVerifierCap):
        told = await core.examiner.check_file(cap, wishes, operation)
        if wishes.renew and (trouble := await core.examiner.renew_file(cap)):
            told["problems"] = (*told["problems"], trouble)
        size: int | None = cap.size
    else:
        assert isinstance(cap, DirVerifierCap)
        await core.settle_directories(operation.check)
        told, size = await _checked_directory(core.drive.maker.table(cap), wishes), None
    kind = "directory" if size is None else "file"
    verify = cap.to_string()
    return Finding((), kind, verify, size, renewed=wishes.renew, **told).to_json()


async def _checked_directory(table: Table, wishes: Wishes) -> dict[str, Any]:
    report = await table.check()
    repaired = False
    if wishes.repair and not report.healthy:
        report = await table.repair()
        repaired = bool(report.repaired)
    if wishes.renew:
        await table.renew()
    return {
        "healthy": report.healthy,
        "recoverable": None,
        "repaired": repaired,
        "problems": tuple(report.problems),
        "report": report.to_json(),
    }


# Walks that go on by themselves.


async def start_check(call: Call) -> Answer:
    """POST t=start-deep-check: begin to check all that a directory leads to."""
    return await _start(call, "deep-check", "check", wishes_of(call))


async def start_size(call: Call) -> Answer:
    """POST t=start-deep-stats: begin to count all that a directory leads to."""
    return await _start(call, "deep-stats", "size", Wishes())


async def _start(call: Call, kind: str, what: str, wishes: Wishes) -> Answer:
    """Begin a walk, and lead to where its progress is told."""
    target = when_done(call)
    directory = await found_directory(call)
    jobs, examiner = call.gateway.jobs, call.gateway.core.examiner
    handle, begun = call.arg("ophandle") or jobs.new_handle(), call.request.take_begun()

    async def run() -> None:
        with jobs.under_way(kind, handle, begun=begun) as job:
            results, summary = walk_for(examiner, directory, what, wishes, job.operation)
            unwell: list[dict[str, Any]] = []
            job.result = {"summary": summary.to_json(), "unwell": unwell, "left_out": 0}
            async with aclosing(results) as ones:  # type: ignore[type-var]
                async for one in ones:
                    job.result["summary"] = summary.to_json()
                    if _is_unwell(one) and len(unwell) < MOST_FINDINGS:
                        unwell.append(_brief(one))
                    else:
                        job.result["left_out"] += _is_unwell(one)
            job.result["summary"] = summary.to_json()

    walking = Deferred.fromCoroutine(run())
    if walking.called and isinstance(walking.result, Failure):
        # It did not begin: the handle is in use, or too much is under way.
        await walking
    walking.addErrback(_ended)
    url = f"/operations/{handle}"
    if call.arg("output"):
        url += f"?output={call.wants()}"
    return redirect(target or url)


def _is_unwell(result: dict[str, Any]) -> bool:
    return result.get("healthy") is False or bool(result.get("problems"))


def _brief(result: dict[str, Any]) -> dict[str, Any]:
    """Return a finding without its report, for it is kept for a day."""
    return {name: value for name, value in result.items() if name != "report"}


def _ended(failure: Failure) -> None:
    # An error of ours is told under the handle.
    if not failure.check(AmpgridError):
        _log.failure("a walk for the web gateway failed", without_text(failure))


# Walks that are told of while they go on.


async def stream_manifest(call: Call) -> Answer | None:
    """POST t=stream-manifest: tell all that a directory leads to, one line of JSON each."""
    await _stream(call, "manifest", Wishes())
    return None


async def stream_check(call: Call) -> Answer | None:
    """POST t=stream-deep-check: check all that a directory leads to, one line of JSON each."""
    await _stream(call, "check", wishes_of(call))
    return None


async def _stream(call: Call, what: str, wishes: Wishes) -> None:
    directory = await found_directory(call)
    with call.under_way(f"stream-{what}") as job:
        lines = _lines(call, directory, what, wishes, job.operation)
        await stream(call, LINES, lines, job.operation)


async def _lines(
    call: Call, directory: DirectoryNode, what: str, wishes: Wishes, operation: Operation
) -> AsyncIterator[str]:
    """Yield the findings of a walk, in pieces of some lines; the last tells the sums."""
    examiner = call.gateway.core.examiner
    results, summary = walk_for(examiner, directory, what, wishes, operation)
    piece = ""
    async with aclosing(results) as ones:  # type: ignore[type-var]
        async for one in ones:
            piece += json.dumps(one) + "\n"
            if len(piece) >= _PIECE:
                yield piece
                piece = ""
    yield piece + json.dumps({"type": "stats", **summary.to_json()}) + "\n"


async def manifest(call: Call) -> Answer | None:
    """GET t=manifest: a page with all that a directory leads to; also as text or JSON."""
    wanted = call.wants() if call.arg("output") else "html"
    if wanted == "json":
        return await stream_manifest(call)
    here = await found(call)
    directory = await found_directory(call)
    with call.under_way("manifest") as job:
        visits = walk(directory, job.operation)
        if wanted == "text":
            await stream(call, TEXT, _manifest_text(visits), job.operation)
        else:
            pieces = _manifest_page(call, title_of(here.place), visits)
            await stream(call, HTML, pieces, job.operation)
    return None


async def _manifest_text(visits: AsyncIterator[Visit]) -> AsyncIterator[str]:
    piece = ""
    async for visit in visits:
        piece += f"{visit.node.get_uri()} {'/'.join(visit.path)}\n"
        if len(piece) >= _PIECE:
            yield piece
            piece = ""
    yield piece


async def _manifest_page(
    call: Call, title: str, visits: AsyncIterator[Visit]
) -> AsyncIterator[str]:
    """Yield the page in pieces: the template is cut where the rows stand."""
    pages = call.gateway.pages
    head, foot = pages.made("manifest.html", call, title=title).split("<!-- rows -->")
    piece = head
    async for visit in visits:
        piece += pages.manifest_row("/".join(visit.path) or ".", visit.node.get_uri())
        if len(piece) >= _PIECE:
            yield piece
            piece = ""
    yield piece + foot
