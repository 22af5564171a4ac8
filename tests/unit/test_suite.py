"""The suite itself: that its assertions can fail."""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

TESTS = Path(__file__).parents[1]
#: What the assertions of a test case are made of.
MEANS = {"fail", "failureException"}


def hidden_means(source: str) -> list[str]:
    """Return where test cases of a module have something else in the place of such a means."""
    nodes = ast.walk(ast.parse(source))
    classes = [node for node in nodes if isinstance(node, ast.ClassDef) and is_case(node)]
    return [
        f"{each.name}.{member.name}"
        for each in classes
        for member in each.body
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and member.name in MEANS
    ]


def is_case(node: ast.ClassDef) -> bool:
    """Tell by its name, or by that of what it is made of, whether a class is a test case."""
    names = [node.name, *map(ast.unparse, node.bases)]
    return any(name.endswith(("Case", "Test", "Tests", "Contract")) for name in names)


class AssertionTests(SynchronousTestCase):
    def test_no_case_has_a_method_that_its_assertions_call(self) -> None:
        """With a `fail` of one's own two lists are equal whatever is in them."""
        self.assertEqual(hidden_means("class ACase:\n def fail(self): 0"), ["ACase.fail"])
        for path in TESTS.rglob("*.py"):
            source = path.read_text("utf-8")
            if any(f"def {name}(" in source for name in MEANS):
                self.assertEqual(hidden_means(source), [], path)
