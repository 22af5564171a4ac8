"""``/metrics``: figures of the node in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ampgrid.web.answers import Answer
from ampgrid.web.call import Call
from ampgrid.web.status import health

if TYPE_CHECKING:
    from ampgrid.web.gateway import Gateway


class NodeCollector(Collector):
    """Tells the figures of a node.

    Args:
        gateway: over the node.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        """Yield every figure as it is now."""
        yield from self._peers()
        yield from self._work()
        yield from self._storage()

    def _peers(self) -> Iterator[Metric]:
        core, fares = self._gateway.core, health(self._gateway)
        figures = {
            "storage_peers": ("Connected peers that keep shares.", fares["storage_peers"]),
            "storage_peers_needed": ("So many an upload needs.", fares["storage_peers_needed"]),
            "vdrive_peers": ("Connected peers that keep directories.", fares["vdrive_peers"]),
            "known_peers": ("Peers that the node has met.", len(core.book.peers())),
            "connections": ("Connections to peers.", len(core.table.connections())),
            "healthy": ("1 if files can be read and written.", int(fares["status"] == "ok")),
        }
        for name, (told, value) in figures.items():
            yield GaugeMetricFamily(f"ampgrid_{name}", told, value)

    def _work(self) -> Iterator[Metric]:
        jobs = self._gateway.jobs
        ended = CounterMetricFamily(
            "ampgrid_web_operations", "What has ended.", labels=["kind", "state"]
        )
        for (kind, state), count in sorted(jobs.counts.items()):
            ended.add_metric([kind, state], count)
        yield ended
        moved = CounterMetricFamily(
            "ampgrid_web_bytes", "Bytes of files that were moved.", labels=["direction"]
        )
        for direction in ("upload", "download"):
            moved.add_metric([direction], jobs.bytes.get(direction, 0))
        yield moved
        running = len(jobs.running())
        yield GaugeMetricFamily("ampgrid_web_running", "Operations under way.", running)
        spooled = self._gateway.spool.used
        yield GaugeMetricFamily("ampgrid_web_spooled_bytes", "Bodies on the disk.", spooled)

    def _storage(self) -> Iterator[Metric]:
        storage = self._gateway.core.storage
        if storage is None:
            return
        told = storage.status()
        figures = {
            "shares": "Shares that are kept for others.",
            "used": "Bytes that they take.",
            "available": "Bytes that there is room for.",
            "free": "Bytes that the disk has free.",
        }
        for name, meaning in figures.items():
            unit = "" if name == "shares" else "_bytes"
            yield GaugeMetricFamily(f"ampgrid_store_{name}{unit}", meaning, told[name])


def registry_of(gateway: Gateway) -> CollectorRegistry:
    """Return all figures of a gateway and its process."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(gateway))
    ProcessCollector(registry=registry)
    return registry


async def metrics(call: Call) -> Answer:
    """Tell the figures."""
    data = generate_latest(registry_of(call.gateway))
    return Answer(data, 200, CONTENT_TYPE_LATEST)
