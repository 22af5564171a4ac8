"""What the tests of the trie share: a second, plain implementation of it, and strategies."""

from hashlib import sha256

from hypothesis import strategies as st

from ampgrid.formats import trie

TAG = b"25:ampgrid_directory_node_v1,"


def plain_trie(entries, prefix=""):
    """Build the trie of a dict as the specification says, by brute force.

    Returns:
        Its root and a dict of its nodes.
    """
    if not entries:
        return bytes(32), {}
    pairs = sorted(entries.items())
    node = b"\1" + b"".join(slot + len(entry).to_bytes(2, "big") + entry for slot, entry in pairs)
    nodes = {}
    if len(pairs) > 1 and len(node) > 4096:
        bitmap, hashes = 0, b""
        for number, nibble in enumerate("0123456789abcdef"):
            below = {
                slot: entry for slot, entry in pairs if slot.hex().startswith(prefix + nibble)
            }
            if below:
                digest, more = plain_trie(below, prefix + nibble)
                nodes |= more
                bitmap |= 2**number
                hashes += digest
        node = b"\2" + bitmap.to_bytes(2, "big") + hashes
    digest = sha256(TAG + node).digest()
    return digest, nodes | {digest: node}


class Table:
    """A trie with the nodes that it needs, and what should be in it."""

    def __init__(self):
        self.root = trie.EMPTY_ROOT
        self.nodes = {}
        self.expected = {}

    def apply(self, changes):
        change = trie.apply(self.root, changes, self.nodes.get)
        self.nodes |= change.added
        for digest in change.removed:
            del self.nodes[digest]
        self.root = change.root
        for slot, entry in changes.items():
            if entry is None:
                self.expected.pop(slot, None)
            else:
                self.expected[slot] = entry
        return change


def slot_at(nibbles):
    """Return the slot that begins with some nibbles and goes on with zeros."""
    return bytes.fromhex(nibbles.ljust(64, "0"))


#: Slots that have much in common, so that few of them make a deep trie.
near_slots = st.one_of(
    st.text("0f", max_size=4).map(slot_at),
    st.text("0f", max_size=4).map(lambda nibbles: slot_at("a" * 60 + nibbles)),
    st.sampled_from("0123456789abcdef").map(slot_at),
)
#: Short ones, ones of which a few fill a leaf, and ones that are a leaf alone.
entry_values = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.sampled_from([900, 1332, 1333, 2013, 2014, 4061, 4062, 8192]).map(lambda n: b"e" * n),
)
dicts = st.dictionaries(near_slots, entry_values, max_size=20)
changes = st.dictionaries(near_slots, st.one_of(st.none(), entry_values), max_size=12)
