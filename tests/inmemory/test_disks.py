"""What peers keep for others: no byte on their disks says what it is."""

from __future__ import annotations

import json
from typing import Any

from ampgrid.caps import ChkCap, DirCap, parse_cap
from ampgrid.commands import control
from ampgrid.commands import drive as commands
from ampgrid.immutable import Operation
from ampgrid.testing.grid import MemoryNode
from tests.diskscan import Secrets, dump, scan
from tests.inmemory.test_roots import RootCase
from tests.material import some_bytes

NAMES = {
    "directory": "Correspondence-with-Alice-1987",
    "file": "tax-return-and-passport.pdf",
    "small": "the-smallest-of-diaries.txt",
    "inline": "a-recipe-of-few-words.txt",
    "other": "Fr\u00fchst\u00fccksbrettchen-\u6771\u4eac",
    "public": "minutes-of-the-secret-meeting",
    "metadata": "remember-the-milk-and-honey",
    "literal": "what-is-in-here-fits-in-a-cap",
}


class DiskTests(RootCase):
    nodes = 4
    with_public_root = True

    def setUp(self) -> None:
        super().setUp()
        self.grid.clock.advance(60)
        self.secrets = Secrets()
        for name in NAMES.values():
            self.secrets.add_text(name)

    def fill(self) -> None:
        """Put files of every kind, directories, metadata, snapshots; note every secret of it."""
        top = f"private:{NAMES['directory']}"
        made = [
            self.call(commands.MakeDirectory, path=top)["cap"],
            self.call(commands.MakeDirectory, path=f"{top}/{NAMES['other']}")["cap"],
            self.call(commands.MakeDirectory, path=f"public:{NAMES['public']}")["cap"],
            self.call(commands.GetRoots, make=True)["private"],
        ]
        for kind, size in (("file", 400_000), ("small", 3_000), ("inline", 900), ("literal", 40)):
            data = NAMES["literal"].encode() if kind == "literal" else some_bytes(size)
            self.secrets.add_plaintext(data, f"the {kind} file")
            path = self.grid.client.folder / "put"
            path.write_bytes(data)
            for place in (f"{top}/{NAMES[kind]}", f"public:{NAMES['public']}/{NAMES[kind]}"):
                answer = self.call(control.Upload, path=str(path), grid_path=place)
            if kind not in {"inline", "literal"}:
                made.append(answer["cap"])
        metadata = json.dumps({"note": NAMES["metadata"]})
        for parent in (top, f"public:{NAMES['public']}"):
            self.call(
                commands.LinkChild,
                path=f"{parent}/{NAMES['metadata']}",
                cap=made[-1],
                metadata=metadata,
            )
        for cap in made:
            self.secrets.add_cap(str(cap))
        self.secrets.add_bytes(self.grid.client.convergence, "the convergence secret")
        self.caps = [parse_cap(str(cap)) for cap in made]
        walked = self.grid.run(
            self.grid.client.core.drive_keeper.run(Operation(), full=True, snapshots=True)
        )
        self.assertEqual(walked["problems"], [])
        self.assertGreaterEqual(walked["snapshots"], 4)
        # What is replaced, and what is read, leaves its traces too.
        self.call(commands.UnlinkChild, path=f"{top}/{NAMES['small']}")
        self.call(commands.ListDirectory, path=top)

    def found(self) -> list[str]:
        """Return what is found on the disks of all who keep shares and directories."""
        found: list[str] = []
        for node in self.grid.nodes:
            there, size = scan(node.folder, self.secrets)
            self.assertGreater(size, 100_000)
            found += [f"{node.host}: {what}" for what in there]
            opened = self.secrets.found_in(self.deciphered(node))
            found += [f"{node.host}, deciphered: {what}" for what in opened]
        return found

    def deciphered(self, node: MemoryNode) -> bytes:
        """Return all rows of the directories that a node keeps, as it sees them itself."""
        assert node.directories is not None

        def look(sql: Any) -> dict[str, list[Any]]:
            names = sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            return {name: sql.execute(f"SELECT * FROM {name}").fetchall() for (name,) in names}

        return dump(node.directories.database.read(look))

    def test_nothing_is_found(self) -> None:
        self.fill()
        self.assertEqual(self.found(), [])
        # The scan does see what is there: what anybody may know of a file and of a directory.
        public = Secrets()
        for cap in self.caps:
            if isinstance(cap, ChkCap):
                public.add_bytes(cap.storage_index, "a storage index")
        # A file is on three of the four nodes, whichever they are.
        seen = [scan(node.folder, public)[0] for node in self.grid.nodes]
        self.assertGreaterEqual(sum(map(bool, seen)), 3)
        index = next(cap.index for cap in self.caps if isinstance(cap, DirCap))
        self.assertTrue(any(index in self.deciphered(node) for node in self.grid.nodes))
        # And what is there after all of them were closed.
        folders = [node.folder for node in self.grid.nodes]
        for node in self.grid.nodes:
            node.stop()
        self.grid.nodes.clear()
        self.assertEqual([scan(folder, self.secrets)[0] for folder in folders], [[]] * 4)

    def test_whatever_is_planted_is_found(self) -> None:
        self.fill()
        path = self.grid.nodes[2].folder / "planted" / "directories.sqlite-wal"
        path.parent.mkdir()
        for needle in self.secrets.needles:
            path.write_bytes(some_bytes(5_000) + needle + bytes(9))
            self.assertTrue(scan(path.parent, self.secrets)[0], needle)
        self.assertIn("node3: planted", self.found()[0])
        path.unlink()
        named = self.grid.nodes[2].folder / NAMES["file"]
        named.mkdir()
        self.assertTrue(scan(self.grid.nodes[2].folder, self.secrets)[0])
        named.rmdir()

        def spoil(sql: Any) -> None:
            sql.execute("INSERT INTO marks VALUES ('note', ?)", (NAMES["other"].encode(),))

        directories = self.grid.nodes[1].directories
        assert directories is not None
        directories.database.call(spoil)
        self.assertIn("node2, deciphered", self.found()[0])
