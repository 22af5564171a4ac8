"""Directories from the command line, on a grid of four nodes that keep them."""

from __future__ import annotations

import filecmp
import json
import os
import signal
from pathlib import Path
from random import Random
from typing import Any

from tests.integration.processes import (
    DATA,
    TWO_OF_FOUR,
    GridCase,
    Outcome,
    ampgrid,
    finish,
    start,
)

LIT = "URI:LIT:krugkidfnzsc4"
#: A directory that nobody has made.
NOBODYS = f"URI:DIR:{'a' * 26}:{'a' * 52}"


def make_tree(root: Path, seed: int = 1) -> Path:
    """Make a small tree of everything that a tree may hold."""
    random = Random(seed)
    for name, size in [
        ("empty", 0),
        ("tiny", 40),
        ("with space", 3_000),
        ("übergröße.txt", 70_000),
        ("a/b/deep", 200_001),
        ("a/b/c/deeper", 10),
        ("a/twin", 3_000),
        ("-dash/-x", 100),
    ]:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(random.randbytes(size))
    (root / "void").mkdir()
    (root / "a/twin").write_bytes((root / "with space").read_bytes())
    (root / "tiny").chmod(0o750)
    (root / "a").chmod(0o755)
    os.utime(root / "a/b/deep", (1_000_000_000.5, 1_000_000_000.5))
    return root


def differences(left: Path, right: Path) -> list[str]:
    """Return in what two trees differ: names, bytes, rights of files and their times."""
    found = []
    compared = filecmp.dircmp(left, right, ignore=[])
    found += [f"only in {left}: {name}" for name in compared.left_only]
    found += [f"only in {right}: {name}" for name in compared.right_only]
    for name in compared.common_files:
        one, other = (left / name).stat(), (right / name).stat()
        if (left / name).read_bytes() != (right / name).read_bytes():
            found.append(f"{name}: bytes")
        if (one.st_mode, one.st_mtime) != (other.st_mode, other.st_mtime):
            found.append(f"{name}: mode or time")
    for name in compared.common_dirs:
        found += differences(left / name, right / name)
    return found + compared.common_funny


class DirectoryCase(GridCase):
    words = TWO_OF_FOUR
    count = 0

    def setUp(self) -> None:
        super().setUp()
        # Tests share the grid: each has a directory of its own in it.
        DirectoryCase.count += 1
        self.top = f"private:test{DirectoryCase.count}"
        self.client("mkdir", self.top)

    def json(self, *words: object, stdin: bytes = b"") -> Any:
        return json.loads(self.client(*words, "--json", stdin=stdin))

    def names(self, path: str) -> list[str]:
        return self.client("ls", path).splitlines()

    def refused(self, status: int, *words: object, stdin: bytes = b"") -> str:
        outcome = self.grid.client(*words, stdin=stdin)
        self.assertEqual(outcome.status, status, (words, outcome))
        self.assertEqual(outcome.out, b"", words)
        self.assertRegex(outcome.err, r"\Aampgrid: [^\n]+\n\Z")
        self.assertNotIn("Unexpected", outcome.err)
        return outcome.err


