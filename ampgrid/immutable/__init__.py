"""Immutable files: uploading and downloading them in erasure-coded, encrypted shares.

Coroutines over the storage peers that are connected; they know formats and placement, and
nothing of how connections are made or where shares are kept.
"""

from ampgrid.immutable.checker import BadShare, Checker, CheckReport
from ampgrid.immutable.downloader import Downloaded, Downloader
from ampgrid.immutable.filenode import FileNode
from ampgrid.immutable.operation import Operation
from ampgrid.immutable.repairer import Repairer, RepairReport
from ampgrid.immutable.targets import DownloadTarget, ToData, ToDescriptor, ToFile
from ampgrid.immutable.uploadables import Data, OpenFile, Spool, Uploadable
from ampgrid.immutable.uploader import Encoding, Uploaded, Uploader

__all__ = [
    "BadShare",
    "CheckReport",
    "Checker",
    "Data",
    "DownloadTarget",
    "Downloaded",
    "Downloader",
    "Encoding",
    "FileNode",
    "OpenFile",
    "Operation",
    "RepairReport",
    "Repairer",
    "Spool",
    "ToData",
    "ToDescriptor",
    "ToFile",
    "Uploadable",
    "Uploaded",
    "Uploader",
]
