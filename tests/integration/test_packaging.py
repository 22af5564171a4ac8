"""What is built from the tree works elsewhere: sdist, wheel from the sdist, commands, plugin."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid import __version__

ROOT = Path(__file__).parents[2]
#: What is put beside Twisted's own plugins: no package of ours.
PLUGINS = ROOT / "ampgrid" / "node" / "dropin"


def run(words: list[str], place: Path, *path: Path) -> str:
    """Run a program in ``place`` with nothing but ``path`` before the installed packages."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
    done = subprocess.run(
        words, cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(f"{words} ended with {done.returncode}: {done.stderr[-3000:]}")
    return done.stdout


class PackagingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)

    def test_every_room_is_a_package(self) -> None:
        """setuptools leaves out, without a word, what has no __init__.py."""
        rooms = {
            path.parent
            for path in (ROOT / "ampgrid").rglob("*.py")
            if not path.is_relative_to(PLUGINS)
        }
        self.assertEqual([room for room in rooms if not (room / "__init__.py").exists()], [])
        self.assertEqual(list(PLUGINS.rglob("__init__.py")), [])

    def test_built_and_installed_elsewhere(self) -> None:
        tree, built, installed = (self.root / name for name in ("tree", "built", "installed"))
        names = ["setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"]
        tree.mkdir()
        for name in names:
            shutil.copy(ROOT / name, tree)
        for name in ["ampgrid", "commands"]:
            shutil.copytree(
                ROOT / name,
                tree / name,
                symlinks=True,
                ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"),
            )
        # First the sdist, then the wheel from it.
        run([sys.executable, "-m", "build", "-n", "-o", str(built), str(tree)], self.root)
        (sdist,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
        with tarfile.open(sdist) as packed:
            self.assertTrue(
                any(n.endswith("/ampgrid/commands/storage.py") for n in packed.getnames())
            )
        with zipfile.ZipFile(wheel) as packed_wheel:
            self.check_wheel(packed_wheel)
            packed_wheel.extractall(installed)
        ask = "import ampgrid.commands.storage as s, ampgrid.cli.main as m; print(s.__file__)"
        where = run([sys.executable, "-c", ask], self.root, installed)
        self.assertEqual(where.strip(), str(installed / "ampgrid" / "commands" / "storage.py"))
        version = run([sys.executable, "-m", "ampgrid", "--version"], self.root, installed)
        self.assertEqual(version, f"ampgrid {__version__}\n")
        listed = run([sys.executable, "-m", "twisted", "--help"], self.root, installed)
        self.assertIn("A node of an ampgrid", listed)

    def check_wheel(self, wheel: zipfile.ZipFile) -> None:
        names = set(wheel.namelist())
        for path in (ROOT / "ampgrid").rglob("*.py"):
            if not path.is_relative_to(PLUGINS):
                self.assertIn(path.relative_to(ROOT).as_posix(), names)
        for path in (ROOT / "commands").glob("*.py"):
            self.assertIn(f"ampgrid/commands/{path.name}", names)
        self.assertIn("ampgrid/py.typed", names)
        tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
        self.assertEqual(tops, {"ampgrid", "twisted"})
        # Nothing of Twisted's is put over: one new module, and no __init__.py.
        beside = {name for name in names if name.startswith("twisted/")}
        self.assertEqual(beside, {"twisted/plugins/ampgrid_plugin.py"})
