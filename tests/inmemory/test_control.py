"""The control Commands of a node in a grid in memory, and who may call what."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.protocols import amp

from ampgrid.caps import ChkCap, parse_cap
from ampgrid.commands import (
    blob_users,
    blobs,
    control,
    drive,
    introduction,
    session,
    storage,
)
from ampgrid.commands import errors as e
from ampgrid.commands.base import GridCommand
from ampgrid.errors import NotConnectedError
from ampgrid.node.control import ControlResponder
from ampgrid.node.operations import Operations
from ampgrid.testing.grid import MemoryNode
from ampgrid.wire import LoopbackConnection
from tests.inmemory.controlling import NOBODYS, OPERATION, ControlCase, connect
from tests.material import some_bytes
from tests.wire.kit import commands_in


def bare(command: type[amp.Command]) -> type[GridCommand]:
    """A Command of the same name without arguments: enough to see whether anybody answers it."""
    names = {"commandName": command.commandName, "arguments": [], "response": []}
    return type(command.__name__, (GridCommand,), names)


class WhoMayCallTests(ControlCase):
    """Each kind of connection answers its own Commands and no others."""

    def answered(self, connection: Any, command: type[amp.Command]) -> bool:
        try:
            self.grid.run(connection.call(bare(command)))
        except e.NotAllowedError as error:
            # What the caller makes of UNHANDLED.
            return "does not answer this Command" not in str(error)
        except e.InternalWireError as error:
            # An error of the Command's own, of which a bare one knows nothing.
            self.assertIn("an error that this version does not know", str(error))
        except e.BadArgumentError:
            pass
        return True

    def test_no_control_command_over_tcp(self) -> None:
        grid = self.grid
        pairs = [(grid.client, grid.nodes[0]), (grid.client, grid.introducer)]
        pairs.append((grid.nodes[0], grid.introducer))
        ways = [self.grid.between(a, b) for one, two in pairs for a, b in [(one, two), (two, one)]]
        commands = commands_in(control, drive, blob_users)
        self.assertGreater(len(commands), 7)
        for connection in ways:
            self.assertEqual([c for c in commands if self.answered(connection, c)], [])
            self.assertTrue(self.answered(connection, session.Ping))

    def test_peer_commands_over_tcp_by_what_the_peer_offers(self) -> None:
        grid = self.grid
        from_client = self.grid.between(grid.client, grid.nodes[0])
        to_client = self.grid.between(grid.nodes[0], grid.client)
        to_introducer = self.grid.between(grid.client, grid.introducer)
        for command in commands_in(storage):
            self.assertTrue(self.answered(from_client, command), command)
            # The client keeps no shares, and neither does the introducer.
            self.assertFalse(self.answered(to_client, command), command)
            self.assertFalse(self.answered(to_introducer, command), command)
        self.assertTrue(self.answered(to_introducer, introduction.Announce))
        self.assertFalse(self.answered(from_client, introduction.Announce))

    def test_no_peer_command_over_the_socket(self) -> None:
        for member in self.grid.members:
            connection = connect(self.grid.clock, member)
            for command in commands_in(storage, introduction, blobs):
                self.assertFalse(self.answered(connection, command), command)
            self.assertFalse(self.answered(connection, session.StartTLS))
            for command in [session.Ping, session.Hello, *commands_in(control, blob_users)]:
                self.assertTrue(self.answered(connection, command), command)


class ErrorTests(ControlCase):
    """What a script is told when something cannot be done."""

    def refused(self, error: type[e.WireError], command: Any, **arguments: Any) -> str:
        with self.assertRaises(error) as caught:
            self.call(command, **arguments)
        message = str(caught.exception)
        self.assertNotIn(NOBODYS[8:30], message)
        return message

    def test_uploads(self) -> None:
        path = str(self.place / "file")
        Path(path).write_bytes(some_bytes(1000))
        for wrong in [
            {},
            {"path": "relative"},
            {"path": path, "needed": 1},
            {"path": path, "needed": 3, "happy": 1, "total": 2},
            {"path": path, "needed": 1, "happy": 0, "total": 2},
        ]:
            self.refused(e.BadArgumentError, control.Upload, **wrong)
        for unreadable in [self.place / "missing", self.place, Path("/dev/null")]:
            self.refused(e.FileFailedError, control.Upload, path=str(unreadable))
        told = self.refused(
            e.NotHappyEnoughError, control.Upload, path=path, needed=2, happy=4, total=4
        )
        self.assertIn("4 servers needed", told)

    def test_downloads(self) -> None:
        cap = self.put(some_bytes(1000))
        parsed = parse_cap(cap)
        assert isinstance(parsed, ChkCap)
        out = str(self.place / "out")
        verifier = parsed.get_verify_cap()
        assert verifier is not None
        for text in ["", "URI:", cap + "!", verifier.to_string()]:
            self.refused(e.BadCapTextError, control.Download, cap=text, path=out)
        told = self.refused(e.NotEnoughSharesFoundError, control.Download, cap=NOBODYS, path=out)
        self.assertIn("found 0 of the 2", told)
        for nowhere in [self.place, self.place / "no" / "out"]:
            self.refused(e.FileFailedError, control.Download, cap=cap, path=str(nowhere))
        for wrong in [{}, {"path": "out"}, {"path": out, "offset": 1001}]:
            self.refused(e.BadArgumentError, control.Download, cap=cap, **wrong)
        self.assertEqual(sorted(os.listdir(self.place)), ["put"])

    def test_peers_that_do_not_come(self) -> None:
        began = self.grid.clock.seconds()
        told = self.refused(
            e.NotEnoughPeersConnectedError, control.WaitForPeers, count=4, timeout_seconds=7
        )
        self.assertIn("3 storage peers", told)
        self.assertAlmostEqual(self.grid.clock.seconds() - began, 7, delta=1)
        self.assertEqual(self.call(control.WaitForPeers, count=3), {"connected": 3})


class OperationTests(ControlCase):
    """Long Commands: watched, cancelled, abandoned."""

    def upload(self, number: int, size: int = 2_000_000) -> Deferred[dict[str, Any]]:
        (self.place / "file").write_bytes(some_bytes(size))
        return self.begin(control.Upload, path=str(self.place / "file"), number=number)

    def test_progress(self) -> None:
        work = self.upload(7)
        seen: list[tuple[str, int, int]] = []
        while not work.called:
            try:
                told = self.call(control.Progress, number=7)
            except e.NoSuchOperationError:
                break
            seen.append((told["phase"], told["done"], told["total"]))
            self.grid.clock.step()
        cap = self.grid.run(work)["cap"]
        phases = list(dict.fromkeys(phase for phase, _, _ in seen))
        self.assertEqual(phases[-2:], ["uploading", "storing"])
        for phase in phases:
            done = [d for p, d, _ in seen if p == phase]
            self.assertEqual(done, sorted(done))
        self.assertGreater(len({d for p, d, _ in seen if p == "uploading"}), 1)
        self.assertEqual({d for p, d, _ in seen if p == "storing"}, {2_000_000})
        self.assertTrue(all(d <= t == 2_000_000 for p, d, t in seen if p == "uploading"))
        with self.assertRaises(e.NoSuchOperationError):
            self.call(control.Progress, number=7)
        out = self.place / "out"
        self.call(control.Download, cap=cap, path=str(out), number=7)
        self.assertEqual(out.read_bytes(), some_bytes(2_000_000))

    def test_a_number_names_one_operation(self) -> None:
        work = self.upload(7)
        self.grid.clock.step()
        with self.assertRaises(e.BadArgumentError):
            self.call(control.Upload, path=str(self.place / "file"), number=7)
        self.grid.run(work)
        for command in (control.Progress, control.Cancel):
            for number in (0, 7, 2**62):
                with self.assertRaises(e.NoSuchOperationError):
                    self.call(command, number=number)

    def test_cancelled_over_another_connection(self) -> None:
        work = self.upload(9)
        self.step_until(lambda: all(self.promised()))
        other = connect(self.grid.clock, self.grid.client)
        self.assertEqual(self.grid.run(other.call(control.Cancel, **{OPERATION: 9})), {})
        with self.assertRaises(e.CancelledError):
            self.grid.run(work)
        self.grid.clock.advance(1)
        self.assertEqual(self.promised(), [0, 0, 0])
        self.assertEqual(self.grid.client.core.operations.all(), [])

    def test_an_upload_whose_caller_went_is_cancelled(self) -> None:
        work = self.upload(0)
        self.step_until(lambda: all(self.promised()))
        self.assertEqual(len(self.call(control.Status)["status"].split("phase")), 2)
        self.connection.abort("the test ends it")
        with self.assertRaises(NotConnectedError):
            self.grid.run(work)
        self.grid.clock.advance(1)
        self.assertEqual(self.promised(), [0, 0, 0])
        self.assertEqual(self.grid.client.core.operations.all(), [])

    def test_a_download_whose_caller_went_leaves_nothing(self) -> None:
        cap = self.put(some_bytes(2_000_000))
        work = self.begin(control.Download, cap=cap, path=str(self.place / "out"), number=3)
        operations = self.grid.client.core.operations
        self.step_until(lambda: bool((o := operations.get(3)) and o.done))
        self.assertEqual(len(os.listdir(self.place)), 2)
        self.connection.abort("the test ends it")
        with self.assertRaises(NotConnectedError):
            self.grid.run(work)
        self.grid.clock.advance(1)
        self.assertEqual(os.listdir(self.place), ["put"])
        self.assertEqual(operations.all(), [])


class StatusTests(ControlCase):
    def test_it_fits_whatever_is_configured(self) -> None:
        """Hundreds of introducers, each with much to complain about."""
        introduced = self.grid.client.core.introduced
        [one] = introduced._introducers.values()
        for number in range(500):
            each = copy.copy(one)
            each.last_error = "\u00fc\x7f" * 150
            introduced._introducers[number.to_bytes(20, "big")] = each
        text = self.call(control.Status)["status"]
        self.assertLessEqual(len(text.encode()), 60_000)
        told = json.loads(text)
        self.assertEqual(told["introducer_count"], 501)
        self.assertEqual(len(told["introducers"]) + told["left_out"], 100)
        self.assertTrue(told["introducers"])


class TellingTests(ControlCase):
    def test_memory(self) -> None:
        told = self.call(control.GetMemoryUsage)
        self.assertEqual(set(told), {"vm_peak", "vm_size", "vm_data", "vm_hwm", "vm_rss"})
        self.assertTrue(10_000_000 < told["vm_rss"] <= told["vm_hwm"] <= told["vm_peak"])

    def test_peers(self) -> None:
        told = self.call(control.ListPeers, start=0)
        peers = json.loads(told["peers"])
        self.assertEqual(len(peers), 4)
        self.assertEqual(told["next"], 0)
        self.assertEqual([peer["is_introducer"] for peer in peers], [True, False, False, False])
        self.assertEqual(self.call(control.ListPeers, start=99), {"peers": "[]", "next": 0})

    def test_pages_of_peers_fit_whatever_peers_say_of_themselves(self) -> None:
        class Crowd:
            """In the place of a node: all that ListPeers asks of one."""

            operations = Operations()

            def peers(self) -> list[dict[str, Any]]:
                return [{"node_id": str(n), "nickname": "\u00fc" * (n % 700)} for n in range(2000)]

            def announcement_of(self, node_id: str) -> bytes | None:
                return node_id.encode() * 200

        loopback = LoopbackConnection(b"n" * 20)
        loopback.serve(ControlResponder(Crowd(), loopback))  # type: ignore[arg-type]
        numbers: list[int] = []
        start, pages = 0, 0
        while True:
            page = self.grid.run(loopback.call(control.ListPeers, start=start))
            numbers += [int(peer["node_id"]) for peer in json.loads(page["peers"])]
            pages, start = pages + 1, page["next"]
            if not start:
                break
        self.assertEqual(numbers, list(range(2000)))
        self.assertLess(pages, 200)


class JustStartedTests(ControlCase):
    """A node that has just come up gives its peers time to be met."""

    def test_a_file_is_asked_for_before_anybody_is_met(self) -> None:
        cap = self.put(some_bytes(1000))
        self.restart()
        self.assertEqual(self.grid.client.core.servers(), [])
        self.call(control.Download, cap=cap, path=str(self.place / "out"))
        self.assertEqual((self.place / "out").read_bytes(), some_bytes(1000))
        self.restart()
        (self.place / "more").write_bytes(some_bytes(2000))
        put = self.call(control.Upload, path=str(self.place / "more"))
        self.assertEqual(put["servers_happy"], 3)

    def test_a_first_upload_follows_the_advice_that_is_on_its_way(self) -> None:
        self.grid.client.stop()
        for path in self.grid.folder.glob("client/peers.sqlite*"):
            path.unlink()
        self.grid.client.start()
        self.connection = connect(self.grid.clock, self.grid.client)
        self.assertEqual(self.grid.client.core.encoding().happy, 7)
        self.assertTrue(self.put(some_bytes(1000)).endswith(":2:3:1000"))

    def test_it_does_not_wait_for_long_nor_later(self) -> None:
        cap = self.put(some_bytes(1000))
        for node in self.grid.nodes[:2]:
            node.stop()
        self.restart()
        for longest in (15, 2):
            began = self.grid.clock.seconds()
            with self.assertRaises(e.NotEnoughSharesFoundError) as caught:
                self.call(control.Download, cap=cap, path=str(self.place / "out"))
            self.assertIn("found 1 of the 2", str(caught.exception))
            self.assertLess(self.grid.clock.seconds() - began, longest)
        for node in self.grid.nodes[:2]:
            node.start()

    def test_it_can_be_cancelled_meanwhile(self) -> None:
        cap = self.put(some_bytes(1000))
        for node in self.grid.nodes:
            node.stop()
        self.restart()
        work = self.begin(control.Download, cap=cap, path=str(self.place / "out"), number=8)
        self.step_until(lambda: self.grid.client.core.operations.get(8))
        began = self.grid.clock.seconds()
        self.call(control.Cancel, number=8)
        with self.assertRaises(e.CancelledError):
            self.grid.run(work)
        self.assertLess(self.grid.clock.seconds() - began, 1)
        self.assertEqual(os.listdir(self.place), ["put"])
        for node in self.grid.nodes:
            node.start()

    def restart(self) -> None:
        self.grid.client.stop()
        self.grid.client.start()
        self.connection = connect(self.grid.clock, self.grid.client)


class BlobUserTests(ControlCase):
    """What the operator of a node that keeps blobs asks over the socket."""

    def test_tokens_are_issued_listed_and_revoked(self) -> None:
        config = evolve(self.grid.nodes[0].config, blobs_enabled=True)
        node = MemoryNode(self.grid, "keeper", config)
        node.start()
        self.addCleanup(node.stop)
        socket = connect(self.grid.clock, node)

        def call(command: Any, **arguments: Any) -> dict[str, Any]:
            return self.grid.run(socket.call(command, **arguments))

        names = [f"user{number:03d}" for number in range(205)]
        for name in names:
            token = call(blob_users.IssueBlobToken, user=name)["token"]
        assert node.core.blobs is not None
        self.assertEqual(node.core.blobs.account(None, names[-1], token), f"user:{names[-1]}")
        found: list[str] = []
        while True:
            after = found[-1] if found else None
            page = json.loads(call(blob_users.ListBlobUsers, after=after)["users"])
            if not page:
                break
            found += [user["user"] for user in page]
        self.assertEqual(found, names)
        self.assertTrue(call(blob_users.RevokeBlobToken, user=names[0])["had"])
        self.assertFalse(call(blob_users.RevokeBlobToken, user=names[0])["had"])
        with self.assertRaises(e.BadArgumentError):
            call(blob_users.IssueBlobToken, user="a:b")

    def test_a_node_that_keeps_none_says_what_to_do(self) -> None:
        for command in (blob_users.IssueBlobToken, blob_users.RevokeBlobToken):
            with self.assertRaises(e.BlobRefusedWireError) as caught:
                self.call(command, user="alice")
            self.assertIn("[blobs]", str(caught.exception))
