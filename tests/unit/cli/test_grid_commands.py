"""The commands on directories, as far as they go without a node: what is read, shown, refused."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.cli import check_directory, console, deep_check, exits, recovering
from ampgrid.cli.changing import removal_lines
from ampgrid.cli.copying import line_of, name_in_grid
from ampgrid.cli.deep import Tree, Trouble, size_ending, size_lines
from ampgrid.cli.gridpaths import about, cap_or_place, grid_place, read_list, read_object
from ampgrid.cli.listing import kind_of, long_lines, redundancy, time_of, with_caps
from ampgrid.cli.tree_link import kept_metadata
from ampgrid.cli.tree_upload import Copied
from ampgrid.commands.errors import NoSuchChildWireError, NotEnoughSharesFoundError
from ampgrid.errors import BadArgumentValueError, BadCapError, FormatError, NotMutableError
from tests.unit.cli.command_line import CommandLineCase

LIT = "URI:LIT:krugkidfnzsc4"
CHK = f"URI:CHK:{'a' * 26}:{'a' * 52}:3:10:1000"
DIRECTORY = f"URI:DIR:{'a' * 26}:{'a' * 52}"


def child(name: str, **more: Any) -> dict[str, Any]:
    """A file as the node tells of it."""
    told = {"name": name, "type": "file", "cap": CHK, "mutable": False, "size": 1_000}
    return told | {"metadata": {"changed": 0.0, "mtime": 86_400.0}, "check": None} | more


def directory(name: str, **more: Any) -> dict[str, Any]:
    return child(name, type="directory", cap=DIRECTORY, mutable=True, size=None) | more


class PlaceTests(SynchronousTestCase):
    def test_a_cap_is_read_with_white_space_around(self) -> None:
        self.assertEqual(grid_place(f" {CHK}\n").to_string(), CHK)
        self.assertEqual(cap_or_place("private: a ").to_string(), "private: a ")

    def test_a_hint_for_a_local_path(self) -> None:
        error = self.assertRaises(BadArgumentValueError, grid_place, "notes")
        self.assertIn("private:notes", str(error))
        error = self.assertRaises(BadCapError, cap_or_place, "secret")
        self.assertNotIn("secret", str(error))

    def test_an_error_names_the_place_once(self) -> None:
        x = "private:x"
        with self.assertRaises(NoSuchChildWireError) as caught, about(x), about(x):
            raise NoSuchChildWireError("no such child")
        self.assertEqual(str(caught.exception), "private:x: no such child")
        with self.assertRaises(NotMutableError), about("private:x"):
            raise NotMutableError("no")
        # Others have their own words, some with figures in them.
        told = "found 1 of the 3 shares"
        with self.assertRaises(NotEnoughSharesFoundError) as other, about("private:x"):
            raise NotEnoughSharesFoundError(told)
        self.assertEqual(str(other.exception), told)

    def test_answers_of_another_version(self) -> None:
        self.assertEqual(read_object('{"a": 1}'), {"a": 1})
        self.assertEqual(read_list("[]"), [])
        for text in ("", "[", "1", "[" * 100_000):
            self.assertRaises(FormatError, read_object, text)
            self.assertRaises(FormatError, read_list, text)


class ListingTests(SynchronousTestCase):
    def report(self, **more: Any) -> dict[str, Any]:
        facts = {"shares_good": 9, "shares_total": 10, "servers_happy": 7}
        return facts | {"recoverable": True, "healthy": True} | more

    def test_how_redundant_a_file_is(self) -> None:
        for found, text in [
            (child("f", check=self.report()), "9/10 on 7"),
            (child("f", check=self.report(healthy=False)), "9/10 on 7 !"),
            (child("f", check=self.report(recoverable=False)), "9/10 on 7 LOST"),
            (child("f"), "?"),
            (child("f", type="literal", cap=LIT), "in its directory"),
            (directory("d"), "-"),
        ]:
            self.assertEqual(redundancy(found), text)

    def test_kinds_and_times(self) -> None:
        self.assertEqual(kind_of(directory("d")), "dir")
        self.assertEqual(kind_of(directory("d", mutable=False)), "dir-ro")
        self.assertEqual(kind_of(child("l", metadata={"symlink": True})), "link")
        self.assertEqual(kind_of(child("l", metadata={"symlink": "yes"})), "file")
        self.assertRegex(time_of(child("f")), r"\A1970-01-0[12] \d\d:\d\d\Z")
        for moment in ("soon", 1e300, float("nan"), None, True):
            self.assertIn(len(time_of(child("f", metadata={"mtime": moment}))), (1, 16))

    def test_columns(self) -> None:
        lines = long_lines([child("f", type="literal"), directory("d"), child("long", size=7)])
        self.assertEqual(len({line.index("  19") for line in lines[:1]}), 1)
        self.assertTrue(lines[1].endswith("  d/"))
        self.assertEqual(long_lines([]), [])

    def test_all_caps_of_a_child(self) -> None:
        told = with_caps(child("f"))
        self.assertEqual(told["read_cap"], CHK)
        self.assertTrue(told["verify_cap"].startswith("URI:CHK-Verifier:"))
        self.assertIsNone(with_caps(child("f", cap=LIT))["verify_cap"])
        self.assertIsNone(with_caps(child("f", cap="URI:NEW:x"))["read_cap"])


class NameTests(SynchronousTestCase):
    def test_a_terminal_is_not_deceived(self) -> None:
        class Terminal:
            def isatty(self) -> bool:
                return True

        name = "\u202egnp.exe\u2028x"
        self.assertEqual(console.shown(name), name)
        self.patch(console.sys, "stdout", Terminal())
        self.assertEqual(console.shown(name), "\\u202egnp.exe\\u2028x")
        self.assertEqual(console.shown("übergröße  x"), "übergröße  x")

    def test_the_name_that_a_local_path_gives(self) -> None:
        for path, name in [("a", "a"), ("/a/b", "b"), ("a/b//", "b"), ("a/.", ""), ("..", "")]:
            self.assertEqual(name_in_grid(path), name)
        self.assertEqual((name_in_grid("/"), name_in_grid(".")), ("", ""))


class ReportTests(SynchronousTestCase):
    def finding(self, *path: str, **more: Any) -> dict[str, Any]:
        facts = {"path": list(path), "type": "file", "again": False, "healthy": True}
        more = {"recoverable": True, "repaired": False, "renewed": True} | more
        facts |= {"unreachable": False}
        return facts | {"problems": [], "report": None} | more

    def test_findings(self) -> None:
        lines = deep_check.finding_lines
        self.assertEqual(lines(self.finding("a")), [])
        self.assertEqual(lines(self.finding("a"), tell_all=True), ["a: healthy"])
        self.assertEqual(lines(self.finding("a", again=True)), [])
        report = {"shares_good": 2, "shares_total": 3, "servers_happy": 2}
        told = lines(self.finding("a", "b", healthy=False, problems=["x\ny"], report=report))
        self.assertEqual(told, ["a/b: not healthy, 2 of 3 shares on 2 servers", "  x y"])
        rotten = {"share": 1, "server": "s", "reason": "it is\nrotten"}
        for bad, named in (
            (report | {"bad": [rotten]}, "  bad share 1 on s: it is rotten"),
            (
                report | {"bad": [], "before": {"bad": [rotten]}},
                "  was bad share 1 on s: it is rotten",
            ),
        ):
            self.assertEqual(lines(self.finding("a", healthy=False, report=bad))[1:], [named])
        self.assertEqual(
            lines(self.finding(type="directory", healthy=False, recoverable=False)),
            ["./: NOT RECOVERABLE"],
        )
        away = {"healthy": False, "recoverable": None, "unreachable": True}
        self.assertEqual(lines(self.finding("d", type="directory", **away)), ["d/: not reachable"])
        few = {"good": 2, "wanted": 4, "replicas": [{}, {}, {}]}
        weak = self.finding("d", type="directory", healthy=False, report=few)
        self.assertEqual(lines(weak), ["d/: not healthy, 2 of 4 replicas"])
        self.assertEqual(lines(self.finding("a", repaired=True)), ["a: healthy, after a repair"])

    def test_the_end_of_a_deep_check(self) -> None:
        counts = dict.fromkeys(
            ("directories", "files", "literals", "healthy", "unhealthy"), 1
        ) | dict.fromkeys(("unrecoverable", "unreachable", "repaired", "renewed"), 0)
        self.assertIs(deep_check.end_of(counts | {"unhealthy": 0}), exits.DONE)
        self.assertIs(deep_check.end_of(counts), exits.UNHEALTHY)
        self.assertIs(deep_check.end_of(counts | {"unhealthy": 0}, 1), exits.UNHEALTHY)
        self.assertIs(deep_check.end_of(counts | {"unrecoverable": 1}), exits.LOST)
        away = counts | {"unreachable": 2}
        self.assertIs(deep_check.end_of(away), exits.DIRECTORY_UNREACHABLE)
        self.assertIs(deep_check.end_of(away | {"unrecoverable": 1}), exits.LOST)
        self.assertIn(
            "Not reachable now, with all in them: 2 directories.",
            deep_check.summary_lines(away, None),
        )
        lines = deep_check.summary_lines(counts | {"unrecoverable": 1, "repaired": 2}, 3)
        first = "1 directory and 2 files (1 of them within their caps) looked at:"
        self.assertEqual(
            lines,
            [
                f"{first} 1 healthy, 1 not.",
                "Repaired: 2.",
                "1 cannot be had from what was found.",
                "Leases of 0 were renewed, of 3 not.",
            ],
        )

    def visit(self, *path: str, **more: Any) -> dict[str, Any]:
        facts: dict[str, Any] = {"path": list(path), "type": "directory", "cap": DIRECTORY}
        return facts | {"again": False, "error": ""} | more

    def test_a_tree(self) -> None:
        visits = [
            self.visit(),
            self.visit("a"),
            self.visit("a", "f", type="file", size=1, again=True),
            self.visit("a", "up", again=True),
            self.visit("b", error="not\nreachable"),
        ]
        tree = Tree("private:")
        self.assertEqual(
            [line for visit in visits for line in tree.lines(visit)],
            [
                "private:",
                "  a/",
                "    f",
                "    up/ (above)",
                "  b/ (cannot be read: not reachable)",
            ],
        )
        self.assertEqual(tree.trouble.ending, exits.DIRECTORY_UNREACHABLE)
        nested = Tree("private:")
        for visit in visits:
            self.assertEqual(nested.gather(visit), [])
        names = [(each["name"], len(each["children"])) for each in nested.top["children"]]
        self.assertEqual(names, [("a", 2), ("b", 0)])

    def test_sizes(self) -> None:
        keys = (
            "directories",
            "unreadable",
            "unopened",
            "files",
            "literals",
            "bytes_files",
            "bytes_literals",
        )
        more = {"largest_file": 1_500, "largest_directory": 2, "sizes": [[1_000, 1], [10_000, 1]]}
        lines = size_lines(dict.fromkeys(keys, 1) | more)
        self.assertEqual(lines[0], "2 B in 2 files (1 of them within their caps), 1 directory.")
        self.assertIn("Could not be read, with all in them: 1 directory.", lines)
        self.assertIn("Could not be opened: 1 entry.", lines)
        for unread, unopened, ending in [
            (0, 0, exits.DONE),
            (1, 0, exits.DIRECTORY_UNREACHABLE),
            (0, 1, exits.DAMAGED),
            (1, 1, exits.DAMAGED),
        ]:
            told = {"unreadable": unread, "unopened": unopened}
            self.assertEqual(size_ending(told), ending)

    def test_entries_that_cannot_be_opened(self) -> None:
        spoilt = self.visit("a", problems=["an entry\nof it"])
        tree, nested, trouble = Tree("private:"), Tree("private:"), Trouble()
        nested.gather(self.visit())
        told = tree.lines(spoilt)
        nested.gather(spoilt)
        trouble.note(spoilt)
        self.assertEqual(told, ["  a/", "    (cannot be opened: an entry of it)"])
        self.assertEqual(nested.top["children"][0]["problems"], ["an entry\nof it"])
        for found in (tree.trouble, nested.trouble, trouble):
            self.assertEqual(found.ending.status, 7)

    def test_a_directory(self) -> None:
        replica = {
            "node_id": "abc",
            "state": "behind",
            "version": 2,
            "lag": 3,
            "trouble": "s\nlow",
        }
        report = {
            "healthy": False,
            "version": 5,
            "entries": 7,
            "good": 3,
            "quorum": 3,
            "wanted": 4,
            "replicas": [replica, replica | {"node_id": "d", "state": "current", "lag": 0}],
            "repaired": ["caught\nup"],
            "problems": ["none"],
        }
        self.assertIs(check_directory.end_of(report), exits.UNHEALTHY)
        self.assertEqual(
            check_directory.lines_of(report, {"abc": "al\nice"}),
            [
                "Unhealthy: 3 of 2 replicas up to date; 3 are needed, 4 wanted.",
                "Version 5, 7 children.",
                "  abc (al ice): behind, 3 versions behind, s low",
                "  d: current, s low",
                "  repaired: caught up",
                "  problem: none",
            ],
        )

    def test_a_recovery(self) -> None:
        report = {"source": "replica", "version": 5, "entries": 7, "holders": 1}
        report |= {"warnings": ["later\nchanges"], "healthy": False, "recovered": False}
        first, second = recovering.lines_of(report)
        self.assertTrue(first.startswith("Version 5 with 7 children would be the directory ("))
        self.assertEqual(second, "  later changes")
        told = recovering.lines_of(report | {"recovered": True})
        self.assertIn("is the directory again", told[0])
        self.assertIn("Nothing is to be done", recovering.lines_of(report | {"healthy": True})[0])

    def test_what_was_copied_and_removed(self) -> None:
        line = line_of(Copied(2, 1_500, 1, 1, "private:a"))
        self.assertEqual(
            line,
            "Copied 2 files, 1.5 KB, to private:a; made 1 directory; there already: 1 file.",
        )
        one = removal_lines([{"path": "private:a", "cap": CHK}], 31)
        self.assertEqual(one[0], "Removed private:a.")
        self.assertIn("31 days", " ".join(one))
        self.assertNotIn(CHK, " ".join(one))

    def test_what_is_told_of_a_copy(self) -> None:
        found = child(
            "a", metadata={"size": 1, "created": 2, "changed": 3, "type": "t", "mode": 4}
        )
        self.assertEqual(kept_metadata(found, "a"), {"type": "t", "mode": 4})
        self.assertEqual(kept_metadata(found, "b"), {"mode": 4})


class RefusalTests(CommandLineCase):
    """What is wrong is refused before a node is asked: here there is none."""

    def test_local_files_where_a_grid_path_belongs(self) -> None:
        for words in (
            ["ls", "notes"],
            ["mkdir", "notes"],
            ["mv", "notes", "private:a"],
            ["mv", "private:a", "notes"],
            ["rm", "notes"],
            ["ln", LIT, "notes"],
            ["tree", "notes"],
            ["manifest", "notes"],
            ["du", "notes"],
            ["deep-check", "notes"],
            ["recover-directory", "notes"],
            ["put", "f", "notes"],
        ):
            self.assertIn("private:notes", self.refused(2, *words))

    def test_what_cannot_be_meant(self) -> None:
        for words in (
            ["mkdir", "-p"],
            ["mv", "private:", "public:x"],
            ["rm", "private:"],
            ["cp", "a", "b"],
            ["cp", "a", "private:b", "private:c"],
            ["cp", "-T", "a", "b", "private:c"],
            ["cp", "-", "-"],
            ["ln", "-", "-"],
            ["put", "-p", "f"],
            ["alias", "add", "private"],
            ["alias", "remove", "a/b"],
            ["recover-directory", "private:a"],
            ["ls", "private:a/../b"],
        ):
            self.refused(2, *words)

    def test_bad_caps_are_not_repeated(self) -> None:
        for words in (["ls"], ["get"], ["check"], ["ln", "-f"], ["alias", "add", "x"]):
            more = ["private:x"] if words[0] == "ln" else []
            for cap in (DIRECTORY[:-2], "URI:DIR:secret", CHK[:-9]):
                self.assertNotIn(cap[8:], self.refused(9, *words, cap, *more))
        told = self.refused(9, "ls", "-", stdin=b"URI:DIR:\nsec\n ret\n")
        self.assertNotIn("sec", told)
        self.refused(2, "ls", "-", stdin=b"private:a\nprivate:b\n")

    def test_without_a_node_directory(self) -> None:
        for words in (["ls"], ["mkdir"], ["cp", "f", "private:"], ["tree"], ["alias", "list"]):
            self.refused(3, *words)
