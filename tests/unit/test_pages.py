"""What pages tell of the code besides numbers: services, databases, files, campaigns."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.node import core, directory, drive
from ampgrid.node.directory import NodeDirectory
from ampgrid.peers.keeping import INTRODUCER_SERVICE
from ampgrid.store.backupdb import BACKUP_SCHEMA
from ampgrid.store.directory_schema import DIRECTORY_SCHEMA
from ampgrid.store.keptdb import KEPT_SCHEMA
from ampgrid.store.peerdb import PEERS_SCHEMA
from ampgrid.store.rememberdb import REMEMBER_SCHEMA
from ampgrid.store.schema import SHARES_SCHEMA
from ampgrid.store.servedblob_schema import SERVED_BLOBS_SCHEMA

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def text_of(page: str) -> str:
    return (DOCS / page).read_text("utf-8")


class PageTests(SynchronousTestCase):
    def test_no_line_stands_twice_in_a_row(self) -> None:
        for page in DOCS.rglob("*.md"):
            lines = page.read_text("utf-8").splitlines()
            twice = [one for one, other in pairwise(lines) if one == other]
            # In an example one output may follow another that is the same.
            self.assertEqual([line for line in twice if len(line) > 20], [], page.name)

    def test_the_services_of_a_node(self) -> None:
        services = {
            core.STORAGE_SERVICE,
            core.BLOB_SERVICE,
            drive.VDRIVE_SERVICE,
            INTRODUCER_SERVICE,
        }
        [row] = re.findall(r"^\| `services` .*$", text_of("specs/wire.md"), re.MULTILINE)
        today = r"^The services of today .*$"
        [line] = re.findall(today, text_of("specs/identity.md"), re.MULTILINE)
        self.assertEqual(set(re.findall(r"`(\w+)`", row)) - {"services"}, services)
        self.assertEqual(set(re.findall(r"`(\w+)`", line)), services)

    def test_the_databases_of_a_node(self) -> None:
        page = text_of("specs/store.md")
        for name, schema in (
            ("store.db", SHARES_SCHEMA),
            ("peers.sqlite", PEERS_SCHEMA),
            ("kept.sqlite", KEPT_SCHEMA),
            ("storage/directories.sqlite", DIRECTORY_SCHEMA),
            ("blobs.sqlite", SERVED_BLOBS_SCHEMA),
            ("remembered.sqlite", REMEMBER_SCHEMA),
            ("private/backup.sqlite", BACKUP_SCHEMA),
        ):
            told = f"application id `{schema.application_id:#x}`, version {schema.version}"
            lines = [line for line in page.splitlines() if f"`{name}`" in line and told in line]
            self.assertEqual(len(lines), 1, name)

    def test_the_tables_that_a_page_has_in_a_table(self) -> None:
        page = text_of("specs/store.md")
        for heading, schema in (
            ("The database", SHARES_SCHEMA),
            ("Directories", DIRECTORY_SCHEMA),
            ("Blobs", SERVED_BLOBS_SCHEMA),
        ):
            section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
            rows = section.partition("| table | holds |")[2]
            told = re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)
            made = re.findall(r"CREATE TABLE (\w+)", "\n".join(schema.statements))
            self.assertEqual(sorted(told), sorted(made), heading)

    def test_every_file_of_a_node_directory(self) -> None:
        tree = text_of("reference/node-toml.md").partition("```text\n")[2].partition("```")[0]
        place = NodeDirectory(Path("/DIR"))
        names = {
            getattr(place, name).name
            for name, value in vars(NodeDirectory).items()
            if isinstance(value, property) and isinstance(getattr(place, name), Path)
        }
        self.assertGreater(len(names), 20)
        for source, text in (
            ("node-toml.md", tree),
            ("ampgrid.node.directory", directory.__doc__ or ""),
        ):
            told = set(re.findall(r"[\w.-]+", text))
            self.assertEqual(names - told, set(), source)

    def test_every_variable_of_the_environment(self) -> None:
        pages = "".join(page.read_text("utf-8") for page in DOCS.rglob("*.md"))
        pages += (ROOT / "README.md").read_text("utf-8")
        named: set[str] = set()
        for module in (ROOT / "ampgrid").rglob("*.py"):
            named |= set(re.findall(r'"_?(AMPGRID_[A-Z_]+)"', module.read_text("utf-8")))
        self.assertGreater(len(named), 10)
        told = set(re.findall(r"AMPGRID_[A-Z_]+", pages))
        self.assertEqual(named - told, set())

    def test_every_campaign(self) -> None:
        page = text_of("development/campaigns.md")
        for script in (ROOT / "tests" / "campaigns").glob("*.py"):
            if not script.name.startswith("test_"):
                self.assertIn(f"`{script.name}`", page)

    def test_every_specification(self) -> None:
        page = text_of("specs/README.md")
        for other in (DOCS / "specs").glob("*.md"):
            if other.name != "README.md":
                self.assertIn(f"]({other.name})", page)

    def test_every_room_stands_on_a_floor(self) -> None:
        page = text_of("development/floors.md")
        for room in (ROOT / "ampgrid").iterdir():
            if room.is_dir() and (room / "__init__.py").exists() and room.name != "commands":
                self.assertIn(f"`ampgrid/{room.name}/`", page)