class FirstStepsTests(DirectoryCase):
    def test_put_list_and_get(self) -> None:
        cap = self.client("put", self.file, f"{self.top}/")
        self.client("put", self.file, f"{self.top}/other")
        self.client("put", "-", f"{self.top}/small", stdin=b"hello")
        self.client("mkdir", f"{self.top}/sub")
        self.client("put", self.file, f"{self.top}/sub")
        self.assertEqual(self.names(self.top), ["file", "other", "small", "sub/"])
        self.assertEqual(self.names(f"{self.top}/sub"), ["file"])
        self.assertEqual(self.names(f"{self.top}/other"), ["other"])
        self.assertEqual(self.grid.client("get", f"{self.top}/other").out, DATA)
        self.client("get", f"{self.top}/small", self.place)
        self.assertEqual((self.place / "small").read_bytes(), b"hello")
        told = self.json("ls", self.top)
        self.assertEqual(told["children"][0]["name"], "file")
        self.assertEqual(told["children"][0]["cap"], cap)
        self.assertEqual(told["children"][0]["metadata"]["size"], len(DATA))
        sub = told["children"][3]
        self.assertTrue(sub["cap"].startswith("URI:DIR:"))
        own = self.json("ls", f"{self.top}/sub")
        for key in ("cap", "read_cap", "verify_cap"):
            self.assertEqual(own[key], sub[key])

    def test_a_long_list_tells_how_redundant_files_are(self) -> None:
        self.client("put", self.file, f"{self.top}/file")
        self.client("put", "-", f"{self.top}/small", stdin=b"hello")
        self.client("mkdir", f"{self.top}/sub")
        file, small, sub = self.client("ls", "-l", self.top).splitlines()
        self.assertRegex(file, r"\Afile +300 KB +\d{4}-.* +4/4 on 4 +file\Z")
        self.assertRegex(small, r"\Afile +5 B +.* +in its directory +small\Z")
        self.assertRegex(sub, r"\Adir +- +.* +- +sub/\Z")
        told = self.json("ls", "-l", self.top)["children"]
        self.assertEqual(told[0]["check"]["shares_good"], 4)
        self.assertIsNone(told[1]["check"])

    def test_making_directories(self) -> None:
        self.client("mkdir", "-p", f"{self.top}/a/b/c")
        self.client("mkdir", "-p", f"{self.top}/a/b/c")
        self.assertEqual(self.names(f"{self.top}/a"), ["b/"])
        self.refused(12, "mkdir", f"{self.top}/a")
        self.refused(12, "mkdir", f"{self.top}/x/y")
        self.client("put", "-p", self.file, f"{self.top}/x/y/")
        self.assertEqual(self.names(f"{self.top}/x/y"), ["file"])
        cap = self.client("mkdir")
        self.assertTrue(cap.startswith("URI:DIR:"))
        self.client("put", self.file, f"{cap}/inside")
        self.assertEqual(self.names(cap), ["inside"])
        self.assertEqual(self.client("ls", "-", stdin=cap.encode()), "inside")

    def test_the_public_root_is_the_same_for_all(self) -> None:
        self.client("put", self.file, "public:for all")
        other = self.grid.ready["nodes"][0]["dir"]
        self.assertIn("for all", ampgrid("-d", other, "ls", "public:").text)
        self.assertEqual(ampgrid("-d", other, "get", "public:for all").out, DATA)

    def test_names_of_every_kind(self) -> None:
        names = [
            "ü",
            "with  two spaces",
            "a:b",
            "\u202egnp.exe",
            "-n",
            "*",
            "'",
            "\U0001f600",
            "~",
        ]
        tree = self.place / "tree"
        tree.mkdir()
        for name in names:
            (tree / name).write_bytes(name.encode() * 30)
        self.client("cp", "-r", f"{tree}/.", self.top)
        self.assertEqual(self.names(self.top), sorted(names))
        for name in names[:5]:
            got = self.grid.client("get", f"{self.top}/{name}").out
            self.assertEqual(got, name.encode() * 30)
        self.client("put", self.file, f"{self.top}/u\u0308")
        self.assertEqual(len(self.names(self.top)), len(names))
        for name in ["..", "new\nline", "x" * 256]:
            self.refused(2, "put", self.file, f"{self.top}/{name}")


