"""Reads the vectors: what Tahoe-LAFS published, and what a Tahoe grid stored."""

import base64
import hashlib
import itertools
import json
import struct
from pathlib import Path

from ampgrid.crypto.base32 import a2b

DATA = Path(__file__).parent / "data"


def chk_cases():
    """Return the published cases; each with its ``data`` and its ``secret``."""
    cases = json.loads((DATA / "chk-caps.json").read_text())
    for case in cases:
        case["secret"] = base64.b64decode(case["convergence"])
    return cases


def sample(case):
    """Return the data of a published case."""
    seed, length = base64.b64decode(case["sample_seed"]), case["sample_length"]
    return (seed * (length // len(seed) + 1))[:length]


def stored_files():
    """Return the files of the Tahoe grid: cap, secret, plaintext and {number: share bytes}."""
    files = []
    for entry in json.loads((DATA / "tahoe-shares" / "caps.json").read_text()):
        blocks = (
            hashlib.sha256(f"{entry['seed']}{i}".encode()).digest() for i in itertools.count()
        )
        plaintext = b"".join(itertools.islice(blocks, entry["size"] // 32 + 1))[: entry["size"]]
        assert hashlib.sha256(plaintext).hexdigest() == entry["sha256"]
        index = entry["storage_index"]
        containers = (DATA / "tahoe-shares").glob(f"*/shares/{index[:2]}/{index}/*")
        files.append(
            {
                "cap": entry["cap"],
                "storage_index": a2b(index),
                "secret": a2b(entry["convergence_base32"]),
                "plaintext": plaintext,
                "shares": {int(path.name): _contained(path) for path in containers},
            }
        )
    return files


def _contained(path):
    """Return the share in a container: without its header and its lease records."""
    container = path.read_bytes()
    version, _, leases = struct.unpack(">LLL", container[:12])
    assert version == 2
    return container[12 : len(container) - 72 * leases]
