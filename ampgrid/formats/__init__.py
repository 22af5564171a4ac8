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
"""

__all__ = [
    "address",
    "announcement",
    "chk",
    "chkwriter",
    "hashtree",
    "recovery",
    "segments",
    "share",
    "tahoe_container",
    "ueb",
]
