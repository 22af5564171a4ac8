"""What ``ampgrid demo`` refuses before it starts anything."""

from __future__ import annotations

from tests.unit.cli.command_line import CommandLineCase


class RefusalTests(CommandLineCase):
    def test_what_is_no_file(self) -> None:
        self.assertIn("is a directory", self.refused(8, "demo", self.root))
        told = self.refused(8, "demo", self.root / "none")
        self.assertIn("No such file or directory", told)
