"""Recovery files: what comes back, what is refused, and that a crash leaves nothing half made."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import ChkVerifierCap, DirCap
from ampgrid.crypto.identity import Identity
from ampgrid.crypto.sealed import Cost
from ampgrid.errors import (
    BadArgumentValueError,
    ConfigError,
    FileError,
    FormatError,
    IntegrityError,
)
from ampgrid.formats.announcement import sign
from ampgrid.formats.recovery import KeptFile, Recovery
from ampgrid.node import newdirectory
from ampgrid.node import recovery as module
from ampgrid.node.aliases import pack_aliases, read_aliases
from ampgrid.node.creation import create_introducer, create_node
from ampgrid.node.directory import NodeDirectory, write_whole
from ampgrid.node.recovery import (
    Known,
    export_to,
    gather,
    known_at_rest,
    note_export,
    read_export,
    restore,
)
from ampgrid.node.reminder import Reminder, exported_at
from ampgrid.node.roots import RootFile
from ampgrid.store.peerdb import PeerDatabase

CHEAP = Cost(passes=1, memory_kib=64, lanes=2)
NOW = 1_800_000_000
PASSPHRASE = "correct horse"
PEER = Identity.create()
ANNOUNCEMENT = sign(PEER, sequence=3, nickname="peer", addresses=["192.0.2.1:7420"])


def kept(number: int = 1) -> KeptFile:
    cap = ChkVerifierCap(bytes([number]) * 16, bytes([number]) * 32, 3, 10, 1000 * number)
    return KeptFile(cap, 7, NOW - number)


KNOWN = Known((ANNOUNCEMENT,), (2, 3, 4), (kept(1), kept(2)))


class RecoveryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.node = create_node(self.root / "old", nickname="blue")
        self.node.keep_listen_port(7421)

    def gathered(self, **changes: object) -> Recovery:
        return evolve(gather(self.node, KNOWN, NOW), **changes)

    def secrets_of(self, directory: NodeDirectory) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in directory.private.iterdir()}


class ExportTests(RecoveryCase):
    def test_all_comes_back(self) -> None:
        file = self.root / "file"
        export_to(file, self.gathered(), PASSPHRASE, CHEAP)
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        made = restore(self.root / "new", read_export(file, PASSPHRASE))
        self.assertEqual(self.secrets_of(made), self.secrets_of(self.node))
        self.assertEqual(made.config_path.read_bytes(), self.node.config_path.read_bytes())
        self.assertEqual(made.identity().node_id, self.node.identity().node_id)
        self.assertEqual(made.listen_port(), 7421)
        self.assertEqual(known_at_rest(made), KNOWN)
        self.assertEqual(exported_at(made), NOW)
        for path in [made.path, *made.path.rglob("*")]:
            self.assertEqual(stat.S_IMODE(path.stat().st_mode) & 0o077, 0, path)
        self.assertFalse((made.path / ".new-import").exists())

    def test_what_it_gives_is_given_again(self) -> None:
        made = restore(self.root / "new", self.gathered(others={"blob-indexes": b"later"}))
        again = gather(made, known_at_rest(made), NOW)
        self.assertEqual(again, self.gathered(others={"blob-indexes": b"later"}))

    def test_an_introducer(self) -> None:
        introducer = create_introducer(self.root / "i", listen="127.0.0.1:7420")
        found = gather(introducer, known_at_rest(introducer), NOW)
        self.assertIsNone(found.convergence)
        made = restore(self.root / "new", Recovery.unpack(found.pack()))
        self.assertEqual(self.secrets_of(made), self.secrets_of(introducer))
        self.assertFalse(made.storage.exists())

    def test_no_byte_of_a_secret_is_in_the_file(self) -> None:
        file = self.root / "file"
        export_to(file, self.gathered(), PASSPHRASE, CHEAP)
        data = file.read_bytes()
        for secret in [self.node.key_path.read_bytes()[30:60], self.node.lease_secret()]:
            self.assertNotIn(secret, data)

    def test_it_replaces_an_older_one_whole(self) -> None:
        file = self.root / "file"
        file.write_text("old")
        file.chmod(0o644)
        export_to(file, self.gathered(), PASSPHRASE, CHEAP)
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        self.assertEqual(read_export(file, PASSPHRASE), self.gathered())
        self.assertEqual(sorted(os.listdir(self.root)), ["file", "old"])

    def test_what_cannot_be_exported(self) -> None:
        file = self.root / "file"
        found = self.gathered()
        self.assertRaises(BadArgumentValueError, export_to, file, found, "seven77", CHEAP)
        self.assertRaises(FileError, export_to, self.root, found, PASSPHRASE, CHEAP)
        self.assertRaises(FileError, export_to, file / "x", found, PASSPHRASE, CHEAP)
        self.assertFalse(file.exists())
        self.node.private.chmod(0o755)
        self.assertRaises(ConfigError, self.gathered)

    def test_only_a_file_is_replaced_and_nothing_is_sealed_for_another(self) -> None:
        found, out = self.gathered(), self.root / "out"
        out.mkdir()
        os.mkfifo(out / "fifo")
        (out / "to-fifo").symlink_to("fifo")
        (out / "loop").symlink_to("loop")
        before = {path: path.lstat() for path in out.iterdir()}

        def never(*_args: object, **_how: object) -> bytes:
            raise AssertionError("sealed for nothing")

        sealing = self.patch(module, "seal", never)
        for path in before:
            self.assertRaises(FileError, export_to, path, found, PASSPHRASE, CHEAP)
        sealing.restore()
        self.assertEqual({path: path.lstat() for path in out.iterdir()}, before)
        (out / "link").symlink_to(self.root / "far")
        export_to(out / "link", found, PASSPHRASE, CHEAP)
        self.assertTrue((out / "link").is_symlink())
        self.assertEqual(read_export(self.root / "far", PASSPHRASE), found)

    def test_a_file_that_asks_for_too_much_work_is_not_opened(self) -> None:
        def never(*_args: object) -> bytes:
            raise AssertionError("all that work was done")

        file = self.root / "file"
        export_to(file, self.gathered(), PASSPHRASE, CHEAP)
        sealed = file.read_bytes()
        self.patch(module, "open_sealed", never)
        mib = 1024
        for passes, memory in ((16, 2048 * mib), (1, 256 * mib + 1), (13, 64 * mib), (2**31, 8)):
            file.write_bytes(
                sealed[:10] + passes.to_bytes(4, "big") + memory.to_bytes(4, "big") + sealed[18:]
            )
            error = self.assertRaises(IntegrityError, read_export, file, PASSPHRASE)
            self.assertIn("more than any export", str(error))

    def test_what_does_not_open(self) -> None:
        file = self.root / "file"
        self.assertRaises(FileError, read_export, file, PASSPHRASE)
        export_to(file, self.gathered(), PASSPHRASE, CHEAP)
        self.assertRaises(IntegrityError, read_export, file, PASSPHRASE + "x")
        file.write_bytes(file.read_bytes()[:-1])
        self.assertRaises(IntegrityError, read_export, file, PASSPHRASE)

    def test_some_other_file(self) -> None:
        file = self.root / "photo"
        file.write_bytes(b"\xff" * 10_000)
        error = self.assertRaises(IntegrityError, read_export, file, PASSPHRASE)
        self.assertIn("of another kind", str(error))


class RootsTests(RecoveryCase):
    """The roots and aliases of a node go along."""

    ROOT, PUBLIC, OTHER = (DirCap.create(lambda n, b=b: b * n) for b in (b"r", b"p", b"o"))

    def setUp(self) -> None:
        super().setUp()
        RootFile(self.node.root_path).write(self.ROOT)
        RootFile(self.node.public_root_path).write(self.PUBLIC)
        write_whole(self.node.aliases_path, pack_aliases({"other": self.OTHER.get_readonly()}))

    def test_they_come_back(self) -> None:
        made = restore(self.root / "new", Recovery.unpack(self.gathered().pack()))
        self.assertEqual(self.secrets_of(made), self.secrets_of(self.node))
        self.assertEqual(RootFile(made.root_path, made.root_mark_path).read(), self.ROOT)
        self.assertEqual(read_aliases(made.aliases_path), {"other": self.OTHER.get_readonly()})
        self.assertEqual(gather(made, known_at_rest(made), NOW), self.gathered())
        for path in made.private.iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)

    def test_a_root_that_is_being_made_does_not_go_along(self) -> None:
        self.node.root_path.rename(self.node.root_path.with_name("root.cap.new"))
        self.assertIsNone(self.gathered().private_root)

    def test_a_root_that_is_unusable_is_told_of(self) -> None:
        self.node.root_path.write_text("x")
        self.assertRaises(ConfigError, self.gathered)

    def test_what_is_no_root_is_refused(self) -> None:
        verify = self.ROOT.get_verify_cap().to_string()
        for number, changes in enumerate(
            [{"private_root": verify}, {"public_root": "x"}, {"aliases": b"a: b"}]
        ):
            path = self.root / f"new{number}"
            with self.assertRaises((FormatError, ConfigError)):
                restore(path, self.gathered(**changes))
            self.assertFalse((path / "node.toml").exists())

    def test_what_an_older_version_could_only_keep_is_taken_up(self) -> None:
        plain = self.gathered(private_root=None, public_root=None, aliases=None)
        made = restore(self.root / "new", plain)
        whole = self.gathered()
        for name, text in [
            ("private-root", (whole.private_root or "").encode()),
            ("public-root", (whole.public_root or "").encode()),
            ("aliases", whole.aliases or b""),
        ]:
            write_whole(made.private / f"section-{name}", text)
        self.assertEqual(gather(made, known_at_rest(made), NOW), whole)
        self.assertEqual(RootFile(made.root_path).read(), self.ROOT)
        # One of its own stays, and the other is neither lost nor in the way.
        write_whole(made.private / "section-private-root", self.OTHER.to_string().encode())
        self.assertEqual(gather(made, known_at_rest(made), NOW), whole)
        self.assertTrue((made.private / "section-private-root").exists())


class RestoreTests(RecoveryCase):
    def test_what_is_there_is_left_as_it_is(self) -> None:
        before = self.secrets_of(self.node)
        self.assertRaises(ConfigError, restore, self.node.path, self.gathered())
        self.assertEqual(self.secrets_of(self.node), before)
        full = self.root / "full"
        full.mkdir()
        (full / "x").write_text("mine")
        self.assertRaises(ConfigError, restore, full, self.gathered())
        self.assertEqual(os.listdir(full), ["x"])

    def test_cut_short_anywhere_it_is_no_node_and_can_be_done_again(self) -> None:
        class Cut(BaseException):
            pass

        found = self.gathered(
            private_root=RootsTests.ROOT.to_string(),
            aliases=b"",
            others={"blob-indexes": b"later"},
        )
        steps = 0

        def counted(name: str, function, module_=module):
            def step(*arguments):
                nonlocal steps
                steps += 1
                if steps == last:
                    raise Cut
                return function(*arguments)

            self.patch(module_, name, step)

        real = {
            (m, n): getattr(m, n)
            for m, n in [
                (module, "write_secret_file"),
                (module, "PeerDatabase"),
                (module, "KeptDatabase"),
                (module, "note_export"),
                (newdirectory, "write_secret_file"),
                (newdirectory, "write_whole"),
                (newdirectory, "sync_directory"),
            ]
        }
        path = self.root / "new"
        for last in range(1, 50):  # noqa: B007 - read by the steps
            steps = 0
            for (owner, name), function in real.items():
                counted(name, function, owner)
            try:
                restore(path, found)
            except Cut:
                made = NodeDirectory.at(path)
                if not made.config_path.exists():
                    self.assertRaises(ConfigError, made.load_config)
                    continue
            break
        else:
            self.fail("it never came to its end")
        # Key, three secrets, the mark, a section, two databases, the note, node.toml; then a sync.
        self.assertGreaterEqual(last, 11)
        self.assertEqual(known_at_rest(NodeDirectory.at(path)), KNOWN)
        self.assertEqual(NodeDirectory.at(path).load_config().nickname, "blue")

    def test_a_node_that_ran_is_never_taken_for_an_unfinished_import(self) -> None:
        made = restore(self.root / "new", self.gathered())
        made.lock().release()
        made.config_path.unlink()
        (made.path / ".new-import").write_text("")
        self.assertRaises(ConfigError, restore, made.path, self.gathered())
        self.assertTrue(made.key_path.exists())

    def test_announcements_that_do_not_hold_are_left_out(self) -> None:
        own = sign(self.node.identity(), sequence=9)
        forged = ANNOUNCEMENT[:-1] + bytes([ANNOUNCEMENT[-1] ^ 1])
        found = self.gathered(announcements=(own, forged, b"junk", ANNOUNCEMENT))
        made = restore(self.root / "new", found)
        database = PeerDatabase(made.peers_path)
        rows = database.load()
        database.close()
        self.assertEqual([row[:3] for row in rows], [(PEER.node_id, 3, ANNOUNCEMENT)])

    def test_what_contradicts_itself(self) -> None:
        for changes in [{"convergence": None}, {"lease_secret": None}]:
            self.assertRaises(FormatError, restore, self.root / "new", self.gathered(**changes))
        for changes in [{"settings": "version = 2\n"}, {"node_key": b"no key"}]:
            self.assertRaises(ConfigError, restore, self.root / "new", self.gathered(**changes))
        self.assertFalse((self.root / "new").exists())


class ReminderTests(RecoveryCase):
    def test_never(self) -> None:
        told = Reminder(self.node).status()
        self.assertEqual((told["exported_at"], told["kept_added_since"]), (None, None))
        self.assertIn("recovery export", told["reminder"])

    def test_done(self) -> None:
        note_export(self.node, NOW + 0.5)
        told = Reminder(self.node).status()
        self.assertEqual(told, {"exported_at": NOW, "kept_added_since": None, "reminder": ""})
        told = Reminder(self.node, lambda _: 0).status()
        self.assertEqual(told, {"exported_at": NOW, "kept_added_since": 0, "reminder": ""})

    def test_more_was_put_since(self) -> None:
        note_export(self.node, NOW + 0.5)
        asked = []
        told = Reminder(self.node, lambda at: asked.append(at) or 3).status()
        self.assertEqual((asked, told["kept_added_since"]), ([NOW + 0.5], 3))
        self.assertIn("3 files were put since the last export, on 2027-01-15", told["reminder"])

    def test_a_mark_that_is_none(self) -> None:
        for text in [
            "",
            "[]",
            "{}",
            '{"exported_at": "x"}',
            '{"exported_at": true}',
            '{"exported_at": 1e300}',
            "\udcff",
        ]:
            self.node.exported_path.write_bytes(text.encode("utf-8", "surrogateescape"))
            self.assertIsNone(exported_at(self.node), text)
