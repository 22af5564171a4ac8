"""Node directories: what creation leaves, what it refuses, who may run there."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.base32 import b2a
from ampgrid.errors import BadArgumentValueError, ConfigError
from ampgrid.formats.address import Address
from ampgrid.node.config import EncodingParameters
from ampgrid.node.creation import create_introducer, create_node
from ampgrid.node.directory import NodeDirectory
from ampgrid.node.lock import DirectoryLock

ROOT = Path(__file__).parents[3]
SECRET = bytes(range(16))


def address(number: int, secret: bytes | None = SECRET) -> Address:
    return Address(bytes([number]) * 20, (("127.0.0.1", 7000 + number),), secret)


class DirectoryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)

    def refused(self, function: Callable[..., object], *args: object, **kwargs: object) -> str:
        return str(self.assertRaises(ConfigError, function, *args, **kwargs))


class CreateTests(DirectoryCase):
    def test_a_node(self) -> None:
        made = create_node(
            self.root / "a" / "node",
            introducers=[address(1), address(2).to_string(), address(3, None)],
            listen="127.0.0.1:0",
            nickname='the "blue" one {x}',
            storage=False,
            reserve=5 * 10**9,
            quota=10**12 + 1,
        )
        config = made.load_config()
        self.assertEqual(config.kind, "node")
        self.assertEqual(config.nickname, 'the "blue" one {x}')
        self.assertEqual(config.listen, ("127.0.0.1", 0))
        self.assertEqual(config.introducers, tuple(address(n, None) for n in (1, 2, 3)))
        self.assertEqual(
            (config.storage_enabled, config.reserve, config.quota), (False, 5 * 10**9, 10**12 + 1)
        )
        self.assertEqual(made.grid_secret(config), SECRET)
        self.assertNotIn(b2a(SECRET), made.config_path.read_text())
        self.assertEqual(len(made.convergence_secret()), 32)
        self.assertEqual(len(made.lease_secret()), 32)
        self.assertNotEqual(made.convergence_secret(), made.lease_secret())
        self.assertEqual(made.identity().node_id, made.identity().node_id)
        self.assertEqual(made.convergence_path.read_text().strip(), b2a(made.convergence_secret()))

    def test_nothing_is_open_to_others(self) -> None:
        made = create_node(self.root / "node")
        for path in [made.path, *made.path.rglob("*")]:
            self.assertEqual(stat.S_IMODE(path.stat().st_mode) & 0o077, 0, path)

    def test_an_introducer(self) -> None:
        made = create_introducer(
            self.root / "i", listen="[::1]:7420", shares=EncodingParameters(2, 3, 4), open_=True
        )
        config = made.load_config()
        self.assertEqual(
            (config.kind, config.listen, config.shares, config.is_open),
            ("introducer", ("::1", 7420), EncodingParameters(2, 3, 4), True),
        )
        self.assertEqual(len(made.grid_secret(config) or b""), 16)
        self.assertFalse(made.convergence_path.exists())

    def test_a_second_introducer_shares_the_secret(self) -> None:
        made = create_introducer(self.root / "i", introducers=[address(1)])
        self.assertEqual(made.grid_secret(made.load_config()), SECRET)
        self.assertRaises(
            BadArgumentValueError,
            create_introducer,
            self.root / "j",
            introducers=[address(1, None)],
        )

    def test_two_nodes_share_nothing(self) -> None:
        one, two = (create_node(self.root / name) for name in "ab")
        for file in one.private.iterdir():
            self.assertNotEqual(file.read_bytes(), (two.private / file.name).read_bytes())

    def test_introducers_of_different_grids(self) -> None:
        self.assertRaises(
            BadArgumentValueError,
            create_node,
            self.root / "n",
            introducers=[address(1), address(2, bytes(16))],
        )
        self.assertFalse((self.root / "n").exists())

    def test_an_address_without_secret_needs_open(self) -> None:
        self.assertRaises(
            BadArgumentValueError, create_node, self.root / "n", introducers=[address(1, None)]
        )
        made = create_node(self.root / "n", introducers=[address(1, None)], open_=True)
        self.assertIsNone(made.grid_secret(made.load_config()))

    def test_what_is_there_is_left_as_it_is(self) -> None:
        made = create_node(self.root / "n")
        before = {p: p.read_bytes() for p in made.path.rglob("*") if p.is_file()}
        self.assertIn("already", self.refused(create_node, made.path))
        (self.root / "full").mkdir()
        (self.root / "full" / "letter").write_text("dear")
        self.assertIn("not empty", self.refused(create_node, self.root / "full"))
        (self.root / "file").write_text("")
        self.assertIn("no directory", self.refused(create_node, self.root / "file"))
        self.assertEqual(before, {p: p.read_bytes() for p in made.path.rglob("*") if p.is_file()})

    def test_an_empty_directory_is_taken(self) -> None:
        (self.root / "n").mkdir(mode=0o755)
        made = create_node(self.root / "n")
        self.assertEqual(stat.S_IMODE(made.path.stat().st_mode), 0o700)

    def test_an_attempt_cut_short_anywhere_is_made_again(self) -> None:
        """Whatever prefix of the files a crash leaves, the next attempt succeeds."""
        order = ["node.pem", "grid-secret", "convergence", "lease-secret"]
        for count in range(len(order) + 1):
            path = self.root / str(count)
            whole = create_node(path)
            whole.config_path.unlink()
            for name in order[count:]:
                (whole.private / name).unlink()
            (whole.private / ".new-x").write_text("half")
            (whole.path / ".new-y").write_text("half")
            self.assertIn("unfinished", self.refused(whole.load_config))
            create_node(path)
            self.assertEqual(whole.load_config().kind, "node")
            self.assertFalse((whole.path / ".new-y").exists())

    def test_a_node_that_lost_its_settings_is_not_made_again(self) -> None:
        for name in ["peers.sqlite", "storage/x", "listen-port", "private/aliases"]:
            made = create_node(self.root / b2a(name.encode()))
            made.config_path.unlink()
            (made.path / name).write_text("1")
            key = made.key_path.read_bytes()
            self.assertIn("not empty", self.refused(create_node, made.path))
            self.assertEqual(made.key_path.read_bytes(), key)


class ReadTests(DirectoryCase):
    def test_no_directory(self) -> None:
        self.assertIn("create-node", self.refused(NodeDirectory.at(self.root / "x").load_config))
        self.assertIn("node.toml", self.refused(NodeDirectory.at(self.root).load_config))

    def test_secrets_open_to_others_are_refused(self) -> None:
        made = create_node(self.root / "n")
        made.convergence_path.chmod(0o644)
        self.assertIn("chmod 600", self.refused(made.convergence_secret))
        made.private.chmod(0o755)
        self.assertIn("chmod 700", self.refused(made.identity))

    def test_malformed_secrets(self) -> None:
        made = create_node(self.root / "n")
        for content in [b"", b"aaaa\n", b"\xff" * 52, b"A" * 52]:
            made.lease_secret_path.write_bytes(content)
            self.assertIn("base32", self.refused(made.lease_secret))

    def test_grid_secret_from_the_address(self) -> None:
        made = create_node(self.root / "n", introducers=[address(1)])
        text = made.config_path.read_text().replace(
            address(1, None).to_string(), address(1, bytes(16)).to_string()
        )
        made.config_path.write_text(text)
        self.assertIn("different", self.refused(made.grid_secret, made.load_config()))
        made.grid_secret_path.unlink()
        self.assertEqual(made.grid_secret(made.load_config()), bytes(16))

    def test_grid_secret_missing(self) -> None:
        made = create_node(self.root / "n", introducers=[address(1)])
        made.grid_secret_path.unlink()
        self.assertIn("missing", self.refused(made.grid_secret, made.load_config()))

    def test_listen_port(self) -> None:
        made = create_node(self.root / "n")
        self.assertIsNone(made.listen_port())
        made.keep_listen_port(4321)
        made.keep_listen_port(54321)
        self.assertEqual(made.listen_port(), 54321)
        for text in ["", "0", "65536", "-1", "x", "9" * 30]:
            made.listen_port_path.write_text(text)
            self.assertIn("port", self.refused(made.listen_port))


class LockTests(DirectoryCase):
    def test_one_node_a_directory(self) -> None:
        made = create_node(self.root / "n")
        held = made.lock()
        self.assertIn(f"process {os.getpid()}", self.refused(made.lock))
        held.release()
        held.release()
        made.lock().release()

    def test_a_lock_goes_with_its_process(self) -> None:
        path = self.root / "node.pid"
        code = "import os, sys; from pathlib import Path; from ampgrid.node.lock import *\n"
        code += "DirectoryLock(Path(sys.argv[1])); os._exit(9)"
        done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
        self.assertEqual(done.returncode, 9)
        self.assertTrue(path.read_text().strip().isdigit())
        DirectoryLock(path).release()

    def test_no_symbolic_link(self) -> None:
        (self.root / "other").write_text("precious")
        (self.root / "node.pid").symlink_to(self.root / "other")
        self.refused(DirectoryLock, self.root / "node.pid")
        self.assertEqual((self.root / "other").read_text(), "precious")