class CopyTests(DirectoryCase):
    def test_a_tree_there_and_back(self) -> None:
        tree = make_tree(self.place / "tree")
        told = self.client("cp", "-r", tree, f"{self.top}/tree")
        self.assertIn("Copied 8 files", told)
        self.client("cp", "-r", f"{self.top}/tree", self.place / "back")
        self.assertEqual(differences(tree, self.place / "back"), [])
        # Into a directory that is there it goes under its name.
        self.client("cp", "-r", tree, self.top)
        self.client("cp", "-r", f"{self.top}/tree", self.place / "back")
        self.assertEqual(differences(tree, self.place / "back" / "tree"), [])

    def test_done_again_it_changes_nothing(self) -> None:
        tree = make_tree(self.place / "tree")
        self.client("cp", "-r", tree, self.top)
        version = [self.json("check", f"{self.top}/{d}")["version"] for d in ("tree", "tree/a")]
        told = self.json("cp", "-r", tree, self.top)
        self.assertEqual((told["unchanged"], told["directories"], told["problems"]), (8, 0, []))
        self.json("cp", "-rT", tree, f"{self.top}/tree")
        self.json("cp", "-r", f"{tree}/.", f"{self.top}/tree")
        again = [self.json("check", f"{self.top}/{d}")["version"] for d in ("tree", "tree/a")]
        self.assertEqual(again, version)
        # What has changed is replaced.
        (tree / "tiny").write_bytes(b"new")
        self.assertEqual(self.json("cp", "-r", tree, self.top)["unchanged"], 7)
        self.assertEqual(self.grid.client("get", f"{self.top}/tree/tiny").out, b"new")

    def test_several_files_and_bad_ones_among_them(self) -> None:
        (self.place / "one").write_bytes(b"1" * 100)
        os.mkfifo(self.place / "pipe")
        missing = self.place / "missing"
        done = self.grid.client(
            "cp", self.file, missing, self.place / "one", self.place / "pipe", f"{self.top}/"
        )
        self.assertEqual(done.status, 8)
        self.assertIn(f"{missing}: No such file", done.err)
        self.assertIn("neither a file nor a directory", done.err)
        self.assertEqual(done.err.count("\n"), 2)
        self.assertEqual(self.names(self.top), ["file", "one"])
        out = self.place / "out"
        out.mkdir()
        done = self.grid.client("cp", f"{self.top}/one", f"{self.top}/no", f"{self.top}/file", out)
        self.assertEqual(done.status, 12)
        self.assertEqual(sorted(os.listdir(out)), ["file", "one"])
        told = json.loads(
            self.grid.client("cp", "--json", f"{self.top}/one", f"{self.top}/no", out).out
        )
        self.assertEqual([problem["name"] for problem in told["problems"]], ["path"])

    def test_what_no_server_takes_is_not_tried_for_each_file(self) -> None:
        tree = make_tree(self.place / "many")
        words = ("cp", "-r", "--shares", "2/50/50", tree, f"{self.top}/many")
        done = self.grid.client(*words)
        self.assertEqual(done.status, 6, done.err)
        self.assertRegex(done.err, r"\Aampgrid: [^\n]+servers needed[^\n]+it ends here\n\Z")
        told = json.loads(self.grid.client(*words, "--json").err)["error"]
        self.assertEqual(told["name"], "not_happy")

    def test_links_are_followed_or_kept(self) -> None:
        tree = self.place / "tree"
        (tree / "sub").mkdir(parents=True)
        (tree / "sub" / "file").write_bytes(b"x" * 1_000)
        (tree / "to file").symlink_to("sub/file")
        (tree / "to sub").symlink_to("sub")
        (tree / "sub" / "round").symlink_to("..")
        (tree / "broken").symlink_to("/nowhere/at/all")
        done = self.grid.client("cp", "-r", tree, f"{self.top}/followed")
        self.assertEqual(done.status, 8)
        self.assertIn("leads back", done.err)
        self.assertIn("broken: No such file", done.err)
        self.assertEqual(self.names(f"{self.top}/followed"), ["sub/", "to file", "to sub/"])
        self.assertEqual(self.names(f"{self.top}/followed/to sub"), ["file"])
        self.client("cp", "-r", "--links", tree, f"{self.top}/kept")
        self.client("cp", "-r", "--links", f"{self.top}/kept", self.place / "back")
        back = self.place / "back"
        for name in ("to file", "to sub", "sub/round", "broken"):
            self.assertEqual(os.readlink(back / name), os.readlink(tree / name))
        self.assertEqual(self.grid.client("cp", "-r", f"{self.top}/kept", back).status, 2)

    def test_nothing_is_written_through_a_link(self) -> None:
        """Who can change a directory in the grid must not reach into others of this machine."""
        self.client("put", "-p", self.file, f"{self.top}/tree/a/file")
        self.client("put", self.file, f"{self.top}/tree/b")
        outside = self.place / "outside"
        outside.mkdir()
        out = self.place / "out"
        out.mkdir()
        (out / "a").symlink_to(outside)
        (self.place / "kept").write_bytes(b"kept")
        (out / "b").symlink_to(self.place / "kept")
        done = self.grid.client("cp", "-rT", f"{self.top}/tree", out)
        self.assertEqual(done.status, 8)
        self.assertEqual(os.listdir(outside), [])
        self.assertEqual((self.place / "kept").read_bytes(), b"kept")
        self.assertEqual((out / "b").read_bytes(), DATA)

    def test_within_the_grid_no_data_move(self) -> None:
        tree = make_tree(self.place / "tree")
        self.client("cp", "-r", tree, f"{self.top}/tree")
        self.refused(2, "cp", f"{self.top}/tree", f"{self.top}/copy")
        self.client("cp", "-r", f"{self.top}/tree", f"{self.top}/copy")
        self.client("cp", "-r", f"{self.top}/copy", self.place / "back")
        self.assertEqual(differences(tree, self.place / "back"), [])
        # Its own directories: what is changed in the one is not in the other.
        self.client("rm", f"{self.top}/copy/a/twin")
        self.assertIn("twin", self.names(f"{self.top}/tree/a"))
        caps = [self.json("ls", f"{self.top}/{d}")["children"] for d in ("tree", "copy")]
        self.assertEqual(*([c["cap"] for c in each if c["type"] != "directory"] for each in caps))

    def test_a_directory_that_leads_back_into_itself(self) -> None:
        self.client("mkdir", "-p", f"{self.top}/loop/in")
        self.client("put", self.file, f"{self.top}/loop/file")
        self.client("ln", f"{self.top}/loop", f"{self.top}/loop/in/back")
        done = self.grid.client("cp", "-r", f"{self.top}/loop", self.place / "out")
        self.assertEqual(done.status, 2)
        self.assertIn("leads back into itself", done.err)
        self.assertEqual((self.place / "out" / "file").read_bytes(), DATA)
        self.assertIn("back/ (above)", self.client("tree", f"{self.top}/loop"))
        self.client("cp", "-r", f"{self.top}/loop", f"{self.top}/copy")
        loop = [self.json("ls", f"{self.top}/{d}")["children"] for d in ("", "copy/in")]
        self.assertEqual(loop[0][0]["cap"], loop[1][0]["cap"])
        done = self.grid.client("cp", "-r", f"{self.top}/loop", f"{self.top}/loop/in")
        self.assertEqual(done.status, 2)
        self.assertIn("into itself", done.err)

    def test_what_is_there_is_not_replaced_by_another_kind(self) -> None:
        (self.place / "thing").mkdir()
        (self.place / "thing" / "x").write_bytes(b"x")
        self.client("put", self.file, f"{self.top}/thing")
        self.assertEqual(
            self.grid.client("cp", "-r", self.place / "thing", f"{self.top}/").status, 12
        )
        self.client("mkdir", f"{self.top}/file")
        self.refused(12, "put", self.file, f"{self.top}/")
        self.assertEqual(self.grid.client("cp", self.file, f"{self.top}/").status, 12)
        self.assertEqual(self.names(self.top), ["file/", "thing"])


