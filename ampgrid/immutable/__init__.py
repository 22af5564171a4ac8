"""Immutable files: uploading and downloading them in erasure-coded, encrypted shares.

Coroutines over the storage peers that are connected; they know formats and placement, and
nothing of how connections are made or where shares are kept.
"""

from ampgrid.immutable.bandwidth import Bandwidth
from ampgrid.immutable.checker import BadShare, Checker, CheckReport
from ampgrid.immutable.downloader import Downloaded, Downloader
from ampgrid.immutable.filenode import FileNode
from ampgrid.immutable.keeper import Keeper
from ampgrid.immutable.kept import KeptFiles
from ampgrid.immutable.operation import Operation
from ampgrid.immutable.repairer import Repairer, RepairReport
from ampgrid.immutable.schedule import Schedule
from ampgrid.immutable.targets import DownloadTarget, ToData, ToDescriptor, ToFile
from ampgrid.immutable.uploadables import Data, OpenFile, Spool, Uploadable
from ampgrid.immutable.uploader import Encoding, Uploaded, Uploader, needs_shares
from ampgrid.immutable.walker import Walker

__all__ = [
    "BadShare",
    "Bandwidth",
    "CheckReport",
    "Checker",
    "Data",
    "DownloadTarget",
    "Downloaded",
    "Downloader",
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
