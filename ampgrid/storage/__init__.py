"""Shares kept for other peers, and the client's side of it.

* `ampgrid.storage.service`: the storage service over a store of shares.
* `ampgrid.storage.responder`: answers the storage Commands of one connection.
* `ampgrid.storage.tahoe_import`: takes the shares of a Tahoe-LAFS server.
* `ampgrid.storage.share_export`: writes a share to a file.
* `ampgrid.storage.client`: a storage peer, as uploads and downloads see it.
"""
