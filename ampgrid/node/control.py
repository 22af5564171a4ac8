"""What a node answers on its Unix socket (seed 001's RIControlClient, and more)."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from twisted.protocols import amp

from ampgrid.caps import (
    ChkCap,
    ChkVerifierCap,
    FileCap,
    LitCap,
    parse_file_cap,
)
from ampgrid.commands import control as commands
from ampgrid.commands import errors as e
from ampgrid.errors import (
    AmpgridError,
    BadArgumentValueError,
    BadCapError,
    StoreError,
)
from ampgrid.immutable import (
    Checker,
    Downloader,
    Encoding,
    Keeper,
    KeptFiles,
    Operation,
    Repairer,
    Uploader,
    needs_shares,
)
from ampgrid.immutable.judging import judged
from ampgrid.immutable.kept import kept_json
from ampgrid.node.answering import OwnOperations, absolute, as_wire_errors
from ampgrid.node.drive import NodeDrive
from ampgrid.node.drive_keeper import DriveKeeper
from ampgrid.node.linking import file_at, is_grid_path, linking
from ampgrid.node.memory import memory_usage
from ampgrid.node.operations import Operations
from ampgrid.node.reports import page_text, report_text
from ampgrid.node.streams import closed, let_go, source_of, target_of
from ampgrid.ports import Entropy, Threads
from ampgrid.storage.service import StorageService
from ampgrid.wire import Connection

#: Seconds that `WaitForPeers` waits when nothing is said.
WAIT_SECONDS = 60
#: Peers in one page of `ListPeers`, or fewer: some peers have much to tell of themselves.
_PEERS_PER_PAGE = 50
_MOST_PROBLEM_BYTES = 50_000


class Controlled(Protocol):
    """What the control Commands need of a node."""

    operations: Operations
    entropy: Entropy
    spool_path: Path
    spool_reserve: int
    storage: StorageService | None
    drive: NodeDrive
    drive_keeper: DriveKeeper
    work: Threads
    streams: Threads

    @property
    def uploader(self) -> Uploader:
        """Puts files."""
        ...

    @property
    def downloader(self) -> Downloader:
        """Gets files."""
        ...

    @property
    def checker(self) -> Checker:
        """Tells how files fare."""
        ...

    @property
    def repairer(self) -> Repairer:
        """Writes shares that are missing."""
        ...

    @property
    def kept(self) -> KeptFiles:
        """The files that it keeps."""
        ...

    @property
    def file_keeper(self) -> Keeper:
        """Keeps them alive."""
        ...

    def encoding(self) -> Encoding:
        """Return k, happiness and n for uploads that name none."""
        ...

    async def settle_directories(self, check: Callable[[], None]) -> None:
        """On a node that has just started, wait until it has met those who keep directories."""
        ...

    async def happiness_of(self, cap: ChkVerifierCap) -> int:
        """Return how many servers of happiness a file should have."""
        ...

    def require_uploads(self) -> None:
        """Refuse to write to the grid where the node is one that does not."""
        ...

    async def settle(self, count: int | None, check: Callable[[], None]) -> None:
        """On a node that has just started, wait until it has met its peers."""
        ...

    async def wait_for_peers(self, count: int, seconds: float) -> int:
        """Wait until that many storage peers are connected; return how many are."""
        ...

    def status(self) -> dict[str, Any]:
        """Return what the node is and how it fares, for JSON."""
        ...

    def peers(self) -> list[dict[str, Any]]:
        """Return the known peers, for JSON."""
        ...

    def announcement_of(self, node_id: str) -> bytes:
        """Return the announcement of a peer as it was signed, empty if it is not known."""
        ...


class ControlResponder(amp.CommandLocator):
    """Answers the control Commands of one connection to the socket.

    Args:
        node: what is controlled.
        connection: whose loss cancels what was begun over it.
    """

    def __init__(self, node: Controlled, connection: Connection) -> None:
        super().__init__()
        self._node = node
        self._operation = OwnOperations(node.operations, connection).under_way

    @commands.WaitForPeers.responder
    async def wait_for_peers(self, count: int, timeout_seconds: int | None) -> dict[str, Any]:
        """Answer once enough storage peers are connected."""
        seconds = WAIT_SECONDS if timeout_seconds is None else timeout_seconds
        with as_wire_errors():
            return {"connected": await self._node.wait_for_peers(count, seconds)}

    # Files.

    @commands.Upload.responder
    async def upload(
        self,
        path: str | None,
        descriptor: int | None,
        needed: int | None,
        happy: int | None,
        total: int | None,
        grid_path: str | None,
        overwrite: bool | None,
        metadata: str | None,
        parents: bool | None,
        inline: bool | None,
        operation: int | None,
    ) -> dict[str, Any]:
        """Upload a file or a stream, and link it."""
        node = self._node
        with as_wire_errors(), closed(descriptor), self._operation(operation) as progress:
            node.require_uploads()
            given = _encoding(needed, happy, total)
            source = await source_of(node, path, descriptor, progress, given or node.encoding())
            try:
                held = given is None and (bool(inline) or grid_path is not None)
                if needs_shares(source.get_size(), inline=held):
                    await node.settle(given.happy if given else None, progress.check)
                link = None
                if grid_path is not None:
                    await node.settle_directories(progress.check)
                    link = await linking(
                        node.drive,
                        grid_path,
                        metadata,
                        overwrite=overwrite is not False,
                        make=bool(parents),
                    )
                encoding = given or node.encoding()
                uploaded = await node.uploader.upload(
                    source, encoding, progress, link, inline=held
                )
            finally:
                let_go(node.work, source)
        return {
            "cap": uploaded.cap.to_string(),
            "size": uploaded.size,
            "shares_placed": uploaded.shares_placed,
            "servers_happy": uploaded.servers_happy,
            "shares_already_there": uploaded.shares_already_there,
        }

    @commands.Download.responder
    async def download(
        self,
        cap: str,
        path: str | None,
        descriptor: int | None,
        offset: int | None,
        length: int | None,
        operation: int | None,
    ) -> dict[str, Any]:
        """Download a file, or a range of it, to a path or a descriptor."""
        node = self._node
        with as_wire_errors(), closed(descriptor), self._operation(operation) as progress:
            target = await target_of(node, path, descriptor, progress)
            try:
                parsed = await self._file(cap, progress)
                if not isinstance(parsed, ChkCap | LitCap):
                    raise BadCapError("this cap can verify a file but not read it")
                if isinstance(parsed, ChkCap):
                    await node.settle(parsed.needed, progress.check)
            except AmpgridError as error:
                target.fail(error)
                raise
            downloaded = await node.downloader.download(
                parsed, target, progress, offset or 0, length
            )
        problems = "\n".join(downloaded.problems).encode()[:_MOST_PROBLEM_BYTES]
        return {"size": downloaded.size, "problems": problems.decode("utf-8", "ignore")}

    # The store of shares.

    @commands.ImportTahoe.responder
    async def import_tahoe(
        self, path: str, dry_run: bool | None, operation: int | None
    ) -> dict[str, Any]:
        """Take the shares of a Tahoe-LAFS storage directory."""
        with as_wire_errors(), self._operation(operation) as progress:
            source = absolute(path)
            report = await self._storage().import_tahoe(source, progress, dry=bool(dry_run))
        return {"report": json.dumps(report.to_json())}

    @commands.RunScrub.responder
    async def run_scrub(self, operation: int | None) -> dict[str, Any]:
        """Re-hash every share of the store."""
        with as_wire_errors(), self._operation(operation) as progress:
            report = await self._storage().run_scrub(progress)
        return {"report": json.dumps(report)}

    @commands.ExportShare.responder
    async def export_share(
        self, storage_index: bytes, share: int, descriptor: int | None
    ) -> dict[str, Any]:
        """Write the bytes of a share to a descriptor."""
        with as_wire_errors(), closed(descriptor):
            if descriptor is None:
                raise BadArgumentValueError("give a descriptor")
            size = await self._storage().export_share(storage_index, share, descriptor)
            return {"size": size}

    def _storage(self) -> StorageService:
        if self._node.storage is None:
            raise BadArgumentValueError("this node keeps no shares")
        return self._node.storage

    @commands.Progress.responder
    async def progress(self, operation: int) -> dict[str, Any]:
        """Tell how far an operation is."""
        found = self._find(operation)
        return {"phase": found.phase, "done": found.done, "total": found.total}

    @commands.Cancel.responder
    async def cancel(self, operation: int) -> dict[str, Any]:
        """Cancel an operation."""
        self._find(operation).cancel()
        return {}

    def _find(self, number: int) -> Operation:
        operation = self._node.operations.get(number)
        if operation is None:
            raise e.NoSuchOperationError("no operation of this number is under way")
        return operation

    # Keeping files alive.

    @commands.Check.responder
    async def check(self, cap: str, operation: int | None) -> dict[str, Any]:
        """Tell which shares of a file are where."""
        return await self._check(cap, operation, verify=False)

    @commands.Verify.responder
    async def verify(self, cap: str, operation: int | None) -> dict[str, Any]:
        """Read and hash every share of a file."""
        return await self._check(cap, operation, verify=True)

    async def _check(self, cap: str, operation: int | None, *, verify: bool) -> dict[str, Any]:
        with as_wire_errors(), self._operation(operation) as progress:
            parsed = await self._file(cap, progress)
            report = await self._node.checker.check(parsed, progress, verify=verify)
            wanted = await self._happiness_of(parsed)
        return {"report": report_text(judged(report.to_json(), wanted))}

    async def _file(self, text: str, operation: Operation) -> FileCap:
        """Return the cap of a file, given as such or by its grid path."""
        if not is_grid_path(text):
            return parse_file_cap(text)
        await self._node.settle_directories(operation.check)
        return await file_at(self._node.drive, text)

    async def _happiness_of(self, cap: FileCap) -> int:
        verify = cap.get_verify_cap()
        return 0 if verify is None else await self._node.happiness_of(verify)

    @commands.Repair.responder
    async def repair(self, cap: str, verify: bool | None, operation: int | None) -> dict[str, Any]:
        """Write the missing shares of a file and replace the bad ones."""
        with as_wire_errors(), self._operation(operation) as progress:
            self._node.require_uploads()
            parsed = await self._file(cap, progress)
            report = await self._node.repairer.repair(parsed, progress, verify=bool(verify))
            wanted = await self._happiness_of(parsed)
        return {"report": report_text(judged(report.to_json(), wanted))}

    @commands.ListKept.responder
    async def list_kept(self, start: int) -> dict[str, Any]:
        """Tell a page of the kept files."""
        files = await self._node.kept.page(start)
        text, count = page_text([kept_json(file) for file in files])
        return {"kept": text, "next": files[count - 1].number if files else 0}

    @commands.DropKept.responder
    async def drop_kept(self, cap: str) -> dict[str, Any]:
        """Keep a file no longer."""
        with as_wire_errors():
            return {"dropped": await self._node.kept.drop(parse_file_cap(cap))}

    @commands.RunKeeper.responder
    async def run_keeper(
        self, now: bool | None, dry_run: bool | None, operation: int | None
    ) -> dict[str, Any]:
        """Walk the kept files."""
        with as_wire_errors(), self._operation(operation) as progress:
            self._node.require_uploads()
            report = await self._node.file_keeper.run(
                progress, now=bool(now), dry_run=bool(dry_run)
            )
            directories = None
            if not dry_run:
                directories = await self._walk_directories(progress, now=bool(now))
        return {"report": report_text({**report, "directories": directories})}

    async def _walk_directories(self, operation: Operation, *, now: bool) -> dict[str, Any] | None:
        keeper = self._node.drive_keeper
        if not now:
            return await keeper.run_due(operation)
        return await keeper.run(operation, full=True, snapshots=True, at_once=True)

    # The node.

    @commands.Status.responder
    async def status(self) -> dict[str, Any]:
        """Tell what the node is and how it fares."""
        if self._node.storage is not None:
            # What a store that fails was at the last look will do.
            with suppress(StoreError):
                await self._node.storage.look_again()
        return {"status": report_text(self._node.status())}

    @commands.ListPeers.responder
    async def list_peers(self, start: int) -> dict[str, Any]:
        """Tell a page of the known peers."""
        peers = self._node.peers()
        text, count = page_text(
            [
                {**peer, "announcement": self._announcement(peer)}
                for peer in peers[start : start + _PEERS_PER_PAGE]
            ]
        )
        end = start + count
        return {"peers": text, "next": end if count and end < len(peers) else 0}

    def _announcement(self, peer: dict[str, Any]) -> str:
        return b64encode(self._node.announcement_of(peer["node_id"])).decode("ascii")

    @commands.GetMemoryUsage.responder
    async def get_memory_usage(self) -> dict[str, Any]:
        """Tell the memory of this process."""
        return {f"vm_{key[2:].lower()}": value for key, value in memory_usage().items()}


def _encoding(needed: int | None, happy: int | None, total: int | None) -> Encoding | None:
    given = (needed, happy, total)
    if given == (None, None, None):
        return None
    if needed is None or happy is None or total is None:
        raise BadArgumentValueError("needed, happy and total go together")
    if not 1 <= needed <= total <= 256 or not 1 <= happy <= total:
        raise BadArgumentValueError("needed and happy must be from 1 to total, total at most 256")
    return Encoding(needed, happy, total)
