"""One share in a hundred rots on the disks of ten nodes, is found, and is made again.

    python tests/campaigns/damage.py --count 400 --seed 1

Uploads ``count`` files of many sizes, 3-of-10 on ten nodes in memory (their stores are real and
on the disk), damages one share in a hundred, in any of its regions or its length, behind the
stores' backs, runs one cycle of the scrub on every node, and repairs what the scrub left. Fails
unless the scrub finds exactly what was damaged, every file is at ten good shares afterwards,
byte for byte those of before, and no good share was written or set aside.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from ampgrid.caps import parse_cap
from ampgrid.crypto.base32 import b2a
from ampgrid.formats.share import parse_header
from ampgrid.immutable import Operation
from ampgrid.testing.grid import MemoryGrid
from tests.material import some_bytes

NODES = 10
SHARES = (3, 10, 10)
SIZES = (300, 3_000, 30_000, 250_000, 400_000)


def stored(node):
    """Return {(storage index, number): bytes} of a node's store, read behind its back."""
    shares = {}
    rows = node.store.database.read(
        lambda sql: sql.execute("SELECT storage_index, number, data FROM shares").fetchall()
    )
    for index, number, data in rows:
        place = (bytes(index), number)
        shares[place] = path_of(node, *place).read_bytes() if data is None else bytes(data)
    return shares


def path_of(node, index, number):
    """Return where a node keeps a large share."""
    text = b2a(index)
    return node.folder / "storage" / "shares" / text[:2] / text / str(number)


def damage(node, index, number, share, rng):
    """Damage a stored share behind the store's back; returns how."""
    how = rng.choice(sorted(WAYS))
    bad = WAYS[how](share, parse_header(share, len(share)), rng)
    path = path_of(node, index, number)
    if path.exists():
        path.write_bytes(bad)
        return how
    node.store.database.call(
        lambda sql: (
            sql.execute(
                "UPDATE shares SET data = ? WHERE storage_index = ? AND number = ?",
                (bad, index, number),
            ).rowcount
        )
    )
    return how


def flip(share, rng, start, end):
    """Return a share with one byte between two places changed."""
    bad = bytearray(share)
    bad[rng.randrange(start, end)] ^= rng.randrange(1, 256)
    return bytes(bad)


#: Ways to damage a share, one for each region that anybody reads: (share, header, random) -> bad.
WAYS = {
    "version": lambda s, h, r: flip(s, r, 0, 4),
    "sizes in the header": lambda s, h, r: flip(s, r, 4, 12),
    "offset of the data": lambda s, h, r: flip(s, r, 12, 16),
    "offsets behind it": lambda s, h, r: flip(s, r, 20, 36),
    "blocks": lambda s, h, r: flip(s, r, h.offset_data, h.offset_data + h.data_size),
    "crypttext tree": lambda s, h, r: flip(s, r, h.offset_crypttext_tree, h.offset_block_hashes),
    "block hashes": lambda s, h, r: flip(s, r, h.offset_block_hashes, h.offset_share_hashes),
    "share hashes": lambda s, h, r: flip(s, r, h.offset_share_hashes, h.offset_ueb),
    "length of the UEB": lambda s, h, r: flip(s, r, h.offset_ueb, h.offset_ueb + 4),
    "UEB": lambda s, h, r: flip(s, r, h.offset_ueb + 4, len(s)),
    "cut": lambda s, h, r: s[: r.randrange(len(s))],
    "cut by a byte": lambda s, h, r: s[:-1],
    "longer": lambda s, h, r: s + r.randbytes(r.randrange(1, 5_000)),
}


def run(count, seed, tell=print):
    """Run the campaign; returns the number of violations."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        grid = MemoryGrid(Path(folder), NODES, SHARES, seed=seed, max_segment_size=100_000)
        grid.start()
        try:
            return _run(grid, count, rng, tell)
        finally:
            grid.stop()


def _run(grid, count, rng, tell):
    data = [some_bytes(rng.choice(SIZES), b"%d" % n) for n in range(count)]
    caps = [grid.upload(one) for one in data]
    before = {node.host: stored(node) for node in grid.nodes}
    places = [(node, place) for node in grid.nodes for place in before[node.host]]
    chosen = rng.sample(places, max(1, len(places) // 100))
    ways = Counter(
        damage(node, index, number, before[node.host][index, number], rng)
        for node, (index, number) in chosen
    )
    tell(f"{count} files, {len(places)} shares, {len(chosen)} of them damaged")
    tell(", ".join(f"{way}: {times}" for way, times in sorted(ways.items())))

    found = 0
    for node in grid.nodes:
        report = grid.run(node.core.storage.run_scrub(Operation()))
        found += report["bad"]
    tell(f"one cycle of the scrub found {found}")
    violations = abs(found - len(chosen))

    for node in grid.nodes:
        left = stored(node)
        bad = {place for owner, place in chosen if owner is node}
        if left != {p: s for p, s in before[node.host].items() if p not in bad}:
            violations += 1
            tell(f"VIOLATION: {node.host}: the scrub touched a good share, or left a bad one")

    written = 0
    for cap in caps:
        repaired = grid.run(grid.client.core.repairer.repair(parse_cap(cap).get_verify_cap()))
        written += len(repaired.written)
        if repaired.after.count_good != SHARES[2]:
            violations += 1
            tell(f"VIOLATION: only {repaired.after.count_good} good shares after the repair")
    tell(f"the repair wrote {written} shares")
    violations += written != len(chosen)

    together = {}
    for node in grid.nodes:
        together.update(stored(node))
    originals = {place: share for one in before.values() for place, share in one.items()}
    if together != originals:
        violations += 1
        tell("VIOLATION: the shares are not those of before")
    for one, cap in zip(data, caps, strict=True):
        if grid.download(cap) != one:
            violations += 1
            tell("VIOLATION: a file came back wrong")
    tell(f"{violations} violations")
    return violations


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=400, help="files")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.exit(1 if run(options.count, options.seed) else 0)
