"""A file of the grid, by its cap (seed 001's IFileNode)."""

from __future__ import annotations

from ampgrid.caps import ChkCap, LitCap
from ampgrid.immutable.downloader import Downloaded, Downloader
from ampgrid.immutable.operation import Operation
from ampgrid.immutable.targets import DownloadTarget, ToData


class FileNode:
    """A file of the grid.

    Args:
        cap: what gives it back.
        downloader: fetches it.
    """

    def __init__(self, cap: ChkCap | LitCap, downloader: Downloader) -> None:
        self._cap = cap
        self._downloader = downloader

    @property
    def cap(self) -> ChkCap | LitCap:
        """Its cap."""
        return self._cap

    def get_uri(self) -> str:
        """Return the text of the cap."""
        return self._cap.to_string()

    def get_size(self) -> int:
        """Return the size of the file, bytes."""
        return self._cap.get_size()

    def get_refresh_capability(self) -> str | None:
        """Return the text of the verify cap, with which leases can be renewed.

        None for a file whose cap holds the data itself.
        """
        verify = self._cap.get_verify_cap()
        return None if verify is None else verify.to_string()

    async def download(
        self, target: DownloadTarget, operation: Operation | None = None
    ) -> Downloaded:
        """Download to a target (see `Downloader.download`)."""
        return await self._downloader.download(self._cap, target, operation)

    async def download_to_data(self, most: int = 2**31) -> bytes:
        """Download a file of at most ``most`` bytes into memory."""
        data: bytes = (await self.download(ToData(most))).result
        return data