class ChangeTests(DirectoryCase):
    def test_moving(self) -> None:
        self.client("put", self.file, f"{self.top}/a")
        self.client("mkdir", f"{self.top}/sub")
        self.client("mv", f"{self.top}/a", f"{self.top}/b")
        self.client("mv", f"{self.top}/b", f"{self.top}/sub")
        self.client("mv", f"{self.top}/sub/b", f"{self.top}/sub/c")
        self.assertEqual((self.names(self.top), self.names(f"{self.top}/sub")), (["sub/"], ["c"]))
        self.client("mv", f"{self.top}/sub", f"{self.top}/moved")
        self.assertEqual(self.grid.client("get", f"{self.top}/moved/c").out, DATA)
        self.refused(2, "mv", f"{self.top}/moved", f"{self.top}/moved/in")
        self.refused(2, "mv", f"{self.top}/moved", f"{self.top}/moved")
        self.client("put", self.file, f"{self.top}/x")
        self.refused(12, "mv", "-n", f"{self.top}/x", f"{self.top}/moved/c")
        self.refused(12, "mv", f"{self.top}/nothing", f"{self.top}/y")
        self.assertEqual(self.names(self.top), ["moved/", "x"])

    def test_taking_out(self) -> None:
        self.client("put", "-p", self.file, f"{self.top}/full/file")
        self.client("mkdir", f"{self.top}/empty")
        self.assertIn("-r", self.refused(2, "rm", f"{self.top}/full"))
        told = self.client("rm", f"{self.top}/empty")
        self.assertIn("31 days", told)
        cap = self.json("rm", "-r", f"{self.top}/full")["removed"][0]["cap"]
        self.assertEqual(self.names(self.top), [])
        # It is taken out, not deleted.
        self.assertEqual(self.names(cap), ["file"])
        self.refused(12, "rm", f"{self.top}/full")
        self.refused(2, "rm", "private:")

    def test_linking(self) -> None:
        cap = self.put()
        self.client("ln", "-", f"{self.top}/one", stdin=cap.encode())
        self.client("ln", f"{self.top}/one", f"{self.top}/two")
        self.refused(12, "ln", LIT, f"{self.top}/two")
        self.client("ln", "-f", LIT, f"{self.top}/two")
        self.assertEqual(self.grid.client("get", f"{self.top}/one").out, DATA)
        self.assertNotEqual(self.grid.client("get", f"{self.top}/two").out, DATA)
        self.client("mkdir", f"{self.top}/sub")
        self.client("ln", f"{self.top}/one", f"{self.top}/sub")
        self.assertEqual(self.names(f"{self.top}/sub"), ["one"])
        self.client("ln", "--read-only", f"{self.top}/sub", f"{self.top}/reader")
        self.client("put", self.file, f"{self.top}/sub/")
        self.assertEqual(self.names(f"{self.top}/reader"), ["file", "one"])
        self.refused(14, "mkdir", f"{self.top}/reader/new")
        self.refused(14, "put", self.file, f"{self.top}/reader/new")
        self.refused(14, "rm", f"{self.top}/reader/file")
        self.assertEqual(self.grid.client("cp", self.file, f"{self.top}/reader").status, 14)

    def test_aliases(self) -> None:
        self.client("alias", "add", "friends", self.top)
        self.client("put", self.file, "friends:list")
        self.assertEqual(self.names(self.top), ["list"])
        self.assertIn("friends:", self.client("alias", "list").splitlines())
        made = self.json("alias", "add", "fresh:")
        self.assertTrue(made["cap"].startswith("URI:DIR:"))
        self.assertEqual(self.names("fresh:"), [])
        self.refused(12, "alias", "add", "friends", made["cap"])
        self.assertEqual(self.client("alias", "remove", "fresh"), made["cap"])
        self.refused(12, "ls", "fresh:")
        for name in ("private", "a/b", "", "URI", "x" * 65):
            self.refused(2, "alias", "add", name)
        self.client("alias", "remove", "friends")


