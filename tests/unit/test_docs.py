"""The documents hold together: links, names, examples, and what docstrings say of them."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid import placement
from ampgrid.caps import (
    MAX_CAP_CHARACTERS,
    MAX_FILE_SIZE,
    MAX_INLINE_SIZE,
    MAX_KEY_CAP_CHARACTERS,
    MAX_LIT_SIZE,
)
from ampgrid.commands.introduction import MAX_ANNOUNCEMENTS_PER_BOX
from ampgrid.formats import announcement, segments, share, ueb
from ampgrid.formats.address import MAX_HINTS
from ampgrid.node.config import _KNOWN, DEFAULT_WEB_PORT, NodeConfig
from ampgrid.node.sizes import parse_size
from ampgrid.peers import announcements, dialler, introducer, keeping, rotation, table
from ampgrid.storage import buckets
from ampgrid.store import SMALL_SHARE_BYTES, catalog, health, leases, uploads
from ampgrid.store.peerdb import PEERS_SCHEMA
from ampgrid.store.schema import SHARES_SCHEMA
from ampgrid.wire import Limits, boxes, gate, hello, network, outbound, tcp
from ampgrid.wire.tls import EXPORTER_LABEL

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

#: A page named in a text, and behind it, in quotes, one of its sections.
_REFERENCE = re.compile(r"\bdocs/[\w/-]+\.(?:md|py)")
_SECTION = re.compile(r"(\bdocs/[\w/-]+\.md)`*,\s+\"([^\"]+)\"")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```|^ {4}\S.*?$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
#: A path that only one machine has; `~` and a bare `/` are no such paths.
_MACHINE_PATH = re.compile(
    r"(?<![\w.~/>)])/(?:home|root|tmp|work|var|usr|opt|mnt|srv|etc|proc|Users)\b"
)


def sources() -> Iterator[Path]:
    """Yield every Python file of the project but the tests."""
    for folder in ("ampgrid", "commands", "examples", "docs"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def headings(page: Path) -> list[str]:
    """Return the headings of a page, without their marks."""
    if not page.exists():
        return []
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#+ +(.+?)\s*$", text, flags=re.MULTILINE)


def anchor(heading: str) -> str:
    """Return the anchor by which a link names a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def anchors(page: Path) -> list[str]:
    """Return the anchors of a page."""
    return [anchor(heading) for heading in headings(page)]


