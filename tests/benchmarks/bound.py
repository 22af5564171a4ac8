"""What an upload and a download could do at most, computed from what the parts take.

For one million bytes of a file at k-of-n, on loopback, client and storage nodes on one machine:

    bound = cores / (sum over all pieces of  times a MB * CPU seconds a MB)

in MB/s: every core busy all the time, and nothing done beside these pieces. Each share has 1/k of
the file, so all shares together have n/k.

Upload, the client: the file read twice; SHA-256 over it once for the convergent key, and in the
second pass once more for the check that it did not change, once over each segment enciphered and
once over all of it enciphered; AES once; coding once; SHA-256 over the blocks (n/k); TLS sent
(n/k). The nodes: TLS received (n/k); shares stored, durable (n/k).

Download, the nodes: shares read; TLS sent. The client: TLS received; SHA-256 over the blocks and
over the segments; decoding, at its dearest; AES; the file written, durable. k shares are
read, so everything is once.

Not all can be spread over cores. The bound with serial parts is that of a schedule in which

* what must be over before anything else begins takes its whole time: the pass for the key; and
* beside it, the rest takes at least its part of the cores, and at least the time of the longest
  *lane*: pieces that one thread of one process does one after the other. The client's TLS is one
  (its reactor's thread); the hash over all that is enciphered, with the check, is another.

What waits for the disk is in neither: it is counted as the processor time of storing alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from tests.benchmarks.amounts import Amount
from tests.benchmarks.kernels import code_name

#: The lane of what must be over before all else begins.
FIRST = "first"


@attrs.frozen
class Piece:
    """One kind of work that a transfer consists of.

    Attributes:
        name: what.
        where: who does it: ``client`` or ``nodes``.
        times: how much of it a MB of the file, MB.
        cpu: processor seconds for a MB of it.
        lane: pieces of one lane are done by one thread; `FIRST` before all else; empty for what
            any thread may do.
    """

    name: str
    where: str
    times: float
    cpu: float
    lane: str = ""

    @property
    def seconds(self) -> float:
        """Processor seconds a MB of the file."""
        return self.times * self.cpu


@attrs.frozen
class Bound:
    """The bound of one kind of transfer.

    Attributes:
        pieces: what it consists of.
        cores: how many there are.
    """

    pieces: Sequence[Piece]
    cores: int

    @property
    def cpu(self) -> float:
        """Processor seconds a MB of the file, of all together."""
        return sum(piece.seconds for piece in self.pieces)

    @property
    def rate(self) -> float:
        """The bound, MB/s: all cores always busy."""
        return self.cores / self.cpu

    @property
    def serial_rate(self) -> float:
        """The bound with serial parts, MB/s; never above `rate`."""
        lanes: Counter[str] = Counter()
        for piece in self.pieces:
            if piece.lane:
                lanes[piece.lane] += piece.seconds  # type: ignore[assignment]
        first = lanes.pop(FIRST, 0)
        rest = self.cpu - first
        return 1 / (first + max(rest / self.cores, *lanes.values(), 0.0))

    def to_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "rate": self.rate,
            "serial_rate": self.serial_rate,
            "cpu": self.cpu,
            "cores": self.cores,
            "pieces": [{**attrs.asdict(piece), "seconds": piece.seconds} for piece in self.pieces],
        }


def _coding(parts: Mapping[str, Amount], what: str, needed: int, total: int) -> float:
    """Return the cost of coding with the best engine that is here."""
    names = (code_name(what, engine, needed, total) for engine in ("isal", "zfec"))
    return next(parts[name].cpu for name in names if name in parts)


def upload(parts: Mapping[str, Amount], needed: int, total: int, cores: int) -> Bound:
    """Return the bound of uploads at k-of-n.

    Args:
        parts: by the names of `tests.benchmarks.kernels`, ``streams`` and ``disks``.
        needed: k.
        total: n.
        cores: how many there are.
    """
    all_shares = total / needed
    sha, tls = parts["SHA-256"].cpu, parts["tls stream"]
    read, gmac = parts["file read, cached"].cpu, parts["AES-128-GMAC"].cpu
    pieces = (
        Piece("read for the key", "client", 1, read, FIRST),
        Piece("SHA-256 for the key", "client", 1, sha, FIRST),
        Piece("GMAC, first reading", "client", 1, gmac, FIRST),
        Piece("read again", "client", 1, read),
        Piece("GMAC, second reading", "client", 1, gmac, "hashes in order"),
        Piece("SHA-256, whole", "client", 1, sha, "hashes in order"),
        Piece("SHA-256, segments", "client", 1, sha),
        Piece("AES-128-CTR", "client", 1, parts["AES-128-CTR"].cpu),
        Piece("encode", "client", 1, _coding(parts, "encode", needed, total)),
        Piece("SHA-256, blocks", "client", all_shares, sha),
        Piece("TLS sent", "client", all_shares, tls.here, "reactor"),
        Piece("TLS received", "nodes", all_shares, tls.there),
        Piece("stored", "nodes", all_shares, parts["shares stored, 33 MB"].cpu),
    )
    return Bound(pieces, cores)


def download(parts: Mapping[str, Amount], needed: int, total: int, cores: int) -> Bound:
    """Return the bound of downloads at k-of-n; see `upload`."""
    sha, tls = parts["SHA-256"].cpu, parts["tls stream"]
    pieces = (
        Piece("read", "nodes", 1, parts["file read, cached"].cpu),
        Piece("TLS sent", "nodes", 1, tls.here),
        Piece("TLS received", "client", 1, tls.there, "reactor"),
        Piece("SHA-256, segments", "client", 1, sha),
        Piece("decode", "client", 1, _coding(parts, "decode", needed, total)),
        Piece("AES-128-CTR", "client", 1, parts["AES-128-CTR"].cpu),
        Piece("written", "client", 1, parts["file written, durable"].cpu),
    )
    return Bound(pieces, cores)
