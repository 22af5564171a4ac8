"""Directories as they were laid out first: our code and a second decoder read the same of them."""

from hashlib import sha256
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.caps import parse_cap
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.formats import ballot, entry, names, pointer, record, trie
from ampgrid.formats.ballot import Ballot, Prepare
from ampgrid.formats.entry import Entry, open_entry, seal
from ampgrid.formats.names import checked_name
from ampgrid.formats.pointer import Pointer
from ampgrid.formats.record import Record, ReplicaId
from tests.unit.formats.tries import plain_trie
from tests.vectors import directories as second
from tests.vectors.directories import VECTORS

WRITE_KEY = bytes(range(16))
KEYS, PLAIN_KEYS = WriteKeys(WRITE_KEY), second.keys_of(WRITE_KEY)
WRITER = b"writer 1"


def nonces(label):
    """Return the nonces with which the vectors were made."""
    numbers = iter(range(99))
    return lambda size: sha256(b"%s %d" % (label, next(numbers))).digest()[:size]


class KeysTest(SynchronousTestCase):
    def test_keys_and_caps(self):
        self.assertEqual(len(VECTORS["keys"]), 3)
        for case in VECTORS["keys"]:
            caps = case["caps"]
            expected = {name: bytes.fromhex(text) for name, text in case.items() if name != "caps"}
            self.assertEqual(second.keys_of(expected["write_key"]), expected)
            keys = WriteKeys(expected["write_key"])
            for name, key in expected.items():
                self.assertEqual(getattr(keys, name, None) or getattr(keys.read, name), key)
            write, read, fingerprint = (
                second.base32(expected[name]) for name in ("write_key", "read_key", "fingerprint")
            )
            self.assertEqual(caps[0], f"URI:DIR:{write}:{fingerprint}")
            self.assertEqual(caps[1], f"URI:DIR-RO:{read}:{fingerprint}")
            self.assertEqual(caps[2], f"URI:DIR-Verifier:{fingerprint}")
            cap = parse_cap(caps[0])
            self.assertEqual(cap.keys.write_key, expected["write_key"])
            made = (cap, cap.get_readonly(), cap.get_verify_cap())
            self.assertEqual([each.to_string() for each in made], caps)
            self.assertEqual([parse_cap(text) for text in caps], list(made))

    def test_slots(self):
        self.assertEqual(len(VECTORS["names"]), 6)
        for case in VECTORS["names"]:
            slot = bytes.fromhex(case["slot"])
            self.assertEqual(KEYS.read.slot_of(case["typed"]), slot)
            self.assertEqual(KEYS.read.slot_of(checked_name(case["typed"])), slot)
            self.assertEqual(second.slot_of(PLAIN_KEYS, case["typed"]), slot)


class SignedTest(SynchronousTestCase):
    def test_prepare(self):
        packed = bytes.fromhex(VECTORS["prepare"])
        wanted = (3, 2**40 + 5, WRITER)
        self.assertEqual(second.read_prepare(PLAIN_KEYS, packed), wanted)
        self.assertEqual(Prepare.make(KEYS, Ballot(*wanted)).pack(), packed)
        Prepare.unpack(packed).check(KEYS.fingerprint)

    def test_records(self):
        records = {}
        for case in VECTORS["records"]:
            packed = bytes.fromhex(case["packed"])
            plain = second.read_record(PLAIN_KEYS, packed)
            read = records[case["what"]] = Record.unpack(packed)
            read.check(KEYS.fingerprint)
            self.assertEqual(read.pack(), packed)
            # Ed25519 signs the same the same way.
            self.assertEqual(evolve(read, signature=bytes(64)).signed(KEYS), read)
            self.assertEqual(read.content, bytes.fromhex(case["content"]))
            for name, value in plain.items():
                ours = getattr(read, name)
                if name.endswith("replicas"):
                    ours = [(replica.node_id, replica.store_id) for replica in ours]
                if isinstance(ours, Ballot):
                    ours = (ours.epoch, ours.counter, ours.writer)
                self.assertEqual(list(ours) if name == "operations" else ours, value, name)
        first, changed = records["first"], records["changed"]
        replicas = [ReplicaId(bytes([n]) * 20, bytes([0xA0 + n]) * 16) for n in range(1, 6)]
        self.assertEqual(
            first,
            Record.sign(
                KEYS,
                epoch=1,
                replicas=tuple(replicas[:4]),
                ballot=Ballot(1, 1, WRITER),
                following=Ballot(1, 2, WRITER),
            ),
        )
        self.assertEqual(changed.previous, first.content)
        self.assertEqual(records["proposed again"].content, changed.content)
        self.assertEqual(changed.following, Ballot(1, 3, WRITER))
        self.assertIs(records["proposed again"].following, None)
        self.assertEqual(
            records["moved"],
            changed.new_epoch(
                KEYS,
                Ballot(2, 1, WRITER),
                tuple(replicas[1:]),
                following=Ballot(2, 2, WRITER),
            ),
        )
        self.assertEqual(
            records["recovered"],
            changed.new_epoch(KEYS, Ballot(7, 2**40, WRITER), tuple(replicas[2:]), recovered=True),
        )

    def test_pointer(self):
        case = VECTORS["pointer"]
        packed = bytes.fromhex(case["packed"])
        self.assertEqual(second.read_pointer(PLAIN_KEYS, packed), (2, 9, case["cap"]))
        cap = parse_cap(case["cap"])
        made = Pointer.make(KEYS, epoch=2, version=9, cap=cap, entropy=nonces(b"pointer"))
        self.assertEqual(made.pack(), packed)
        self.assertEqual(Pointer.unpack(packed).open(KEYS.read), cap)


