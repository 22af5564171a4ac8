"""check, kept and keeper: what is shown of a report, how the command ends, what is refused."""

from __future__ import annotations

import json
from typing import Any

from ampgrid.cli import exits
from ampgrid.cli.check import end_of, lines_of, read_report
from ampgrid.cli.kept import end_of_run, line_of, run_lines
from ampgrid.crypto.base32 import b2a
from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import FormatError
from ampgrid.immutable import BadShare, CheckReport, Operation, RepairReport
from ampgrid.immutable.judging import judged
from ampgrid.immutable.renewal import Lateness
from ampgrid.immutable.walkreport import Run
from ampgrid.node.reports import report_text
from ampgrid.testing.clock import HeapClock
from tests.unit.cli.command_line import CommandLineCase

ONE, TWO = b"1" * 20, b"2" * 20
CHK = f"URI:CHK:{'a' * 26}:{'a' * 52}:3:10:1000"


def told(report: CheckReport | RepairReport, wanted: int = 2) -> dict[str, Any]:
    """A report as the command gets it."""
    return read_report(report_text(judged(report.to_json(), wanted)))


class CheckTests(CommandLineCase):
    def report(self, count: int, *bad: BadShare, **more: Any) -> CheckReport:
        good = {n: (ONE, TWO) if n == 0 else (TWO,) for n in range(count)}
        facts = {"servers_asked": 5, "servers_answered": 4} | more
        return CheckReport(b"i" * 16, 2, 3, good, bad=bad, **facts)

    def test_healthy(self) -> None:
        report = told(self.report(3))
        self.assertIs(end_of(report), exits.DONE)
        self.assertEqual(
            lines_of(report, {node_id_text(ONE): "al\nice", node_id_text(TWO): ""}),
            [
                "Healthy: 3 of 3 shares found; 2 give the file back.",
                f"Storage index: {b2a(b'i' * 16)}",
                "Servers of happiness: 2 of 2; 4 of 5 answered.",
                "The hashes are in order; the blocks were not read (--verify reads them).",
                f"  share 0: {node_id_text(ONE)} (al ice) {node_id_text(TWO)}",
                f"  share 1: {node_id_text(TWO)}",
                f"  share 2: {node_id_text(TWO)}",
            ],
        )

    def test_all_there_on_too_few_servers(self) -> None:
        report = told(self.report(3), wanted=3)
        self.assertIs(end_of(report), exits.UNHEALTHY)
        lines = lines_of(report)
        self.assertTrue(lines[0].startswith("Unhealthy: 3 of 3 shares found"))
        only = "All shares are there, but on 2 servers only"
        self.assertEqual(lines[3], f"{only}; the loss of one can lose the file.")
        # Here either of the two has enough.
        good = dict.fromkeys(range(3), (ONE, TWO))
        told_of = told(CheckReport(b"i" * 16, 2, 3, good, verified=True), wanted=3)
        self.assertEqual(lines_of(told_of)[3], f"{only}.")

    def test_what_was_not_read_is_said(self) -> None:
        bad = BadShare(2, ONE, "rotten")
        lines = lines_of(told(self.report(2, bad)))
        self.assertIn("The blocks were not read (--verify reads them).", lines)
        for report in (self.report(3, verified=True), self.report(0)):
            self.assertFalse(any("--verify" in line for line in lines_of(told(report))))
        repair = RepairReport(self.report(2, verified=True), self.report(3))
        lines = lines_of(told(repair))
        self.assertFalse(any("--verify" in line for line in lines))
        self.assertIn(
            "Every byte was read before the repair; what it wrote was not read again.", lines
        )

    def test_problems_name_servers_as_shares_do(self) -> None:
        one, two = node_id_text(ONE), node_id_text(TWO)
        problems = (
            f"server {one[:8]}: gone",
            f"share 3 on server {two[:8]}: no",
            "server abcdefgh: who?",
        )
        lines = lines_of(told(self.report(1, problems=problems)), {one: "alice", two: ""})
        self.assertEqual(
            lines[-3:],
            [
                f"  problem: server {one} (alice): gone",
                f"  problem: share 3 on server {two}: no",
                "  problem: server abcdefgh: who?",
            ],
        )
        self.assertEqual(lines_of(told(self.report(1, problems=problems)))[-3][11:], problems[0])

    def test_bad_shares_are_named_with_servers_and_reasons(self) -> None:
        bad = BadShare(2, ONE, "it is\nrotten\x1b[2J")
        report = told(self.report(2, bad, verified=True, problems=("server x: gone",)))
        self.assertIs(end_of(report), exits.UNHEALTHY)
        lines = lines_of(report)
        self.assertEqual(
            lines[0], "Unhealthy: 2 of 3 shares good, every byte read; 2 give the file back."
        )
        self.assertIn(f"  bad share 2 on {node_id_text(ONE)}: it is rotten [2J", lines)
        self.assertEqual(lines[-1], "  problem: server x: gone")

    def test_too_few(self) -> None:
        report = told(self.report(1))
        self.assertIs(end_of(report), exits.LOST)
        self.assertTrue(lines_of(report)[0].startswith("Not recoverable from what was found: 1"))

    def test_a_repair(self) -> None:
        repair = RepairReport(self.report(2), self.report(3), ((2, TWO),), ("server y: full",))
        report = told(repair)
        self.assertIs(end_of(report), exits.DONE)
        self.assertEqual(
            lines_of(report)[-2:],
            [f"  wrote share 2 to {node_id_text(TWO)}", "  problem: server y: full"],
        )

    def test_a_repair_names_what_was_bad(self) -> None:
        gone, left = BadShare(2, ONE, "rotten"), BadShare(2, TWO, "short")
        before, after = self.report(2, gone, left), self.report(3, left)
        lines = lines_of(told(RepairReport(before, after, ((2, ONE),))))
        self.assertEqual(
            lines[-3:],
            [
                f"  bad share 2 on {node_id_text(TWO)}: short",
                f"  was bad share 2 on {node_id_text(ONE)}: rotten",
                f"  wrote share 2 to {node_id_text(ONE)}",
            ],
        )

    def test_what_is_left_out_is_counted(self) -> None:
        report = told(self.report(3, problems=("p",) * 5_000))
        self.assertTrue(report["left_out"])
        self.assertEqual(lines_of(report)[-1], f"  and {report['left_out']} lines more")

    def test_a_file_within_its_cap(self) -> None:
        report = told(CheckReport(b"", 0, 0, {}), wanted=0)
        self.assertIs(end_of(report), exits.DONE)
        self.assertEqual(lines_of(report), ["Healthy: the cap holds the whole file."])

    def test_no_report(self) -> None:
        for text in ["", "[]", "{"]:
            self.assertRaises(FormatError, read_report, text)

    def test_refusals(self) -> None:
        for words in (("check",), ("kept", "drop")):
            for cap in ("nothing", CHK[:-9], "URI:DIR:x"):
                self.assertNotIn(cap, self.refused(9, *words, cap))
            self.refused(9, *words, "-", stdin=b"nothing\n")
            for nothing in (b"", b"\xff\x00"):
                self.refused(9, *words, "-", stdin=nothing)
            self.refused(3, *words, CHK)
        self.refused(3, "kept", "list")
        self.refused(3, "keeper", "run")
        error = json.loads(self.refused(3, "keeper", "run", "--json"))["error"]
        self.assertEqual(error["name"], "node_directory")


