"""create-introducer, create-node and address."""

from __future__ import annotations

import shutil

from ampgrid.formats.address import parse_address
from ampgrid.node.config import EncodingParameters
from ampgrid.node.directory import NodeDirectory
from tests.unit.cli.command_line import CommandLineCase


class CreateTests(CommandLineCase):
    def introducer(self, name: str = "i", listen: str = "127.0.0.1:7420") -> str:
        self.done("create-introducer", self.root / name, "--listen", listen)
        return self.done("-d", self.root / name, "address").out.strip()

    def test_a_node_joins_by_the_address_on_standard_input(self) -> None:
        text = self.introducer()
        made = self.done(
            "create-node", self.root / "n", "--introducer", "-", "--json", stdin=text.encode()
        )
        directory = NodeDirectory.at(self.root / "n")
        self.assertEqual(made.json()["dir"], str(directory.path))
        config = directory.load_config()
        self.assertEqual(directory.grid_secret(config), parse_address(text).secret)
        self.assertNotIn(text.rpartition("/")[2], made.out)

    def test_all_options(self) -> None:
        addresses = [self.introducer()]
        # Another introducer of the same grid.
        self.done(
            *["create-introducer", self.root / "j", "--listen", "127.0.0.1:7421"],
            *["--introducer", addresses[0], "--shares", "1/2/3"],
        )
        addresses.append(self.done("-d", self.root / "j", "address").out.strip())
        other = NodeDirectory.at(self.root / "j").load_config()
        self.assertEqual((other.shares, other.is_open), (EncodingParameters(1, 2, 3), False))
        # It meets the first, and its node.toml can be shown to others.
        first = parse_address(addresses[0])
        self.assertEqual([each.node_id for each in other.introducers], [first.node_id])
        self.assertEqual([each.secret for each in other.introducers], [None])
        self.assertEqual(parse_address(addresses[1]).secret, first.secret)
        self.done(
            *["create-node", self.root / "n", "--listen", "[::1]:7430", "--nickname", "Ida"],
            *["--no-storage", "--reserve", "2GiB", "--quota", "5T", "--shares", "2/3/4"],
            *["--introducer", addresses[0], "--introducer", addresses[1]],
        )
        config = NodeDirectory.at(self.root / "n").load_config()
        self.assertEqual(config.listen, ("::1", 7430))
        self.assertEqual((config.nickname, config.storage_enabled), ("Ida", False))
        self.assertEqual((config.reserve, config.quota), (2 * 2**30, 5 * 10**12))
        self.assertEqual(config.shares, EncodingParameters(2, 3, 4))
        self.assertEqual(len(config.introducers), 2)

    def test_introducers_of_different_grids_are_refused(self) -> None:
        one, two = self.introducer("i"), self.introducer("j")
        error = self.refused(
            2, "create-node", self.root / "n", "--introducer", one, "--introducer", two
        )
        self.assertIn("different grids", error)
        for text in (one, two):
            self.assertNotIn(text.rpartition("/")[2], error)
        self.assertFalse((self.root / "n").exists())

    def test_an_open_grid(self) -> None:
        self.done(
            *["create-introducer", self.root / "o", "--listen", "127.0.0.1:7422", "--open"],
        )
        address = self.done("-d", self.root / "o", "address").out.strip()
        self.assertIsNone(parse_address(address).secret)
        for kind in ("create-node", "create-introducer"):
            join = [kind, self.root / kind, "--introducer", address]
            self.assertIn("add --open", self.refused(2, *join))
            self.done(*join, "--open")
            self.assertTrue(NodeDirectory.at(self.root / kind).load_config().is_open)

    def test_a_closed_grid_is_not_joined_as_an_open_one(self) -> None:
        address = self.introducer()
        for kind in ("create-node", "create-introducer"):
            join = [kind, self.root / kind, "--introducer", address, "--open"]
            self.assertIn("leave out --open", self.refused(2, *join))
            self.assertFalse((self.root / kind).exists())

    def test_a_bad_address_is_refused_without_repeating_it(self) -> None:
        text = self.introducer()
        for bad in [text[:-1], text[1:], text + "x", "amp://", "URI:CHK:x"]:
            error = self.refused(9, "create-node", self.root / "n", "--introducer", bad)
            self.assertNotIn(text[-20:-1], error)

    def test_refused_values(self) -> None:
        for option, value in [
            ("--listen", "nowhere"),
            ("--nickname", "x" * 201),
            ("--nickname", "a\nb"),
            ("--reserve", "many"),
            ("--quota", "-1"),
            ("--shares", "5/5/4"),
        ]:
            self.refused(2, "create-node", self.root / "n", option, value)
        self.refused(2, "create-introducer", self.root / "i", "--listen", "none")

    def test_what_is_there_is_left_as_it_is(self) -> None:
        self.introducer()
        self.assertIn("already", self.refused(3, "create-node", self.root / "i"))

    def test_a_node_directory_that_cannot_be_written(self) -> None:
        (self.root / "file").write_text("")
        self.refused(3, "create-node", self.root / "file" / "n")


class AddressTests(CommandLineCase):
    def test_a_node_that_has_not_run_has_no_port_yet(self) -> None:
        self.done("create-node", self.root / "n")
        self.assertIn("first run", self.refused(3, "-d", self.root / "n", "address"))
        NodeDirectory.at(self.root / "n").keep_listen_port(7444)
        found = parse_address(self.done("-d", self.root / "n", "address").out)
        self.assertEqual([port for _, port in found.hints], [7444])
        self.assertIsNone(found.secret)

    def test_a_node_that_only_dials_has_none(self) -> None:
        self.done("create-node", self.root / "n", "--listen", "none")
        self.assertIn("only dials", self.refused(3, "-d", self.root / "n", "address"))

    def test_configured_addresses_outrank_all(self) -> None:
        self.done("create-node", self.root / "n")
        path = self.root / "n" / "node.toml"
        text = path.read_text().replace("addresses = []", 'addresses = ["grid.example:9"]')
        path.write_text(text)
        found = self.done("-d", self.root / "n", "address", "--json").json()
        self.assertEqual(parse_address(found["address"]).hints, (("grid.example", 9),))

    def test_a_damaged_directory(self) -> None:
        self.done("create-introducer", self.root / "i", "--listen", "127.0.0.1:7420")
        (self.root / "i" / "node.toml").write_text("version = 9\n")
        self.refused(3, "-d", self.root / "i", "address")
        shutil.rmtree(self.root / "i" / "private")
        self.refused(3, "-d", self.root / "i", "address")
