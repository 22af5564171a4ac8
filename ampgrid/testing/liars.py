"""A zoo of replicas that lie, each in one way, from the moment `lying` is set.

`ZOO` names them. A table of four replicas must survive any one of them, and name it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from ampgrid.commands import errors as e
from ampgrid.commands import vdrive as commands
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.formats import trie
from ampgrid.formats.ballot import Ballot, Prepare
from ampgrid.formats.record import EMPTY_ROOT, Record
from ampgrid.formats.trienode import pack_leaf, parse_node
from ampgrid.register import acceptor
from ampgrid.testing.replicas import Changes, Kept, MemoryReplica
from ampgrid.vdrive.replica import packs


class Liar(MemoryReplica):
    """A replica that begins to lie when it is told to.

    Attributes:
        lying: whether it does.
        named: whether a client can tell that it lies, as soon as it meets the lie.
    """

    named = True

    @property
    def has_lied(self) -> bool:
        """Whether anybody has met the lie; those who are asked at all have told it, mostly."""
        return self.lying

    def __init__(self, node_id: bytes, store_id: bytes) -> None:
        super().__init__(node_id, store_id)
        self.lying = False
        self.chance = random.Random(node_id)  # noqa: S311 - the point is to be repeatable

    def begin(self) -> None:
        """Begin to lie."""
        self.lying = True


class ShowsOldVersion(Liar):
    """It accepts everything, and shows what it had long ago."""

    def begin(self) -> None:
        """Remember what is to be shown."""
        self.old = {
            index: attrs.evolve(kept, state=acceptor.AcceptorState(None, None, kept.history[-3]))
            for index, kept in self.kept.items()
        }
        super().begin()

    def shown(self, kept: Kept, nodes: Sequence[bytes] = ()) -> dict[str, Any]:
        """Show what was."""
        if self.lying:
            for index, real in self.kept.items():
                if real is kept and index in self.old:
                    return super().shown(self.old[index])
        return super().shown(kept, nodes)


class StoresNothing(Liar):
    """It says that it accepted, and keeps nothing."""

    def judge(self, index: bytes, record: bytes, changes: Changes | None) -> dict[str, Any]:
        """Say yes."""
        if self.lying:
            return {"verdict": commands.DONE}
        return super().judge(index, record, changes)


class TwoFaced(ShowsOldVersion):
    """It shows the old version and the new one by turns."""

    def shown(self, kept: Kept, nodes: Sequence[bytes] = ()) -> dict[str, Any]:
        """Show one or the other."""
        if self.lying and self.chance.random() < 0.5:
            return MemoryReplica.shown(self, kept, nodes)
        return super().shown(kept, nodes)


class _BadNodes(Liar):
    """It hands over nodes that are not those of its record."""

    def spoil(self, node: bytes) -> bytes:
        """Return something else."""
        raise NotImplementedError

    def _spoiled(self, answer: dict[str, Any]) -> dict[str, Any]:
        if self.lying and answer.get("nodes"):
            answer = {**answer, "nodes": [self.spoil(node) for node in answer["nodes"]]}
        return answer

    def shown(self, kept: Kept, nodes: Sequence[bytes] = ()) -> dict[str, Any]:
        """Show with spoilt nodes."""
        return self._spoiled(super().shown(kept, nodes))

    @commands.GetNodes.responder
    def get_nodes(self, index: bytes, hashes: Sequence[bytes]) -> dict[str, Any]:
        """Tell spoilt nodes."""
        return self._spoiled(super().get_nodes(index, hashes))


class DropsEntry(_BadNodes):
    """It leaves an entry out."""

    def spoil(self, node: bytes) -> bytes:
        """Take the last entry out of a leaf."""
        parsed = parse_node(node)
        if isinstance(parsed, dict):
            return node
        return pack_leaf(parsed[:-1]) if len(parsed) > 1 else pack_leaf([(parsed[0][0], b"?")])


class SwapsEntries(_BadNodes):
    """It puts entries into each other's slots."""

    def spoil(self, node: bytes) -> bytes:
        """Swap the entries of a leaf."""
        parsed = parse_node(node)
        if isinstance(parsed, dict):
            return node
        entries = [entry for _slot, entry in parsed]
        turned = [*entries[1:], entries[0] + b"?"]
        return pack_leaf([(slot, new) for (slot, _), new in zip(parsed, turned, strict=True)])


