"""Imports that wait: what packages offer is what they say, and nothing is loaded too soon."""

from __future__ import annotations

import ast
import importlib
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.lazily import postpone

ROOT = Path(__file__).parents[2]


def offering() -> dict[str, ast.Module]:
    """Return the packages that offer names by `ampgrid.lazily.names_of`, parsed."""
    found = {}
    for path in sorted((ROOT / "ampgrid").glob("*/__init__.py")):
        text = path.read_text("utf-8")
        if "names_of(" in text:
            found[f"ampgrid.{path.parent.name}"] = ast.parse(text)
    return found


def for_readers(package: str, tree: ast.Module) -> dict[str, set[str]]:
    """Return what a package imports of itself for the checks of types, {module: names}."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {
        node.module.removeprefix(f"{package}."): {alias.name for alias in node.names}
        for node in imports
        if node.module and node.module.startswith(f"{package}.")
    }


def for_users(tree: ast.Module) -> dict[str, set[str]]:
    """Return what a package gives when it is asked, {module: names}."""
    (call,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "names_of"
    ]
    return {module: set(names) for module, names in ast.literal_eval(call.args[1]).items()}


class NamesTests(SynchronousTestCase):
    def test_what_is_checked_is_what_is_given(self) -> None:
        packages = offering()
        self.assertGreaterEqual(len(packages), 4)
        for name, tree in packages.items():
            self.assertEqual(for_readers(name, tree), for_users(tree), name)

    def test_all_that_is_offered_is_there(self) -> None:
        for name, tree in offering().items():
            package = importlib.import_module(name)
            given = set().union(*for_users(tree).values())
            self.assertLessEqual(given, set(package.__all__))
            for offered in package.__all__:
                self.assertTrue(hasattr(package, offered), f"{name}.{offered}")
            self.assertFalse(hasattr(package, "nothing_of_this_name"))


class PostponeTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        package = Path(folder.name) / "postponed_package"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "part.py").write_text("value = 4\nothers = [value]\n")
        (package / "broken.py").write_text("raise RuntimeError('loaded')\n")
        sys.path.insert(0, folder.name)
        self.addCleanup(sys.path.remove, folder.name)
        self.addCleanup(self.forget)

    def forget(self) -> None:
        for name in [n for n in sys.modules if n.partition(".")[0] == "postponed_package"]:
            del sys.modules[name]

    def test_it_is_loaded_when_it_is_used(self) -> None:
        postpone("postponed_package", "broken")
        from postponed_package import broken  # type: ignore[import-not-found]

        # To import it is not to use it.
        with self.assertRaisesRegex(RuntimeError, "loaded"):
            _ = broken.value

    def test_what_is_used_is_whole(self) -> None:
        postpone("postponed_package", "part")
        from postponed_package import part

        self.assertEqual((part.value, part.others), (4, [4]))

    def test_what_is_there_stays(self) -> None:
        part = importlib.import_module("postponed_package.part")
        postpone("postponed_package", "part")
        self.assertIs(sys.modules["postponed_package.part"], part)

    def test_what_is_nowhere_is_left_alone(self) -> None:
        postpone("postponed_package", "nothing")
        self.assertNotIn("postponed_package.nothing", sys.modules)