class DeepTests(DirectoryCase):
    def test_all_that_is_below(self) -> None:
        tree = make_tree(self.place / "tree")
        self.client("cp", "-r", tree, f"{self.top}/tree")
        lines = self.client("manifest", f"{self.top}/tree").splitlines()
        self.assertEqual(len(lines), 14)
        self.assertTrue(all(line.startswith("URI:") for line in lines))
        self.assertIn("a/b/c/deeper", [line.split(" ", 1)[1] for line in lines])
        found = [
            json.loads(line) for line in self.client("manifest", self.top, "--json").splitlines()
        ]
        self.assertEqual(found[0]["path"], [])
        nested = json.loads(self.client("tree", self.top, "--json"))
        self.assertEqual([child["name"] for child in nested["children"]], ["tree"])
        printed = self.client("tree", f"{self.top}/tree").splitlines()
        self.assertEqual(printed[:3], [f"{self.top}/tree/", "  -dash/", "    -x"])
        size = self.json("du", f"{self.top}/tree")
        self.assertEqual((size["directories"], size["files"] + size["literals"]), (6, 7))
        self.assertIn("6 directories", self.client("du", f"{self.top}/tree"))

    def test_deep_check(self) -> None:
        tree = make_tree(self.place / "tree")
        self.client("cp", "-r", tree, f"{self.top}/tree")
        told = self.client("deep-check", f"{self.top}/tree", "--verify", "--renew")
        self.assertIn("13 healthy, 0 not", told)
        self.assertIn("of 0 not", told)
        lines = self.client("deep-check", f"{self.top}/tree", "--json").splitlines()
        self.assertEqual(json.loads(lines[-1])["summary"]["unhealthy"], 0)
        self.assertEqual(len(lines), 15)
        self.assertIn("Healthy: 4 of 4 replicas", self.client("check", f"{self.top}/tree"))
        self.assertIn("Healthy", self.client("check", f"{self.top}/tree/a/twin"))


