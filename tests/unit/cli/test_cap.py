"""ampgrid cap: the published caps, and what it refuses."""

from __future__ import annotations

from ampgrid.caps import ChkCap, parse_cap
from ampgrid.crypto.base32 import b2a
from ampgrid.formats.segments import MAX_SEGMENT_SIZE
from ampgrid.peers.parameters import ADVICE_KEY, GridParameters
from ampgrid.store.peerdb import PeerDatabase
from tests.unit.cli.command_line import CommandLineCase
from tests.vectors.tahoe import chk_cases, sample


class CapTests(CommandLineCase):
    def test_the_published_cases(self) -> None:
        """All 60 of them."""
        cases = chk_cases()
        self.assertEqual(len(cases), 60)
        for case in cases:
            (self.root / "data").write_bytes(sample(case))
            (self.root / "secret").write_text(b2a(case["secret"]) + "\n")
            outcome = self.done(
                *["cap", self.root / "data", "--needed", case["needed"], "--total", case["total"]],
                *["--max-segment-size", case["max_segment_size"]],
                *["--convergence-file", self.root / "secret"],
            )
            self.assertEqual(outcome.out, case["cap"] + "\n")

    def test_the_secret_of_the_node_directory_is_the_default(self) -> None:
        self.done("create-node", self.root / "n")
        (self.root / "f").write_bytes(bytes(100))
        words = ["cap", self.root / "f", "--needed", "2", "--total", "3"]
        own = self.done("-d", self.root / "n", *words)
        secret = self.root / "n" / "private" / "convergence"
        named = self.done(*words, "--convergence-file", secret, "--json").json()
        self.assertEqual(named, {"cap": own.out.strip(), "size": 100})
        cap = parse_cap(named["cap"])
        self.assertEqual((cap.get_size(), cap.is_readonly()), (100, True))

    def shares(self, node: str, *words: object) -> tuple[int, int]:
        """k and n of the cap that a node directory gives a file."""
        (self.root / "f").write_bytes(bytes(100))
        told = self.done("-d", self.root / node, "cap", self.root / "f", *words)
        cap = parse_cap(told.out)
        assert isinstance(cap, ChkCap)
        return cap.needed, cap.total

    def test_the_shares_of_the_node_directory_are_the_default(self) -> None:
        self.done("create-node", self.root / "own", "--shares", "2/3/4")
        self.assertEqual(self.shares("own"), (2, 4))
        self.assertEqual(self.shares("own", "--needed", 1), (1, 4))
        self.assertEqual(self.shares("own", "--needed", 1, "--total", 1), (1, 1))
        self.done("create-node", self.root / "advised")
        self.assertEqual(self.shares("advised"), (3, 10))
        database = PeerDatabase(self.root / "advised" / "peers.sqlite")
        database.set_meta(ADVICE_KEY, GridParameters(5, 6, 7).pack())
        database.close()
        self.assertEqual(self.shares("advised"), (5, 7))

    def test_the_standard_input_cannot_be_read_twice(self) -> None:
        self.done("create-node", self.root / "n")
        told = self.refused(2, "-d", self.root / "n", "cap", "-", stdin=b"x")
        self.assertIn("name an ordinary file", told)

    def test_a_small_file_is_in_its_cap(self) -> None:
        (self.root / "secret").write_text(b2a(bytes(32)))
        for size in (0, 1, 55):
            (self.root / "f").write_bytes(b"x" * size)
            words = ["cap", self.root / "f", "--convergence-file", self.root / "secret"]
            self.assertEqual(self.done(*words).out, f"URI:LIT:{b2a(b'x' * size)}\n")

    def test_refused(self) -> None:
        (self.root / "f").write_bytes(bytes(100))
        (self.root / "secret").write_text(b2a(bytes(32)))
        given = ["--convergence-file", self.root / "secret"]
        for words in [
            ["--needed", "0"],
            ["--needed", "11"],
            ["--total", "257"],
            ["--total", "x"],
            ["--max-segment-size", "0"],
            ["--max-segment-size", "3G"],
        ]:
            self.refused(2, "cap", self.root / "f", *given, *words)
        most = ["--max-segment-size", MAX_SEGMENT_SIZE]
        self.done("cap", self.root / "f", *given, *most)
        told = self.refused(2, "cap", self.root / "f", *given, most[0], MAX_SEGMENT_SIZE + 1)
        self.assertIn(str(MAX_SEGMENT_SIZE), told)
        self.assertIn("at most 16MiB", " ".join(self.done("cap", "--help").out.split()))
        self.refused(8, "cap", self.root / "missing", *given)
        self.refused(8, "cap", self.root, *given)
        self.refused(8, "cap", "/dev/null", *given)
        self.refused(8, "cap", self.root / "f", "--convergence-file", self.root / "missing")
        for content in ["", "\n", "A" * 52, "a" * 51, "!", "a" * 5000]:
            (self.root / "secret").write_text(content)
            self.refused(3, "cap", self.root / "f", *given)
        self.refused(3, "cap", self.root / "f")
