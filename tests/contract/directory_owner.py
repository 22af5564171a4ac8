"""Who owns a directory, and makes the records that a store of directories is given."""

from __future__ import annotations

import hashlib
import random

from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.formats import trie
from ampgrid.formats.ballot import Ballot, Prepare
from ampgrid.formats.record import EMPTY_ROOT, Record, ReplicaId

#: Another replica, which is nowhere.
ELSEWHERE = ReplicaId(b"e" * 20, b"e" * 16)


def slot_of(number):
    """Return the slot of an entry."""
    return hashlib.sha256(b"slot %d" % number).digest()


def entry_of(number, size=120):
    """Return a sealed entry; to a store it is bytes."""
    return random.Random(number).randbytes(size)


class Owner:
    """A writer with the keys of one directory, its nodes at hand.

    Args:
        number: tells owners apart.
        replicas: the replica set.
        names_following: whether its records name the following ballot.
    """

    def __init__(self, number, *replicas, names_following=False):
        self.names_following = names_following
        self.keys = WriteKeys(hashlib.sha256(b"key %d" % number).digest()[:16])
        self.index = self.keys.fingerprint
        self.replicas = replicas
        self.writer = b"writer%02d" % number
        self.nodes = {}
        self.counter = 0

    def ballot(self, counter=None, epoch=0):
        """Return a ballot, the next one if no counter is given."""
        if counter is None:
            self.counter += 1
            counter = self.counter
        return Ballot(epoch, counter, self.writer)

    def prepare(self, ballot=None):
        """Return a signed prepare."""
        return Prepare.make(self.keys, ballot or self.ballot())

    def following(self, ballot):
        """Return the ballot that a record names as the following one, if it does."""
        if not self.names_following:
            return None
        return Ballot(ballot.epoch, ballot.counter + 1, self.writer)

    def first(self, ballot=None):
        """Return the first record."""
        ballot = ballot or self.ballot()
        return Record.sign(
            self.keys,
            epoch=0,
            replicas=self.replicas,
            ballot=ballot,
            following=self.following(ballot),
        )

    def change(self, base, changes, ballot=None):
        """Return the record that makes changes to the one before."""
        made = trie.apply(base.root, changes, self.nodes.get)
        self.nodes.update(made.added)
        ballot = ballot or self.ballot()
        return base.successor(
            self.keys,
            ballot=ballot,
            following=self.following(ballot),
            root=made.root,
            count=base.count + made.delta,
            operation=b"%08d" % self.counter,
        )

    def move(self, base, *replicas):
        """Return the record that changes the replica set."""
        self.counter += 1
        ballot = self.ballot(epoch=base.epoch + 1)
        return base.new_epoch(self.keys, ballot, replicas, following=self.following(ballot))

    def release(self, base):
        """Return the record that names the new set alone."""
        ballot = self.ballot(epoch=base.ballot.epoch)
        return base.successor(
            self.keys,
            ballot=ballot,
            following=self.following(ballot),
            root=base.root,
            count=base.count,
            operation=b"%08d" % self.counter,
        )

    def nodes_of(self, record):
        """Return all nodes under the root of a record, in preorder."""
        return [node for _, node in trie.preorder(record.root, self.nodes.get)]

    def entries_of(self, record):
        """Return {slot: entry} of a record."""
        if record.root == EMPTY_ROOT:
            return {}
        return dict(trie.entries(record.root, self.nodes.get))