class BadInputTests(DirectoryCase):
    def test_a_table_of_mistakes(self) -> None:
        self.client("put", self.file, f"{self.top}/file")
        top = self.top
        table: list[tuple[int, list[object]]] = [
            (2, ["cp", f"{top}/file", self.file, f"{top}/"]),
            (2, ["put", "-", f"{top}/"]),
            (8, ["put", self.place / "missing", f"{top}/x"]),
            (8, ["cp", self.place / "missing", f"{top}/x"]),
            (8, ["cp", f"{top}/file", self.place / "no" / "dir"]),
            (9, ["get", NOBODYS]),
            (9, ["ls", NOBODYS]),
            (12, ["alias", "add", "x", f"{top}/file"]),
            (12, ["ls", f"{top}/missing"]),
            (12, ["ls", f"{top}/file/inside"]),
            (12, ["ls", f"{top}/file/"]),
            (12, ["ls", "nobody:x"]),
            (12, ["get", f"{top}/missing", self.place / "no"]),
            (12, ["get", top, self.place / "no"]),
            (12, ["put", self.file, f"{top}/missing/x"]),
            (12, ["put", "-n", self.file, f"{top}/file"]),
            (12, ["cp", self.file, f"{top}/missing/"]),
            (12, ["cp", self.file, f"{top}/missing/x"]),
            (12, ["rm", f"{top}/missing"]),
            (12, ["check", f"{top}/missing"]),
            (12, ["deep-check", f"{top}/missing"]),
            (12, ["manifest", f"{top}/file"]),
            (12, ["alias", "remove", "nobody"]),
        ]
        for number, (status, words) in enumerate(table):
            if number % 8:
                self.refused(status, *words)
            else:
                told = self.grid.client(*words, "--json")
                error = json.loads(told.err)["error"]
                self.assertEqual((told.status, error["status"], told.out), (status, status, b""))
        for words in (["mkdir", f"{top}/no/x"], ["put", self.file, f"{top}/no/"]):
            self.assertIn("-p makes", self.refused(12, *words))
        reader = self.json("ls", top)["read_cap"]
        self.assertNotIn("URI", self.refused(14, "backup", self.place, reader))
        self.assertEqual(self.names(top), ["file"])
        self.assertFalse((self.place / "no").exists())


class InterruptionTests(DirectoryCase):
    def test_a_copy_that_is_interrupted_goes_on_when_done_again(self) -> None:
        tree = self.place / "tree"
        tree.mkdir()
        random = Random(5)
        for number in range(120):
            (tree / f"{number:03}").write_bytes(random.randbytes(150_000))
        process = start("-d", self.grid.ready["client"]["dir"], "cp", "-r", tree, f"{self.top}/t")
        # It is at work as soon as what it makes first can be seen.
        while process.poll() is None and "t/" not in self.names(self.top):
            pass
        process.send_signal(signal.SIGINT)
        done = finish(process)
        self.assertIn(done.status, (0, 130))
        if done.status:
            self.assertEqual(done.err, "ampgrid: Interrupted.\n")
        self.client("cp", "-rT", tree, f"{self.top}/t")
        self.client("cp", "-r", f"{self.top}/t", self.place / "back")
        self.assertEqual(differences(tree, self.place / "back"), [])

    def test_a_node_that_does_not_run(self) -> None:
        ampgrid("create-node", self.place / "n")

        def run(*words: object) -> Outcome:
            return ampgrid("-d", self.place / "n", *words)

        for words in (
            ["ls"],
            ["cp", self.file, "private:a"],
            ["deep-check", "private:"],
            ["alias", "list"],
        ):
            done = run(*words)
            self.assertEqual((done.status, done.out), (4, b""), words)
            self.assertEqual(done.err.count("\n"), 1, done.err)


class BlobTests(DirectoryCase):
    def test_blobs_in_a_directory_and_at_a_peer(self) -> None:
        """Over the grid and over a peer, as a program outside of the node reaches them."""
        secret, back = self.place / "secret", self.place / "back"
        self.json("blob", "secret", secret)
        own = ("--secret-file", secret, "--path", self.place / "store")
        grid = ("--remote", f"grid:{self.top}", *own)
        self.client("blob", "put", self.file, "one", *grid)
        self.client("blob", "upload", self.file, "two", *grid)
        self.assertEqual(self.json("blob", "sync", *grid)["fetched"], 1)
        self.client("blob", "download", "one", "--output-file", back, *grid)
        self.assertEqual(back.read_bytes(), DATA)
        self.client("blob", "delete", "two", *grid)
        listed = self.json("blob", "list", *grid)
        self.assertEqual(listed, {"local": {"one": "SYNCED"}, "remote": ["one"]})
        self.assertEqual(self.names(self.top), ["blobs-default/"])
        told = self.refused(15, "blob", "list", *own, "--remote", "grid:x:")
        self.assertIn("no alias", told)
