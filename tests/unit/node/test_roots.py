"""Roots are made once and never again; aliases are named and kept."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import DirCap
from ampgrid.errors import (
    BadCapError,
    BadNameError,
    ChildExistsError,
    ConfigError,
    IntegrityError,
    NoRootError,
    NotEnoughPeersError,
)
from ampgrid.node import aliases as aliases_module
from ampgrid.node import roots as module
from ampgrid.node.aliases import Aliases, pack_aliases, read_aliases, unpack_aliases
from ampgrid.node.roots import Root, RootFile, parse_root
from ampgrid.wire import InlineThreads

ONE, TWO = DirCap.create(lambda n: b"1" * n), DirCap.create(lambda n: b"2" * n)


class Cut(BaseException):
    """The process is killed here."""


class FolderCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "private").mkdir(mode=0o700)
        self.path = self.folder / "private" / "root.cap"
        self.mark = self.folder / "root-made"

    def done(self, work: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(work))

    def fails(self, work: Any, kind: type[BaseException]) -> str:
        return str(self.failureResultOf(Deferred.fromCoroutine(work), kind).value)


class RootTests(FolderCase):
    def root(self, seed: bytes = b"r") -> Root:
        file = RootFile(self.path, self.mark)
        root = Root(file, InlineThreads(), lambda n: os.urandom(n) if seed == b"r" else seed * n)
        self.done(root.start())
        return root

    async def create(self, cap: DirCap) -> None:
        self.assertNotIn(cap, self.created)
        self.created.append(cap)

    async def exists(self, cap: DirCap) -> bool:
        return cap in self.created

    def setUp(self) -> None:
        super().setUp()
        self.created: list[DirCap] = []

    def test_it_is_made_at_its_first_use_and_kept(self) -> None:
        root = self.root()
        self.assertIsNone(root.cap)
        cap = self.done(root.made(self.create, self.exists))
        self.assertEqual(self.created, [cap])
        self.assertEqual(self.path.read_text(), cap.to_string() + "\n")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(os.listdir(self.path.parent), ["root.cap"])
        self.assertNotIn(cap.to_string(), self.mark.read_text())
        again = self.root()
        self.assertEqual(again.cap, cap)
        self.assertEqual(self.done(again.made(self.create, self.exists)), cap)
        self.assertEqual(len(self.created), 1)

    def test_the_key_is_on_the_disk_before_anything_is_made_of_it(self) -> None:
        async def create(cap: DirCap) -> None:
            draft = self.path.with_name("root.cap.new")
            self.assertEqual(draft.read_text(), cap.to_string() + "\n")
            self.assertEqual(stat.S_IMODE(draft.stat().st_mode), 0o600)
            self.assertFalse(self.path.exists())

        self.done(self.root().made(create, self.exists))

    def test_what_failed_is_begun_with_another_key(self) -> None:
        """The first set of replicas is not known any more, and there must be no second."""
        refused: list[DirCap] = []

        async def refuse(cap: DirCap) -> None:
            refused.append(cap)
            raise NotEnoughPeersError("nobody")

        root = self.root()
        self.fails(root.made(refuse, self.exists), NotEnoughPeersError)
        self.fails(root.made(refuse, self.exists), NotEnoughPeersError)
        cap = self.done(self.root().made(self.create, self.exists))
        self.assertEqual(self.created, [cap])
        self.assertEqual(len({each.index for each in [*refused, cap]}), 3)

    def test_what_was_made_and_not_noted_is_found_again(self) -> None:
        async def create(cap: DirCap) -> None:
            await self.create(cap)
            raise NotEnoughPeersError("no answer came")

        self.fails(self.root().made(create, self.exists), NotEnoughPeersError)
        cap = self.done(self.root().made(self.create, self.exists))
        self.assertEqual(self.created, [cap])

    def test_asked_for_at_once_it_is_made_once(self) -> None:
        gate: Deferred[None] = Deferred()

        async def create(cap: DirCap) -> None:
            self.created.append(cap)
            await gate

        root = self.root()
        asking = [Deferred.fromCoroutine(root.made(create, self.exists)) for _ in range(5)]
        self.assertEqual(len(self.created), 1)
        gate.callback(None)
        self.assertEqual([self.successResultOf(each) for each in asking], self.created * 5)

    def test_killed_anywhere_it_is_made_once(self) -> None:
        """Cut before and after every step that touches the disk, then start again."""
        # The draft and the mark are written whole.
        steps = [("write_whole", 1), ("write_whole", 2), ("sync_directory", 1)]
        for name, time in [*steps, ("rename", 1), ("create", 1)]:
            for after in (False, True):
                with self.subTest(name=name, time=time, after=after):
                    self._cut_at(name, time, after=after)

    def _cut_at(self, name: str, time: int, *, after: bool) -> None:
        for path in [*self.path.parent.iterdir(), self.mark]:
            path.unlink(missing_ok=True)
        self.created = []
        owner: Any = Path if name == "rename" else self if name == "create" else module
        whole = getattr(owner, name)

        times = 0

        def cut(*arguments: Any) -> Any:
            nonlocal times
            times += 1
            if times < time:
                return whole(*arguments)
            if after:
                whole(*arguments)
            raise Cut

        async def cut_create(cap: DirCap) -> None:
            if after:
                await whole(cap)
            raise Cut

        patch = self.patch(owner, name, cut_create if name == "create" else cut)
        root = self.root()
        self.failureResultOf(Deferred.fromCoroutine(root.made(self.create, self.exists)), Cut)
        patch.restore()
        cap = self.done(self.root().made(self.create, self.exists))
        self.assertEqual(self.created, [cap])
        self.assertEqual(self.root().cap, cap)
        self.assertEqual(os.listdir(self.path.parent), ["root.cap"])

    def test_a_lost_file_is_not_replaced(self) -> None:
        cap = self.done(self.root().made(self.create, self.exists))
        self.path.unlink()
        root = self.root()
        self.assertIn("recovery", self.fails(root.made(self.create, self.exists), ConfigError))
        self.assertEqual(self.created, [cap])
        self.mark.unlink()
        self.assertNotEqual(self.done(self.root().made(self.create, self.exists)), cap)

    def test_a_file_that_cannot_be_used_is_left_as_it_is(self) -> None:
        for content, mode in [
            (b"URI:DIR:x", 0o600),
            (ONE.to_string().encode(), 0o644),
            (b"", 0o600),
        ]:
            self.path.write_bytes(content)
            self.path.chmod(mode)
            root = self.root()
            self.assertIn("root.cap", self.fails(root.made(self.create, self.exists), ConfigError))
            self.assertNotIn("URI:DIR", root.error)
            self.assertEqual(self.path.read_bytes(), content)
        self.assertEqual(self.created, [])

    def test_one_that_was_told_is_kept_and_another_refused(self) -> None:
        root = self.root()
        self.assertTrue(self.done(root.take(ONE)))
        self.assertFalse(self.done(root.take(ONE)))
        self.fails(root.take(TWO), IntegrityError)
        self.assertEqual(self.root().cap, ONE)

    def test_only_directories_are_roots(self) -> None:
        self.assertEqual(parse_root(ONE.to_string()), ONE)
        self.assertEqual(parse_root(ONE.get_readonly().to_string()), ONE.get_readonly())
        for text in ["", "URI:LIT:", ONE.get_verify_cap().to_string()]:
            self.assertRaises(BadCapError, parse_root, text)


class AliasTests(FolderCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.folder / "private" / "aliases"

    def aliases(self) -> Aliases:
        found = Aliases(self.path, InlineThreads())
        self.done(found.start())
        return found

    def test_added_told_and_removed(self) -> None:
        aliases = self.aliases()
        self.assertEqual((aliases.all(), aliases.get("friends")), ([], None))
        self.done(aliases.add("friends", ONE))
        self.done(aliases.add("friends", ONE))
        self.done(aliases.add("books", TWO.get_readonly()))
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        for each in (aliases, self.aliases()):
            self.assertEqual(each.all(), [("books", TWO.get_readonly()), ("friends", ONE)])
            self.assertEqual(each.get("friends"), ONE)
        self.assertEqual(self.done(aliases.remove("friends")), ONE)
        self.assertEqual(self.aliases().all(), [("books", TWO.get_readonly())])

    def test_a_name_stands_for_one_directory(self) -> None:
        aliases = self.aliases()
        self.done(aliases.add("a", ONE))
        self.fails(aliases.add("a", TWO), ChildExistsError)
        self.fails(aliases.remove("b"), NoRootError)
        self.assertEqual(self.aliases().get("a"), ONE)

    def test_names(self) -> None:
        aliases = self.aliases()
        for name in ["", "private", "Public", "URI", "uri", "a b", "a/b", "a:b", "-a", "a" * 65]:
            self.fails(aliases.add(name, ONE), BadNameError)
        for name in ["a", "A1", "a-b_c.d", "7"]:
            self.done(aliases.add(name, ONE))

    def test_what_was_written_by_hand_stays(self) -> None:
        aliases = self.aliases()
        self.path.write_text(f"# mine\n\nhand:  {ONE.to_string()} \n")
        self.path.chmod(0o600)
        self.done(aliases.add("other", TWO))
        self.assertEqual([name for name, _ in self.aliases().all()], ["hand", "other"])

    def test_a_damaged_file_is_left_as_it_is(self) -> None:
        content = f"a: {ONE.to_string()}\nb: URI:DIR:x\n"
        self.path.write_text(content)
        self.path.chmod(0o600)
        aliases = self.aliases()
        self.assertIn("line 2", aliases.error)
        self.assertNotIn("URI", aliases.error)
        self.assertRaises(ConfigError, aliases.get, "a")
        self.fails(aliases.add("c", TWO), ConfigError)
        self.assertEqual(self.path.read_text(), content)

    def test_killed_while_writing_all_or_nothing_is_there(self) -> None:
        aliases = self.aliases()
        self.done(aliases.add("a", ONE))

        def cut(*_: Any) -> None:
            raise Cut

        self.patch(aliases_module, "write_whole", cut)
        self.failureResultOf(Deferred.fromCoroutine(aliases.add("b", TWO)), Cut)
        self.assertEqual(list(read_aliases(self.path)), ["a"])
        self.assertIsNone(aliases.get("b"))

    def test_packed_and_unpacked(self) -> None:
        packed = pack_aliases({"b": ONE, "a": TWO})
        self.assertEqual(list(unpack_aliases(packed, "x")), ["a", "b"])
        twice = packed + packed
        self.assertRaises(ConfigError, unpack_aliases, twice, "x")