class EntriesTest(SynchronousTestCase):
    def test_sealed(self):
        self.assertEqual(len(VECTORS["entries"]), 4)
        for case in VECTORS["entries"]:
            sealed, typed = bytes.fromhex(case["sealed"]), case["typed"]
            wanted = (checked_name(typed), case["read"], case["write"], case["metadata"])
            self.assertEqual(second.read_entry(PLAIN_KEYS, typed, sealed), wanted)
            child = Entry(*wanted)
            slot = KEYS.read.slot_of(typed)
            self.assertEqual(open_entry(sealed, slot, KEYS.read, KEYS.fingerprint, KEYS), child)
            again = seal(child, KEYS.read, KEYS, KEYS.fingerprint, nonces(typed.encode()))
            self.assertEqual(again, sealed)


class TriesTest(SynchronousTestCase):
    def test_roots(self):
        self.assertEqual(len(VECTORS["tries"]), 7)
        for case in VECTORS["tries"]:
            entries = second.entries_of(case["number"], case["size"])
            root, nodes = plain_trie(entries)
            self.assertEqual(root.hex(), case["root"])
            self.assertEqual(len(nodes), case["nodes"])
            change = trie.apply(trie.EMPTY_ROOT, entries, {}.get)
            self.assertEqual((change.root, change.added), (root, nodes))

    def test_slots_that_differ_at_the_end_alone(self):
        entries = {bytes(31) + bytes([n]): b"e" * 8192 for n in (0, 1, 16)}
        self.assertEqual(plain_trie(entries)[0].hex(), VECTORS["near_root"])
        change = trie.apply(trie.EMPTY_ROOT, entries, {}.get)
        self.assertEqual(change.root.hex(), VECTORS["near_root"])

    def test_proof(self):
        case = VECTORS["proof"]
        root, slot = bytes.fromhex(case["root"]), bytes.fromhex(case["slot"])
        nodes = [bytes.fromhex(node) for node in case["nodes"]]
        self.assertEqual(trie.prove(root, slot, nodes), sha256(b"entry 7").digest())
        whole = trie.apply(trie.EMPTY_ROOT, second.entries_of(63, 1), {}.get)
        self.assertEqual(trie.path(root, slot, whole.added.get), nodes)


class PageTest(SynchronousTestCase):
    def test_the_bounds_of_the_page_are_those_of_the_code(self):
        page = Path(__file__).parents[2] / "docs" / "specs" / "directories.md"
        text = page.read_text("utf-8")
        smallest = 82 + 29 + 64
        for statement in (
            f"| name | {names.MAX_NAME_CHARACTERS} characters |",
            f"at most {names.MAX_NAME_BYTES:,} bytes of UTF-8",
            f"| metadata of a child | {entry.MAX_METADATA_BYTES:,} bytes |",
            f"| entry | {entry.MAX_ENTRY_BYTES:,} bytes",
            f"| node | {trie.MAX_NODE_BYTES:,} bytes |",
            f"or if the leaf has at most {trie.MAX_LEAF_BYTES:,} bytes",
            f"a way from the root at most {trie.MAX_DEPTH + 1} nodes",
            f"| replicas | {record.MAX_REPLICAS} |",
            f"| operations remembered in a record | {record.MAX_OPERATIONS} |",
            f"{record.MIN_RECORD_BYTES} to {record.MAX_RECORD_BYTES:,} bytes",
            f"A ballot, {ballot.BALLOT_SIZE} bytes",
            f"A prepare, {ballot.PREPARE_SIZE} bytes",
            f"{smallest} to {pointer.MAX_POINTER_BYTES} bytes",
            f"length of the sealed cap, at most {pointer.MAX_SEALED_BYTES} |",
            f"looks at | {trie.MOST_NODES:,} |",
        ):
            self.assertIn(statement, text)
