"""The Commands are imported under one name: two copies of one class break AMP's error maps."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import ampgrid

ROOT = Path(ampgrid.__file__).resolve().parent.parent
#: Directories that hold no source of this repository.
OTHERS = {"build", "dist", "node_modules"}


def sources() -> Iterator[Path]:
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).parts
        if not any(part.startswith(".") or part in OTHERS for part in parts):
            yield path


def bare_imports(text: str) -> list[int]:
    """The lines that import the Commands as a top-level package."""
    lines = []
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name | ast.Attribute)
            and (node.func.id if isinstance(node.func, ast.Name) else node.func.attr)
            in ("import_module", "__import__", "namedAny", "namedModule")
        ):
            names = [
                each.value
                for each in node.args
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            ]
        if any(name == "commands" or name.startswith("commands.") for name in names):
            lines.append(node.lineno)
    return lines


class ImportTest(SynchronousTestCase):
    def test_what_is_looked_for_is_found(self) -> None:
        for text in (
            "import commands",
            "import os, commands.storage as s",
            "from commands import storage",
            "def f():\n    from commands.errors import WireError",
            "importlib.import_module('commands.errors')",
            "__import__('commands')",
        ):
            self.assertEqual(len(bare_imports(text)), 1, text)
        for text in ("from ampgrid import commands", "from . import commands", "import commandsx"):
            self.assertEqual(bare_imports(text), [], text)

    def test_nobody_imports_bare_commands(self) -> None:
        found = {
            str(path.relative_to(ROOT)): lines
            for path in sources()
            if (lines := bare_imports(path.read_text(encoding="utf-8")))
        }
        self.assertEqual(found, {})

    def test_the_two_names_are_one_directory(self) -> None:
        link = ROOT / "ampgrid" / "commands"
        self.assertTrue(link.is_symlink())
        self.assertEqual(link.resolve(), (ROOT / "commands").resolve())

    def test_importing_everything_leaves_one_copy(self) -> None:
        """In a process of its own, with the repository's root first in the path."""
        program = (
            "import pkgutil, sys, ampgrid\n"
            "for found in pkgutil.walk_packages(ampgrid.__path__, 'ampgrid.'):\n"
            "    if not found.name.endswith('__main__'):\n"
            "        try:\n"
            "            __import__(found.name)\n"
            "        except ModuleNotFoundError as error:\n"
            "            if (error.name or '').startswith('ampgrid'):\n"
            "                raise\n"
            "bare = [name for name in sys.modules if name.partition('.')[0] == 'commands']\n"
            "assert not bare, bare\n"
            "assert 'ampgrid.commands.storage' in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