class SwapsReadAndWritePart(_BadNodes):
    """It exchanges the parts inside an entry."""

    def spoil(self, node: bytes) -> bytes:
        """Turn every entry of a leaf around."""
        parsed = parse_node(node)
        if isinstance(parsed, dict):
            return node
        turned = [(slot, entry[len(entry) // 2 :] + entry[:1] * 9) for slot, entry in parsed]
        return pack_leaf(turned)


class MixesVersions(_BadNodes):
    """It shows the present record, with nodes of an older version."""

    def spoil(self, node: bytes) -> bytes:
        """Return a node that was there before."""
        for kept in self.kept.values():
            for record in kept.history:
                if record.root in kept.nodes and kept.nodes[record.root] != node:
                    return kept.nodes[record.root]
        return node + b"?"


class AddsJunk(Liar):
    """Its pages never end: behind the nodes come others that belong to nothing."""

    def shown(self, kept: Kept, nodes: Sequence[bytes] = ()) -> dict[str, Any]:
        """Show more than there is."""
        answer = super().shown(kept, nodes)
        if self.lying:
            junk = [
                pack_leaf([(self.chance.randbytes(32), self.chance.randbytes(400))])
                for _ in range(60)
            ]
            answer["nodes"] = packs([*answer["nodes"][:3], *junk])[0]
        return answer


class _LiesWhenAskedForNodes(Liar):
    """It lies to who asks for nodes by their hashes; not every story comes to that."""

    asked_before = 0

    def begin(self) -> None:
        """Begin to count."""
        self.asked_before = self.calls.get("GetNodes", 0)
        super().begin()

    @property
    def has_lied(self) -> bool:
        """Whether anybody asked."""
        return self.calls.get("GetNodes", 0) > self.asked_before


class SendsTooMany(_LiesWhenAskedForNodes):
    """It answers with more nodes than were asked for."""

    @commands.GetNodes.responder
    def get_nodes(self, index: bytes, hashes: Sequence[bytes]) -> dict[str, Any]:
        """Tell everything it has."""
        answer = super().get_nodes(index, hashes)
        if self.lying:
            answer["nodes"] = packs([*answer["nodes"][:1] * (len(hashes) + 1)])[0]
        return answer

    def shown(self, kept: Kept, nodes: Sequence[bytes] = ()) -> dict[str, Any]:
        """Leave the nodes out, so that they are asked for."""
        return super().shown(kept, () if self.lying else nodes)


class WithholdsNodes(_LiesWhenAskedForNodes):
    """It shows its record, and says that its nodes are gone."""

    @commands.GetNodes.responder
    def get_nodes(self, index: bytes, hashes: Sequence[bytes]) -> dict[str, Any]:
        """Say that they are gone."""
        if self.lying:
            raise e.SnapshotGoneWireError("gone")
        return super().get_nodes(index, hashes)

    def shown(self, kept: Kept, nodes: Sequence[bytes] = ()) -> dict[str, Any]:
        """Leave the nodes out."""
        return super().shown(kept, () if self.lying else nodes)


class ShowsOtherDirectory(Liar):
    """It shows a good record of another directory."""

    def shown(self, kept: Kept, nodes: Sequence[bytes] = ()) -> dict[str, Any]:
        """Show something signed by somebody else."""
        answer = super().shown(kept, nodes)
        if self.lying and answer["held"] is not None:
            keys = WriteKeys(bytes(16))
            other = Record.sign(keys, epoch=0, replicas=(self.me,), ballot=Ballot(0, 0, bytes(8)))
            answer["held"] = other.pack()
        return answer


class ForgesRoot(Liar):
    """It shows a record with another root under the old signature."""

    def shown(self, kept: Kept, nodes: Sequence[bytes] = ()) -> dict[str, Any]:
        """Show a forgery."""
        answer = super().shown(kept, nodes)
        held = kept.state.accepted
        if self.lying and held is not None and held.root != EMPTY_ROOT:
            forged = attrs.evolve(held, root=trie.node_hash(b"forged"), version=held.version + 9)
            answer["held"] = forged.pack()
        return answer


class ShowsNoise(Liar):
    """What it shows is no record at all."""

    def shown(self, kept: Kept, nodes: Sequence[bytes] = ()) -> dict[str, Any]:
        """Show noise."""
        answer = super().shown(kept, nodes)
        if self.lying:
            answer["held"] = self.chance.randbytes(400)
        return answer


class ForgesPrepare(Liar):
    """It refuses everything for the sake of a prepare that nobody signed."""

    def _refused(self, index: bytes) -> dict[str, Any]:
        key = self.kept[index].history[0].verifying_key
        ballot = Ballot(0, 2**40, self.chance.randbytes(8))
        forged = Prepare(index, key, ballot, self.chance.randbytes(64))
        return {"verdict": commands.REFUSED, "held": None, "prepared": forged.pack()}

    def judge(self, index: bytes, record: bytes, changes: Changes | None) -> dict[str, Any]:
        """Refuse."""
        if self.lying:
            return self._refused(index)
        return super().judge(index, record, changes)

    @commands.Prepare.responder
    def prepare(
        self, index: bytes, prepare: bytes, slots: Sequence[bytes] | None = None
    ) -> dict[str, Any]:
        """Refuse."""
        if self.lying:
            return {**self._refused(index), "nodes": []}
        return super().prepare(index, prepare, slots)


class RefusesAll(Liar):
    """It refuses everything and gives no reason."""

    def judge(self, index: bytes, record: bytes, changes: Changes | None) -> dict[str, Any]:
        """Refuse."""
        if self.lying:
            return {"verdict": commands.REFUSED}
        return super().judge(index, record, changes)


class RefusesForOldReasons(Liar):
    """It refuses everything for the sake of what it holds, which does not stand in the way."""

    def judge(self, index: bytes, record: bytes, changes: Changes | None) -> dict[str, Any]:
        """Refuse."""
        if self.lying and index in self.kept:
            shown = super().shown(self.kept[index])
            return {"verdict": commands.REFUSED, "held": shown["held"]}
        return super().judge(index, record, changes)

    @commands.Prepare.responder
    def prepare(
        self, index: bytes, prepare: bytes, slots: Sequence[bytes] | None = None
    ) -> dict[str, Any]:
        """Refuse."""
        if self.lying and index in self.kept:
            return {"verdict": commands.REFUSED, **super().shown(self.kept[index])}
        return super().prepare(index, prepare, slots)


class AsksForever(Liar):
    """It always lacks the node that it was just given."""

    def judge(self, index: bytes, record: bytes, changes: Changes | None) -> dict[str, Any]:
        """Lack the root."""
        if self.lying:
            return {"verdict": commands.MISSING, "missing": [Record.unpack(record).root]}
        return super().judge(index, record, changes)


class AsksForNothing(Liar):
    """It lacks nodes that there never were."""

    def judge(self, index: bytes, record: bytes, changes: Changes | None) -> dict[str, Any]:
        """Make something up."""
        if self.lying:
            return {"verdict": commands.MISSING, "missing": [self.chance.randbytes(32)]}
        return super().judge(index, record, changes)


class SpeaksNonsense(Liar):
    """Its verdict is a word that there is not."""

    def judge(self, index: bytes, record: bytes, changes: Changes | None) -> dict[str, Any]:
        """Say something."""
        if self.lying:
            return {"verdict": "perhaps"}
        return super().judge(index, record, changes)


class ClaimsAnotherStore(Liar):
    """It says that it lost its disk, and votes all the same."""

    @commands.GetReplica.responder
    def get_replica(self) -> dict[str, Any]:
        """Tell another id each time."""
        return {"store": self.chance.randbytes(16) if self.lying else self.store_id}


class Fails(Liar):
    """Its disk fails."""

    def of(self, index: bytes) -> Kept:
        """Fail."""
        if self.lying:
            raise e.StoreFailedError("the store failed")
        return super().of(index)

    def judge(self, index: bytes, record: bytes, changes: Changes | None) -> dict[str, Any]:
        """Fail."""
        if self.lying:
            raise e.StoreFailedError("the store failed")
        return super().judge(index, record, changes)


class ForgetsPromises(Liar):
    """It promises everything to everybody, and accepts whatever comes."""

    named = False

    @commands.Prepare.responder
    def prepare(
        self, index: bytes, prepare: bytes, slots: Sequence[bytes] | None = None
    ) -> dict[str, Any]:
        """Promise."""
        if self.lying and index in self.kept:
            kept = self.kept[index]
            kept.state = kept.state._replace(promised=None, prepare=None)
        return super().prepare(index, prepare, slots)

    def judge(self, index: bytes, record: bytes, changes: Changes | None) -> dict[str, Any]:
        """Accept."""
        if self.lying and index in self.kept:
            kept = self.kept[index]
            kept.state = kept.state._replace(promised=None, prepare=None)
        return super().judge(index, record, changes)


#: Every liar.
ZOO: tuple[Callable[[bytes, bytes], Liar], ...] = (
    ShowsOldVersion,
    StoresNothing,
    TwoFaced,
    DropsEntry,
    SwapsEntries,
    SwapsReadAndWritePart,
    MixesVersions,
    AddsJunk,
    SendsTooMany,
    WithholdsNodes,
    ShowsOtherDirectory,
    ForgesRoot,
    ShowsNoise,
    ForgesPrepare,
    RefusesAll,
    RefusesForOldReasons,
    AsksForever,
    AsksForNothing,
    SpeaksNonsense,
    ClaimsAnotherStore,
    Fails,
    ForgetsPromises,
)