class KeptTests(CommandLineCase):
    def test_an_introducer_keeps_none(self) -> None:
        self.done("create-introducer", self.root / "i")
        for words in (["kept", "list"], ["kept", "drop", CHK], ["keeper", "run"]):
            told = self.refused(2, "-d", self.root / "i", *words)
            self.assertIn("An introducer keeps no files", told)

    def test_a_line_of_the_list(self) -> None:
        file = {
            "cap": "URI:CHK-Verifier:x",
            "size": 1_500_000,
            "shares": "3/7/10",
            "next_at": 0.0,
            "checked_at": None,
            "shares_good": 0,
            "problem": "",
        }
        line = line_of(file)
        self.assertIn("URI:CHK-Verifier:x, 1.5 MB, shares 3/7/10, checked never, next 19", line)
        looked = line_of(file | {"checked_at": 1.0, "shares_good": 9, "problem": "a\nb"})
        self.assertIn(", 9 found, ", looked)
        self.assertTrue(looked.endswith(", a b"))


class KeeperTests(CommandLineCase):
    def run_of(self, **counts: Any) -> dict[str, Any]:
        lateness = Lateness(HeapClock())
        run = Run(Operation(), 1.0, lateness, everything=False, dry=counts.pop("dry", False))
        run.complete = counts.pop("complete", True)
        run.counts.update(counts)
        return read_report(report_text(run.to_json(2.0)))

    def test_all_well(self) -> None:
        report = self.run_of(walked=7, renewed=6, verified=2)
        self.assertIs(end_of_run(report), exits.DONE)
        self.assertEqual(
            run_lines(report),
            [
                "7 files looked at, 2 read whole.",
                "Leases of 6 renewed, 0 repaired.",
            ],
        )

    def test_repaired_and_waiting_is_well(self) -> None:
        report = self.run_of(walked=7, repaired=1, shares_written=3, waiting=1)
        self.assertIs(end_of_run(report), exits.DONE)
        lines = run_lines(report)
        self.assertEqual(lines[1], "Leases of 0 renewed, 1 repaired with 3 shares.")
        self.assertTrue(lines[2].startswith("1 wait for a second look"))

    def test_what_could_not_be_judged_is_not_well(self) -> None:
        report = self.run_of(walked=7, skipped=1)
        self.assertIs(end_of_run(report), exits.UNHEALTHY)
        self.assertTrue(run_lines(report)[2].startswith("1 could not be judged"))

    def test_slow_servers_are_named(self) -> None:
        report = self.run_of(walked=7) | {"slow_servers": ["abcd"]}
        self.assertIn("Server abcd kept the walk waiting", run_lines(report)[-1])

    def test_a_dry_run_says_so(self) -> None:
        lines = run_lines(self.run_of(walked=7, renewed=7, repaired=1, dry=True))
        self.assertEqual(lines[1], "Leases of 7 would be renewed, 1 would be repaired.")

    def test_failures(self) -> None:
        report = self.run_of(walked=7, failed=2)
        self.assertIs(end_of_run(report), exits.UNHEALTHY)
        self.assertIn("2 failed.", run_lines(report))
        self.assertIs(end_of_run(self.run_of(failed=2, lost=1)), exits.LOST)
        report = self.run_of(complete=False)
        self.assertIs(end_of_run(report), exits.UNHEALTHY)
        self.assertIn("No storage peer is connected", run_lines(report)[-1])
