"""The reference pages name every command, option and key, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import click
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.cli.main import SUBCOMMANDS, cli
from ampgrid.node.config import _KNOWN

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


def sections(page: str) -> dict[str, str]:
    """Return {first word of the heading: text} of a page."""
    parts = re.split(r"^## (.+)$", (REFERENCE / page).read_text("utf-8"), flags=re.MULTILINE)
    return {head.split()[0]: text for head, text in zip(parts[1::2], parts[2::2], strict=True)}


def table_keys(text: str) -> list[str]:
    """Return what stands in backticks at the start of each row."""
    return re.findall(r"^\| `([^ `]+)", text, flags=re.MULTILINE)


class ReferenceTests(SynchronousTestCase):
    def test_every_command_and_option(self) -> None:
        pages = sections("command-line.md")
        self.assertEqual(list(pages), list(SUBCOMMANDS))
        context = click.Context(cli)
        for name, text in pages.items():
            command = cli.get_command(context, name)
            assert command is not None
            # What several subcommands of a group have alike stands there once.
            inner = command.commands.values() if isinstance(command, click.Group) else []
            options = {
                parameter.opts[0]
                for each in (command, *inner)
                for parameter in each.params
                if isinstance(parameter, click.Option) and not parameter.hidden
            }
            own = options - {"--json", "--help"}
            self.assertEqual(sorted(table_keys(text)), sorted(own), name)

    def test_the_json_of_every_command_is_described(self) -> None:
        context = click.Context(cli)
        for name, text in sections("command-line.md").items():
            command = cli.get_command(context, name)
            assert command is not None
            inner = command.commands.values() if isinstance(command, click.Group) else [command]
            if any("--json" in option.opts for each in inner for option in each.params):
                self.assertIn("JSON", text.replace("--json", "JSON"), name)

    def test_every_key_of_node_toml(self) -> None:
        pages = sections("node-toml.md")
        for table, keys in _KNOWN.items():
            self.assertEqual(table_keys(pages[f"[{table}]"]), list(keys))
