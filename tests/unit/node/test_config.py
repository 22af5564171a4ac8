"""node.toml: every key known, typed and bounded, everything else refused by name."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import BadArgumentValueError, ConfigError
from ampgrid.formats.address import Address
from ampgrid.node.config import (
    MAX_CONFIG_BYTES,
    EncodingParameters,
    NodeConfig,
    load_config,
    parse_config,
    parse_listen,
)
from ampgrid.node.creation import render_config
from ampgrid.node.sizes import MAX_SIZE, format_size, parse_size

ID = "a" * 32
SECRET = "a" * 26
OTHER = "b" * 25 + "a"
LEAST = 'version = 1\n[node]\nkind = "node"\n'

hints = st.tuples(
    st.sampled_from(["127.0.0.1", "::1", "host.example", "localhost"]), st.integers(1, 65_535)
)
node_ids = st.binary(min_size=20, max_size=20)
addresses = st.builds(
    Address, node_ids, st.lists(hints, min_size=1, max_size=3, unique=True).map(tuple)
)
address_lists = st.lists(addresses, max_size=3, unique_by=lambda each: each.node_id).map(tuple)
encodings = st.integers(1, 256).flatmap(
    lambda total: st.builds(
        EncodingParameters, st.integers(1, total), st.integers(1, total), st.just(total)
    )
)
configs = st.builds(
    NodeConfig,
    kind=st.just("node"),
    nickname=st.text(
        # What turns the writing around is of the category Cf.
        st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"]),
        max_size=25,
    ),
    listen=st.none() | st.tuples(st.sampled_from(["0.0.0.0", "::"]), st.integers(0, 65_535)),
    addresses=st.lists(hints, max_size=3).map(tuple),
    introducers=address_lists,
    peers=address_lists,
    is_open=st.booleans(),
    allow=st.frozensets(node_ids, max_size=3),
    shares=st.none() | encodings,
    storage_enabled=st.booleans(),
    reserve=st.integers(0, MAX_SIZE) | st.sampled_from([10**9, 5 * 10**11]),
    quota=st.none() | st.integers(0, MAX_SIZE),
    vdrive=st.none() | st.booleans(),
    vdrive_quota=st.none() | st.integers(0, MAX_SIZE),
    blobs_enabled=st.booleans(),
    blobs_quota=st.none() | st.integers(0, MAX_SIZE),
    blobs_user_quota=st.integers(0, MAX_SIZE),
    blobs_members=st.booleans(),
    expire=st.booleans(),
    expire_grace_days=st.integers(1, 365),
    scrub_days=st.integers(1, 365),
    scrub_rate=st.integers(10**5, 10**12),
    durability=st.sampled_from(["full", "none"]),
    max_segment_size=st.integers(1024, 16 * 1024 * 1024),
    keeper_enabled=st.booleans(),
    keeper_days=st.integers(1, 14),
    repair_below=st.none() | st.integers(1, 256),
    keeper_bandwidth=st.integers(100_000, 10**12),
)


class SizeTests(SynchronousTestCase):
    def test_spellings(self) -> None:
        for text, size in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("10G", 10**10),
            ("500MB", 5 * 10**8),
            ("500 mb", 5 * 10**8),
            ("1GiB", 2**30),
            ("1.5k", 1500),
            (" 2TiB ", 2**41),
            ("9223372036854775807", MAX_SIZE),
        ]:
            self.assertEqual(parse_size(text), size, text)

    def test_refused(self) -> None:
        for text in ["", "G", "-1", "1.5", "1X", "1 0", "1e3", "0x10", "\u0661", "8EiB", "9" * 20]:
            self.assertRaises(BadArgumentValueError, parse_size, text)

    def test_formats_for_readers(self) -> None:
        for size, text in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1 KB"),
            (1_500_000, "1.5 MB"),
            (999_960, "1 MB"),
            (10**12, "1 TB"),
            (MAX_SIZE, "9.2 EB"),
        ]:
            self.assertEqual(format_size(size), text)

    @given(st.integers(0, MAX_SIZE))
    def test_what_is_formatted_is_a_size(self, size: int) -> None:
        self.assertLessEqual(abs(parse_size(format_size(size)) - size), size / 15 + 1)


class EncodingParametersTests(SynchronousTestCase):
    def test_reads_and_writes(self) -> None:
        self.assertEqual(EncodingParameters.parse("3/7/10"), EncodingParameters(3, 7, 10))
        self.assertEqual(str(EncodingParameters(1, 1, 256)), "1/1/256")

    def test_refused(self) -> None:
        for text in ["", "3/7", "0/1/1", "4/1/3", "1/4/3", "1/0/3", "1/1/257", "-1/1/1", "a/b/c"]:
            self.assertRaises(BadArgumentValueError, EncodingParameters.parse, text)


class ConfigTests(SynchronousTestCase):
    def refused(self, text: str, *parts: str) -> None:
        error = self.assertRaises(ConfigError, parse_config, text)
        for part in parts:
            self.assertIn(part, str(error))
        self.assertNotIn(SECRET, str(error))

    def test_the_least(self) -> None:
        self.assertEqual(parse_config(LEAST), NodeConfig(kind="node"))

    @given(configs)
    def test_what_is_written_reads_back(self, config: NodeConfig) -> None:
        self.assertEqual(parse_config(render_config(config)), config)

    def test_an_introducer_reads_back(self) -> None:
        config = NodeConfig(
            kind="introducer",
            shares=EncodingParameters(2, 3, 4),
            public_root=True,
            is_open=True,
            storage_enabled=False,
        )
        self.assertEqual(parse_config(render_config(config)), config)

    def test_every_unknown_name_is_refused_by_name(self) -> None:
        self.refused(LEAST + "colour = 1\n", "[node]", "'colour'", "nickname")
        self.refused(LEAST + "[strage]\n", "'strage'", "[storage]")
        self.refused("version = 1\nnode = 7\n", "[node]")
        self.refused("version = 1\nkind = 'node'\n", "'kind'")

    def test_version(self) -> None:
        for line in ["", "version = 2\n", "version = true\n", "version = '1'\n"]:
            self.refused(line + '[node]\nkind = "node"\n', "version = 1")

    def test_wrong_types_and_bounds_name_the_key(self) -> None:
        for table, line in [
            ("node", 'kind = "server"'),
            ("node", "nickname = 3"),
            ("node", f'nickname = "{"x" * 101}"'),
            ("node", 'nickname = "a\\u0007b"'),
            ("node", 'listen = "7420"'),
            ("node", 'listen = "host:65536"'),
            ("node", 'addresses = "host:1"'),
            ("node", 'addresses = ["host"]'),
            ("grid", 'introducers = ["amp://x@host:1"]'),
            ("grid", f'introducers = ["amp://{ID}@host:1/{SECRET}x"]'),
            ("grid", "peers = [1]"),
            ("grid", "open = 1"),
            ("grid", 'allow = ["A"]'),
            ("grid", 'shares = "3/11/10"'),
            ("storage", 'enabled = "yes"'),
            ("storage", "reserve = -1"),
            ("storage", "reserve = 1.5"),
            ("storage", "reserve = true"),
            ("storage", 'quota = "lots"'),
            ("vdrive", 'enabled = "no"'),
            ("vdrive", "quota = -1"),
            ("storage", "expire = 1"),
            ("storage", "expire_grace_days = 0"),
            ("storage", "expire_grace_days = 1.5"),
            ("storage", "scrub_days = 366"),
            ("storage", 'scrub_rate = "1K"'),
            ("storage", 'durability = "half"'),
            ("storage", "durability = false"),
            ("storage", "durability = []"),
            ("upload", "max_segment_size = 1"),
            ("upload", 'max_segment_size = "1G"'),
        ]:
            head = "version = 1\n" if table == "node" else LEAST
            self.refused(f"{head}[{table}]\n{line}\n", f"[{table}]", line.split(" = ")[0])

    def test_too_many_entries(self) -> None:
        ids = [node_id_text(number.to_bytes(20, "big")) for number in range(1001)]
        self.refused(f"{LEAST}[grid]\nallow = {ids}\n", "allow", "1000")

    def test_no_toml(self) -> None:
        self.refused("version = = 1", "not valid TOML")

    def test_a_doubled_key_is_named(self) -> None:
        for text, told in [
            ('version = 1\n[node]\nkind = "node"\nnickname="a"\nnickname = "b"\n', "nickname: it"),
            ('version = 1\n[node]\nkind = "node"\n[node]\nnickname="a"\n', "'node'"),
        ]:
            self.assertIn(told, str(self.assertRaises(ConfigError, parse_config, text)))

    def test_secrets_of_different_grids(self) -> None:
        pair = [f"amp://{ID}@h:1/{SECRET}", f"amp://{'b' * 32}@h:1/{OTHER}"]
        self.refused(f"{LEAST}[grid]\nintroducers = {pair}\n", "different secrets")

    def test_one_node_twice(self) -> None:
        pair = [f"amp://{ID}@h:1", f"amp://{ID}@h:2"]
        self.refused(f"{LEAST}[grid]\npeers = {pair}\n", "peers", "twice")

    def test_only_an_introducer_makes_a_public_root(self) -> None:
        head = 'version = 1\n[node]\nkind = "introducer"\n[grid]\npublic_root = '
        self.assertTrue(parse_config(head + "true").public_root)
        self.assertFalse(parse_config(head + "false").public_root)
        self.refused(f"{LEAST}[grid]\npublic_root = true\n", "only an introducer")

    def test_introducers_keep_no_shares(self) -> None:
        head = 'version = 1\n[node]\nkind = "introducer"\n'
        self.refused(head + "[storage]\nenabled = false\n", "[storage]")
        self.refused(head + "[upload]\n", "[upload]")
        self.refused(head + 'listen = "none"\n', "listen")

    def test_listen(self) -> None:
        self.assertEqual(parse_listen("[::1]:0"), ("::1", 0))
        self.assertEqual(parse_listen("0.0.0.0:7420"), ("0.0.0.0", 7420))
        self.assertIsNone(parse_listen("none"))

    def test_files_that_cannot_be_read(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "node.toml"
            self.assertRaises(ConfigError, load_config, path)
            path.write_bytes(b"# \xff\n")
            self.assertIn("UTF-8", str(self.assertRaises(ConfigError, load_config, path)))
            path.write_bytes(b"#" * (MAX_CONFIG_BYTES + 1))
            self.assertIn("larger", str(self.assertRaises(ConfigError, load_config, path)))
