"""Modules have one subject, and functions one task: neither grows without end."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]
#: Where the project's Python is; `ampgrid/commands` is `commands` under its second name.
ROOMS = ("ampgrid", "commands", "docs", "examples", "tests")
#: The most lines of a module, and of a function from its `def` to its end, docstring and all.
MOST_OF_A_MODULE = 600
MOST_OF_A_FUNCTION = 60


def long_functions(source: str, most: int) -> Iterator[str]:
    """Yield the functions of a module that have more lines than ``most``, by their full names."""

    def look(node: ast.AST, inside: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            name = inside
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{inside}.{child.name}".lstrip(".")
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                assert child.end_lineno is not None
                if child.end_lineno - child.lineno + 1 > most:
                    yield name
            yield from look(child, name)

    yield from look(ast.parse(source), "")


def modules() -> Iterator[tuple[str, str]]:
    """Yield the path, from the root, and the source of every module."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")


class SizeTests(SynchronousTestCase):
    def test_no_module_is_longer_than_it_may_be(self) -> None:
        long = [path for path, source in modules() if source.count("\n") > MOST_OF_A_MODULE]
        self.assertEqual(long, [])

    def test_no_function_is_longer_than_it_may_be(self) -> None:
        long = [
            f"{path}: {name}"
            for path, source in modules()
            for name in long_functions(source, MOST_OF_A_FUNCTION)
        ]
        self.assertEqual(long, [])

    def test_what_is_looked_at(self) -> None:
        """Every room, and every function in it: of classes, of functions, and coroutines."""
        rooms = {path.partition("/")[0] for path, _ in modules()}
        self.assertEqual(rooms, set(ROOMS))
        source = (
            "class A:\n"
            "    async def b(self):\n"
            "        def c():\n"
            '            """It\n'
            '            counts."""\n'
            "def d():\n"
            "    if 1:\n"
            "        e = lambda: 0\n"
            "def f(): 0\n"
        )
        self.assertEqual([*long_functions(source, 1)], ["A.b", "A.b.c", "d"])
        self.assertEqual([*long_functions(source, 3)], ["A.b"])
        self.assertEqual([*long_functions(source, 4)], [])
