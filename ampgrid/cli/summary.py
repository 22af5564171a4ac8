"""A node's status in the few lines that its operator wants to see."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ampgrid.cli import console
from ampgrid.node.reports import why_full
from ampgrid.node.sizes import format_count, format_directories, format_size

#: Peers that are listed before the rest is only counted.
_MOST_PEERS = 20
_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60


def summary(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name, line) of what matters in a status; all of it is in ``--all`` and ``--json``.

    Args:
        facts: the status, with its peers (``docs/reference/status.md``).
    """
    name = f"{facts['nickname']}, " if facts["nickname"] else ""
    up = duration(facts["running_seconds"])
    yield facts["kind"], f"{name}{facts['node_id']}, {facts['software']}, running for {up}"
    yield "address", ", ".join(facts["addresses"]) or "none: it only dials"
    yield "grid", _grid(facts)
    for introducer in facts["introducers"]:
        if not introducer["connected"]:
            why = introducer["last_error"] or "no connection yet"
            yield "introducer", f"{introducer['node_id']} is not connected: {why}"
    yield from _kept_for_others(facts)
    if "drive" in facts:
        yield from _drive(facts["drive"])
    if facts["kind"] == "node" and "keeper" in facts:
        yield "keeper", _keeper(facts["keeper"])
    if "recovery" in facts:
        yield "recovery", _recovery(facts["recovery"])
    for operation in facts["operations"]:
        done, total = format_size(operation["done"]), format_size(operation["total"])
        yield "operation", f"{operation['phase']}, {done} of {total}"
    peers = sorted(facts["peers"], key=lambda peer: peer["state"] != "connected")
    for peer in peers[:_MOST_PEERS]:
        yield "peer", peer_line(peer)
    if len(peers) > _MOST_PEERS:
        yield "peer", f"and {len(peers) - _MOST_PEERS} more; --all lists them"


def duration(seconds: float) -> str:
    """Return a time for a reader, in its largest unit: ``3 h``."""
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def when(moment: float | None) -> str:
    """Return a moment (seconds since 1970) for a reader."""
    if moment is None:
        return "never"
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M")


def _grid(facts: dict[str, Any]) -> str:
    up = sum(introducer["connected"] for introducer in facts["introducers"])
    peers = format_count(facts["storage_peers"], "storage peer")
    line = f"{peers} connected, files are spread {facts['shares']}"
    if facts["introducers"]:
        line += f", {up} of {format_count(len(facts['introducers']), 'introducer')} connected"
    return line + (", open to everybody" if facts["open_grid"] else "")


def _kept_for_others(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if facts.get("durability", "full") != "full":
        yield "durability", "none: a power cut takes shares and blobs that were just acknowledged"
    if "storage" in facts:
        yield from _storage(facts["storage"])
    if "vdrive" in facts:
        yield from _vdrive(facts["vdrive"])
    if "blobs" in facts:
        yield from _blobs(facts["blobs"])


def _storage(storage: dict[str, Any]) -> Iterator[tuple[str, str]]:
    line = f"{format_count(storage['shares'], 'share')}, {format_size(storage['used'])}"
    room = format_size(storage["available"])
    takes = f"takes {room} more" if storage["accepts"] else "takes nothing now"
    if why := why_full(storage):
        takes = f"takes nothing: {why}"
    yield "storage", f"{line}; {takes}"
    if storage["alarm"]:
        yield "ALARM", console.one_line(storage["alarm"])
    scrub, expiry = storage["scrub"], storage["expiry"]
    last = when(scrub["last_full_cycle"])
    bad = format_count(scrub["bad_ever"], "bad share")
    line = f"last whole round {last}, {bad} found so far"
    if scrub["recent_bad"]:
        # By the scrub, or when a peer called it bad.
        line += f"; latest bad share {when(scrub['recent_bad'][0]['found_at'])}"
    yield "scrub", line
    if expiry["enabled"]:
        freed = format_size(expiry["freed_bytes"])
        yield "expiry", f"{format_count(expiry['marked'], 'file')} marked, {freed} freed so far"


def _vdrive(vdrive: dict[str, Any]) -> Iterator[tuple[str, str]]:
    line = f"{format_directories(vdrive['directories'])}, {format_size(vdrive['used'])}"
    yield "vdrive", line if vdrive["accepts"] else f"{line}; takes no change now"
    if vdrive["alarm"]:
        yield "ALARM", console.one_line(vdrive["alarm"])


def _blobs(blobs: dict[str, Any]) -> Iterator[tuple[str, str]]:
    line = f"{format_count(blobs['blobs'], 'blob')}, {format_size(blobs['used'])}"
    line += f", {format_count(blobs['users'], 'user')} with a token"
    yield "blobs", line if blobs["accepts"] else f"{line}; takes none now"
    if blobs["alarm"]:
        yield "ALARM", console.one_line(blobs["alarm"])


def _drive(drive: dict[str, Any]) -> Iterator[tuple[str, str]]:
    roots = [name for name in ("private", "public") if drive[f"{name}_root"]]
    line = f"{format_count(drive['vdrive_peers'], 'peer')} for directories connected"
    line += f", roots: {' and '.join(roots)}" if roots else ", no root yet"
    if drive["aliases"]:
        line += f", {format_count(drive['aliases'], 'alias', 'aliases')}"
    yield "drive", line
    if walk := drive["keeper"]["last_walk"]:
        told = f"last walk {when(walk['ended_at'])}: {format_directories(walk['directories'])}"
        for key, words in (("unreadable", "unreadable"), ("failed", "in trouble")):
            told += f", {walk[key]} {words}" if walk[key] else ""
        yield "drive", told
    if drive["problem"]:
        yield "drive", console.one_line(drive["problem"])


def _keeper(keeper: dict[str, Any]) -> str:
    line = f"{format_count(keeper['kept'], 'file')} kept"
    if keeper["failing"]:
        line += f", {keeper['failing']} of them in trouble: see 'ampgrid kept list'"
    return line + (f", wakes next {when(keeper['next_run'])}" if keeper["next_run"] else "")


def _recovery(recovery: dict[str, Any]) -> str:
    if recovery["reminder"]:
        return str(recovery["reminder"])
    since = recovery["kept_added_since"] or 0
    return f"exported {when(recovery['exported_at'])}, {format_count(since, 'file')} put since"


def peer_line(peer: dict[str, Any]) -> str:
    """Return one peer as a line: who, how it stands, where, and why not."""
    name = f"{peer['nickname']} " if peer["nickname"] else ""
    words = [f"{name}{peer['node_id']}: {peer['state']}"]
    if peer["since"] is not None:
        words[0] += f" since {when(peer['since'])}"
    words += peer["services"]
    words += peer["addresses"] if peer["state"] == "connected" else []
    words += [peer["last_error"]] if peer["last_error"] else []
    return console.one_line(", ".join(words))
