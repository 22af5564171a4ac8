"""Immutable files: uploading and downloading them in erasure-coded, encrypted shares.

Coroutines over the storage peers that are connected; they know formats and placement, and
nothing of how connections are made or where shares are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ampgrid.lazily import names_of

if TYPE_CHECKING:
    from ampgrid.immutable.bandwidth import Bandwidth
    from ampgrid.immutable.checker import BadShare, Checker, CheckReport
    from ampgrid.immutable.downloader import Downloaded, Downloader
    from ampgrid.immutable.earlykey import EarlyKey
    from ampgrid.immutable.encoding import Encoding
    from ampgrid.immutable.filenode import FileNode
    from ampgrid.immutable.keeper import Keeper
    from ampgrid.immutable.kept import KeptFiles
    from ampgrid.immutable.operation import Operation
    from ampgrid.immutable.repairer import Repairer, RepairReport
    from ampgrid.immutable.schedule import Schedule
    from ampgrid.immutable.spool import Spool
    from ampgrid.immutable.targets import DownloadTarget, ToData, ToDescriptor, ToFile
    from ampgrid.immutable.uploadables import Data, OpenFile, Uploadable
    from ampgrid.immutable.uploader import Uploaded, Uploader, needs_shares
    from ampgrid.immutable.walker import Walker
else:
    __getattr__ = names_of(
        __name__,
        {
            "bandwidth": ["Bandwidth"],
            "checker": ["BadShare", "Checker", "CheckReport"],
            "downloader": ["Downloaded", "Downloader"],
            "earlykey": ["EarlyKey"],
            "encoding": ["Encoding"],
            "filenode": ["FileNode"],
            "keeper": ["Keeper"],
            "kept": ["KeptFiles"],
            "operation": ["Operation"],
            "repairer": ["Repairer", "RepairReport"],
            "schedule": ["Schedule"],
            "spool": ["Spool"],
            "targets": ["DownloadTarget", "ToData", "ToDescriptor", "ToFile"],
            "uploadables": ["Data", "OpenFile", "Uploadable"],
            "uploader": ["Uploaded", "Uploader", "needs_shares"],
            "walker": ["Walker"],
        },
    )

__all__ = [
    "BadShare",
    "Bandwidth",
    "CheckReport",
    "Checker",
    "Data",
    "DownloadTarget",
    "Downloaded",
    "Downloader",
    "EarlyKey",
    "Encoding",
    "FileNode",
    "Keeper",
    "KeptFiles",
    "OpenFile",
    "Operation",
    "RepairReport",
    "Repairer",
    "Schedule",
    "Spool",
    "ToData",
    "ToDescriptor",
    "ToFile",
    "Uploadable",
    "Uploaded",
    "Uploader",
    "Walker",
    "needs_shares",
]