def texts_of(path: Path) -> Iterator[str]:
    """Yield the docstrings of a Python file and the string constants that may name a page."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


class LinkTests(SynchronousTestCase):
    def test_every_relative_link_leads_somewhere(self) -> None:
        broken = []
        for page in PAGES:
            prose = _CODE.sub("", page.read_text("utf-8"))
            for target in _LINK.findall(prose):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, section = target.partition("#")
                where = (page.parent / path).resolve() if path else page
                if not where.exists() or (section and section not in anchors(where)):
                    broken.append(f"{page.name}: {target}")
        self.assertEqual(broken, [])

    def test_every_page_that_a_text_names_is_there(self) -> None:
        broken = []
        for path in [*sources(), *PAGES]:
            texts = texts_of(path) if path.suffix == ".py" else [path.read_text("utf-8")]
            for text in texts:
                broken += [
                    f"{path.name}: {name}"
                    for name in _REFERENCE.findall(text)
                    if not (ROOT / name).exists()
                ]
                for name, section in _SECTION.findall(text):
                    if " ".join(section.split()) not in headings(ROOT / name):
                        broken.append(f"{path.name}: {name}, {section!r}")
        self.assertEqual(broken, [])

    def test_no_page_names_a_path_of_one_machine(self) -> None:
        for page in PAGES:
            self.assertEqual(_MACHINE_PATH.findall(page.read_text("utf-8")), [], page.name)

    def test_no_page_has_white_space_at_the_end_of_a_line(self) -> None:
        for page in PAGES:
            self.assertEqual(re.findall(r"[ \t]+$", page.read_text("utf-8"), re.MULTILINE), [])


class NameTests(SynchronousTestCase):
    def test_every_name_of_the_package_exists(self) -> None:
        for page in PAGES:
            for name in re.findall(r"`(ampgrid(?:\.\w+)+)", page.read_text("utf-8")):
                if name.endswith((".sock", ".md")):
                    continue
                self.assertTrue(_exists(name), f"{page.name}: {name}")

    def test_every_command_in_the_table_of_the_seeds_exists(self) -> None:
        from ampgrid.commands import control, introduction, session, storage, vdrive

        known = {
            name for m in (control, introduction, session, storage, vdrive) for name in vars(m)
        }
        text = (DOCS / "seeds.md").read_text("utf-8")
        named = re.findall(r"Command `(\w+)`", text)
        self.assertTrue(named)
        self.assertEqual([name for name in named if name not in known], [])


def _exists(name: str) -> bool:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            # Attributes of instances stand among the annotations of a class.
            if not hasattr(found, part) and part not in getattr(found, "__annotations__", {}):
                return False
            found = getattr(found, part, None)
        return True
    return False


class ExampleTests(SynchronousTestCase):
    def test_examples_give_what_they_say(self) -> None:
        ran = 0
        for page in PAGES:
            # Without its fences a block of code ends where doctest sees its end.
            text = _FENCE.sub("", page.read_text("utf-8"))
            test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
            report: list[str] = []
            result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
            self.assertEqual(result.failed, 0, "".join(report))
            ran += result.attempted
        self.assertGreater(ran, 40)


class NumberTests(SynchronousTestCase):
    """Bounds that pages state are those of the code."""

    def check(self, page: str, *statements: str) -> None:
        text = (DOCS / "specs" / page).read_text("utf-8")
        for statement in statements:
            self.assertIn(statement, text)

    def test_wire(self) -> None:
        limits = Limits()
        ping, dead = round(limits.ping_seconds), round(limits.dead_seconds)
        stuck, close = round(limits.stuck_seconds), round(limits.close_seconds)
        self.assertEqual(gate.HANDSHAKE_SECONDS, 10)
        self.check(
            "wire.md",
            "Ten seconds after the TCP connection stands",
            f"reads at most {gate.MOST_STRANGER_BYTES:,} bytes",
            f"{boxes.MAX_BOX_BYTES:,} bytes; {network.MOST_HELLO_BYTES:,} before Hello",
            f"| keys in a box | {boxes.MAX_KEYS}, none",
            f"| tag | 1 to {boxes.MAX_TAG_BYTES} bytes |",
            f"says {hello.MAX_CALLS} calls and {hello.MAX_BYTES:,} bytes",
            f"label `{EXPORTER_LABEL.decode()}`",
            f"small boxes (up to {outbound.SMALL_BYTES:,} bytes)",
            f"| {ping} s in which either end sent nothing | `Ping`",
            f"| {dead} s without a byte from the other end | abort |",
            f"| {stuck} s in which the other end takes nothing",
            f"at most {close} seconds",
            f"bears {network.MOST_STRANGERS} strangers",
            f"accepts {network.MOST_ACCEPTED:,} connections",
            f"at most {keeping.MOST_DIALLED:,}, of which {keeping.MOST_DIALS_AT_ONCE} are dialled",
            f"* {rotation.SLOTS} have a turn at one moment",
            f"{rotation.TURN_BURST} in a row, then one in {round(rotation.TURN_SECONDS)} seconds",
            f"min({round(rotation.CAP_SECONDS)}, {round(rotation.FIRST_SECONDS)} * 4^(n-1))",
            f"not sooner than {round(rotation.ANEW_SECONDS)} * n seconds",
            f"heard of for {round(keeping.FORGET_SECONDS / 86_400)} days",
            f"takes {introducer.NEWCOMER_BURST} in a row and then one in "
            f"{round(introducer.NEWCOMER_SECONDS)} seconds",
            f"the other {round(dialler.HEAD_START_SECONDS)} seconds later",
            f"each for at most {tcp.DIAL_SECONDS} seconds",
            f"between 0 and min({round(dialler.CAP_SECONDS)}, 2^(n-1))",
            f"less than {round(dialler.STABLE_SECONDS)} seconds counts",
            f"not answered within {round(table.PROBE_SECONDS)} seconds",
            f"once in {round(introducer.ANNOUNCE_SECONDS)} seconds, else `BUSY`",
            f"at most {MAX_ANNOUNCEMENTS_PER_BOX} a box",
            f"keep announcements ({announcements.MOST_PEERS:,} of them)",
        )

    def test_identity(self) -> None:
        self.check(
            "identity.md",
            f"at most {announcement.MAX_ANNOUNCEMENT_BYTES} bytes",
            f"nickname, at most {announcement.MAX_NICKNAME_BYTES} bytes",
            f"software, at most {announcement.MAX_SOFTWARE_BYTES} bytes",
            f"number of services, at most {announcement.MAX_SERVICES} |",
            f"number of addresses, at most {MAX_HINTS} |",
        )

    def test_files(self) -> None:
        self.check("caps.md", f"A file of at most {MAX_LIT_SIZE} bytes")
        self.check("caps.md", f"is at most {MAX_INLINE_SIZE:,} bytes in base32")
        self.check("caps.md", f"A literal cap is at most {MAX_CAP_CHARACTERS:,} characters long")
        self.check("caps.md", f"every other one at most {MAX_KEY_CAP_CHARACTERS}")
        self.assertEqual(MAX_FILE_SIZE, 2**60)
        self.check(
            "share.md",
            f"{segments.DEFAULT_MAX_SEGMENT_SIZE:,} bytes; at most {segments.MAX_SEGMENT_SIZE:,}",
            f"takes a block of at most {ueb.MAX_UEB_BYTES:,} bytes",
            f"up to {share.MAX_TAIL_BYTES:,} bytes from the share hash chain",
        )
        self.check("placement.md", f"at most {placement.MOST_SHARES_PER_REQUEST} shares are asked")
        self.assertEqual(placement.MOST_ROUNDS, 10)

    def test_store(self) -> None:
        self.check(
            "store.md",
            f"| above {SMALL_SHARE_BYTES:,} bytes |",
            f"application id `{SHARES_SCHEMA.application_id:#x}`, version {SHARES_SCHEMA.version}",
            f"id `{PEERS_SCHEMA.application_id:#x}`, version {PEERS_SCHEMA.version}",
            f"at most every {health.PROBE_SECONDS} seconds",
            f"| {buckets.MOST_BUCKETS} |",
            f"| {uploads.MOST_PIECES:,} |",
            f"| {round(buckets.IDLE_SECONDS) // 60} minutes",
            f"It lasts {leases.LEASE_SECONDS // 86_400} days",
            f"at most {leases.MOST_LEASES:,} leases",
            f"{catalog.MOST_ADVISORIES:,} in all",
        )


class NodeTomlTests(SynchronousTestCase):
    """`docs/reference/node-toml.md` against what is read."""

    def rows(self) -> dict[tuple[str, str], str]:
        """Return {(table, key): what stands in the last column}."""
        text = (DOCS / "reference" / "node-toml.md").read_text("utf-8")
        parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
        found: dict[tuple[str, str], str] = {}
        for heading, section in zip(parts[1::2], parts[2::2], strict=True):
            for row in re.findall(r"^\| `(\w+)` \|.*\| (.+?) \|$", section, re.MULTILINE):
                found[heading.strip("[]"), row[0]] = row[1]
        return found

    def test_every_known_key_is_described_and_no_other(self) -> None:
        known = {(table, key) for table, keys in _KNOWN.items() for key in keys}
        self.assertEqual(set(self.rows()), known)

    def test_the_defaults_are_those_of_the_code(self) -> None:
        rows, default = self.rows(), NodeConfig(kind="node")
        assert default.listen is not None
        host, port = default.listen
        self.assertEqual(rows["node", "listen"], f'`"{host}:{port}"`')
        self.assertEqual(rows["grid", "open"], "`false`")
        self.assertFalse(default.is_open)
        self.assertEqual(rows["storage", "enabled"], "`true`")
        self.assertTrue(default.storage_enabled)
        self.assertEqual(parse_size(rows["storage", "reserve"].strip('`"')), default.reserve)
        self.assertEqual(rows["keeper", "enabled"], "`true`")
        self.assertTrue(default.keeper_enabled)
        self.assertEqual(rows["keeper", "every_days"], f"`{default.keeper_days}`")
        self.assertIsNone(default.repair_below)
        bandwidth = parse_size(rows["keeper", "bandwidth"].strip('`"'))
        self.assertEqual(bandwidth, default.keeper_bandwidth)
        segment_size = parse_size(rows["upload", "max_segment_size"].strip('`"'))
        self.assertEqual(segment_size, default.max_segment_size)
        self.assertIsNone(default.web_port)
        self.assertTrue(rows["web", "port"].startswith(f'`"{DEFAULT_WEB_PORT}"`'))
