"""The program on the page about Python is run as its reader would run it."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.integration.processes import ROOT, TWO_OF_FOUR, GridCase, ampgrid, environment, finish

PAGE = ROOT / "docs" / "reference" / "python.md"


class PythonPageTests(GridCase):
    words = TWO_OF_FOUR

    def test_the_first_program(self) -> None:
        (program, *_others) = re.findall(
            r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
        )
        self.assertLessEqual(len(program.splitlines()), 10)
        script, node = self.place / "first.py", self.place / "node"
        script.write_text(program)
        introducer = self.grid.ready["introducer"]["dir"]
        address = ampgrid("-d", introducer, "address").out
        made = ampgrid("create-node", node, "--introducer", "-", stdin=address)
        self.assertEqual(made.status, 0, made.err)
        for _again in range(2):
            process = subprocess.Popen(
                [sys.executable, script, node],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            done = finish(process)
            self.assertEqual((done.status, done.text, done.err), (0, "hello.txt", ""))
