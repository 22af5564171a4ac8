"""Time what a client and a replica compute for a directory, without any disk or network.

python tests/benchmarks/formats.py --entries 100000
"""

import argparse
import os
import random
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from ampgrid.caps import ChkCap, DirCap
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.formats import trie
from ampgrid.formats.ballot import Ballot
from ampgrid.formats.entry import Entry, open_entry, seal
from ampgrid.formats.record import Record, ReplicaId


def show(what, work, runs=1000):
    """Print the median and the slowest of many runs."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(1e6 * (time.perf_counter() - start))
    print(f"{what:<44} {statistics.median(times):10.1f} us   (most {max(times):.0f})")


def entries(keys):
    """Time entries, sealed and opened."""
    directory = DirCap.create()
    file = ChkCap(bytes(16), bytes(32), 3, 10, 1000).to_string()
    metadata = {"size": 1000, "created": 1.7e9 + 0.5, "changed": 1.7e9, "type": "image/jpeg"}
    read, index = keys.read, keys.fingerprint
    for what, entry, reader in (
        ("a file", Entry("holiday.jpeg", file), None),
        ("a file with metadata", Entry("holiday.jpeg", file, "", metadata), None),
        ("a directory", Entry("x", directory.get_readonly().to_string()), None),
        (
            "a directory with its write cap",
            Entry("x", directory.get_readonly().to_string(), directory.to_string()),
            keys,
        ),
    ):
        sealed, slot = seal(entry, read, keys, index), read.slot_of(entry.name)
        show(f"seal {what}", lambda entry=entry: seal(entry, read, keys, index))
        show(
            f"open {what}",
            lambda s=sealed, slot=slot, reader=reader: open_entry(s, slot, read, index, reader),
        )


def records(keys):
    """Time records, signed, read and checked."""
    replicas = tuple(ReplicaId(bytes([n]) * 20, bytes(16)) for n in range(4))
    record = Record.sign(keys, epoch=1, replicas=replicas, ballot=Ballot(1, 1, bytes(8)))
    for number in range(64):
        record = record.successor(
            keys,
            ballot=Ballot(1, number + 2, bytes(8)),
            root=b"r" * 32,
            count=1,
            operation=b"%08d" % number,
        )
    packed = record.pack()
    show("sign", lambda: keys.sign(b"directory record", packed))
    show(
        "make and sign the next record",
        lambda: record.successor(
            keys, ballot=Ballot(1, 99, bytes(8)), root=b"s" * 32, count=2, operation=b"o" * 8
        ),
    )
    show("read a record", lambda: Record.unpack(packed))
    show("check a record", lambda: record.check(keys.fingerprint))


def tries(number):
    """Time changes of a trie, look-ups and proofs."""
    wanted = {os.urandom(32): os.urandom(random.choice((160, 240, 280))) for _ in range(number)}
    slots = list(wanted)
    start = time.perf_counter()
    change = trie.apply(trie.EMPTY_ROOT, wanted, {}.get)
    print(f"{f'{number:,} entries at once':<44} {time.perf_counter() - start:10.2f} s")
    root, read = change.root, change.added.get
    for what, one in (
        ("put one in", lambda: {os.urandom(32): bytes(240)}),
        ("replace one", lambda: {random.choice(slots): bytes(240)}),
        ("take one out", lambda: {random.choice(slots): None}),
    ):
        show(what, lambda one=one: trie.apply(root, one(), read))
    proof = trie.path(root, slots[0], read)
    show("look one up", lambda: trie.find(root, random.choice(slots), read))
    show(f"check a proof of {len(proof)} nodes", lambda: trie.prove(root, slots[0], proof))
    for what, work in (
        ("list all", lambda: list(trie.entries(root, read))),
        ("compare with the empty trie", lambda: trie.diff(trie.EMPTY_ROOT, root, {}.get, read)),
        ("take all out", lambda: trie.apply(root, dict.fromkeys(slots), read)),
    ):
        start = time.perf_counter()
        work()
        print(f"{what:<44} {time.perf_counter() - start:10.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000)
    arguments = parser.parse_args()
    keys = WriteKeys(os.urandom(16))
    entries(keys)
    records(keys)
    tries(arguments.entries)


if __name__ == "__main__":
    main()
