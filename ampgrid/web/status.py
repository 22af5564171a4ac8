"""``/status``, ``/health``: how the node fares, and what is under way."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ampgrid.errors import StoreError
from ampgrid.node.core import NodeCore
from ampgrid.web.answers import Answer, as_json, page
from ampgrid.web.call import Call
from ampgrid.web.errors import NotFoundError
from ampgrid.web.routing import Route, Target, chosen

if TYPE_CHECKING:
    from ampgrid.web.gateway import Gateway

#: Peers that are told of at once.
MOST_PEERS = 1_000


class StatusSection:
    """``/status`` tells all; ``/status/PART`` one part of it, in JSON.

    The parts are ``node`` (as `ampgrid status` tells it), ``peers``, ``transfers`` (uploads,
    downloads and checks, under way and ended) and ``health``.
    """

    def route(self, target: Target) -> Route:
        """Return what tells a part."""
        names = [name for name in target.names[1:] if name]
        if not names:
            return chosen({"GET": Route(_all)}, target.method)
        if len(names) > 1 or names[0] not in _PARTS:
            raise NotFoundError("there is no such page")
        return chosen({"GET": Route(_part)}, target.method)


async def _look_again(core: NodeCore) -> None:
    if core.storage is not None:
        # What a store that fails was at the last look will do.
        with suppress(StoreError):
            await core.storage.look_again()


async def _all(call: Call) -> Answer:
    await _look_again(call.gateway.core)
    told = {name: part(call.gateway) for name, part in _PARTS.items()}
    if call.t == "json" or call.wants() != "html":
        return as_json(told)
    return page(call.gateway.pages.made("status.html", call, **told))


async def _part(call: Call) -> Answer:
    name = call.target.names[1]
    if name == "node":
        await _look_again(call.gateway.core)
    return as_json(_PARTS[name](call.gateway))


def node(gateway: Gateway) -> dict[str, Any]:
    """Return what the node is and how it fares (``docs/reference/status.md``)."""
    return gateway.core.status()


def peers(gateway: Gateway) -> dict[str, Any]:
    """Return who is known and connected, and how much that is."""
    everyone = gateway.core.peers()
    return {"peers": everyone[:MOST_PEERS], "left_out": max(0, len(everyone) - MOST_PEERS)}


def transfers(gateway: Gateway) -> dict[str, Any]:
    """Return uploads, downloads and checks, under way and ended; without names and caps."""
    jobs = gateway.jobs
    return {
        "running": [_without_result(job.to_json()) for job in jobs.running()],
        "recent": [_without_result(job.to_json()) for job in jobs.recent()],
        "bytes": dict(jobs.bytes),
        "spooled": gateway.spool.used,
    }


def _without_result(told: dict[str, Any]) -> dict[str, Any]:
    # The results of checks hold paths and verify caps: they are under the handle.
    return {key: value for key, value in told.items() if key != "result"}


def health(gateway: Gateway) -> dict[str, Any]:
    """Return whether files, and directories, can be read and written with the peers of now."""
    core = gateway.core
    encoding = core.encoding()
    storage, vdrive = len(core.servers()), len(core.drive.replicas())
    reads, writes = storage >= encoding.needed, storage >= encoding.happy
    directories = core.drive.may_be_reached()
    return {
        "status": "ok" if reads and writes and directories else "degraded",
        "reads": reads,
        "writes": writes,
        "directories": directories,
        "storage_peers": storage,
        "storage_peers_needed": encoding.happy,
        "vdrive_peers": vdrive,
    }


async def tell_health(call: Call) -> Answer:
    """Answer 200 if files and directories can be read and written, else 503."""
    told = health(call.gateway)
    return as_json(told, 200 if told["status"] == "ok" else 503)


_PARTS = {"node": node, "peers": peers, "transfers": transfers, "health": health}
