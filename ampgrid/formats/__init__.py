"""Bytes and values: everything that is stored or shown, without any input or output.

* `ampgrid.formats.address`: ``amp://`` addresses.
* `ampgrid.formats.announcement`: what a node says of itself, signed.
* `ampgrid.formats.segments`: how a file is cut.
* `ampgrid.formats.hashtree`: Merkle trees.
* `ampgrid.formats.ueb`: the URI extension block.
* `ampgrid.formats.share`: the layout of a share.
* `ampgrid.formats.chkwriter`: makes shares.
* `ampgrid.formats.stored`: checks a share that is kept, without a cap.
* `ampgrid.formats.chk`: computes the cap of a file.
* `ampgrid.formats.tahoe_container`: the share files of a Tahoe-LAFS server.
* `ampgrid.formats.recovery`: what brings a lost node back.
* `ampgrid.formats.names`: how the children of a directory may be called.
* `ampgrid.formats.entry`: a child's name, caps and metadata, sealed.
* `ampgrid.formats.trie`: the Merkle trie of a directory's entries.
* `ampgrid.formats.trienode`: its nodes.
* `ampgrid.formats.triechange`: its changes.
* `ampgrid.formats.triewalk`: which of its nodes are in another.
* `ampgrid.formats.ballot`: ballots, and signed requests to promise one.
* `ampgrid.formats.record`: what the replicas of a directory agree on, signed.
* `ampgrid.formats.pointer`: where the snapshot of a directory lies, signed.
* `ampgrid.formats.blob`: what a sealed blob begins with.
* `ampgrid.formats.blobcipher`: what seals and opens blobs.
* `ampgrid.formats.blobrows`: sealed blobs as rows.
* `ampgrid.formats.blobname`: what blobs are called; their flags.
* `ampgrid.formats.blobuser`: who has blobs at a peer: accounts, users, tokens.
* `ampgrid.formats.blobkey`: the key file of a local store of blobs.
"""

__all__ = [
    "address",
    "announcement",
    "ballot",
    "blob",
    "blobcipher",
    "blobkey",
    "blobname",
    "blobrows",
    "blobuser",
    "chk",
    "chkwriter",
    "entry",
    "hashtree",
    "names",
    "pointer",
    "record",
    "recovery",
    "segments",
    "share",
    "stored",
    "tahoe_container",
    "trie",
    "triechange",
    "trienode",
    "triewalk",
    "ueb",
]
