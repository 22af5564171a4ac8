"""One look of the keeper at one file: renew its leases, check it, repair it if need be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from ampgrid.crypto.identity import node_id_text
from ampgrid.errors import AmpgridError, OperationCancelledError
from ampgrid.immutable.bandwidth import Bandwidth
from ampgrid.immutable.checker import Checker, CheckReport, Pace
from ampgrid.immutable.operation import Operation
from ampgrid.immutable.renewal import Lateness, Renewal
from ampgrid.immutable.repairer import Repairer
from ampgrid.immutable.schedule import Schedule, Verdict, falls_short, judge, least_happiness
from ampgrid.placement import happiness
from ampgrid.ports import WallClock
from ampgrid.storage.client import StorageServer
from ampgrid.store.keptdb import KeptFile

#: What a check reads of one share, for the bandwidth: its hashes and what surrounds them, bytes.
_CHECK_BYTES = 4096


@attrs.frozen
class Look:
    """What a look at a file came to.

    Attributes:
        file: as it is now.
        verdict: what followed from the check.
        renewed: whether its leases were renewed (would be, of a dry run; so with the others).
        verified: whether every byte of its shares was read.
        repaired: whether shares were written.
        written: how many.
    """

    file: KeptFile
    verdict: Verdict
    renewed: bool = False
    verified: bool = False
    repaired: bool = False
    written: int = 0


class Walker:
    """Looks at files.

    Args:
        servers: returns the storage peers that are connected now.
        checker: checks.
        repairer: repairs.
        schedule: when to look again.
        bandwidth: what reading and writing keep within; by its clock slow servers are told.
        wall: wall-clock time.
        repair_below: servers of happiness below which a file is repaired; None for its own.
    """

    def __init__(
        self,
        servers: Callable[[], Sequence[StorageServer]],
        checker: Checker,
        repairer: Repairer,
        *,
        schedule: Schedule,
        bandwidth: Bandwidth,
        wall: WallClock,
        repair_below: int | None = None,
    ) -> None:
        self._servers = servers
        self._checker = checker
        self._repairer = repairer
        self._schedule = schedule
        self._bandwidth = bandwidth
        self._wall = wall
        self._repair_below = repair_below

    async def look(
        self,
        file: KeptFile,
        operation: Operation,
        lateness: Lateness,
        *,
        at_once: bool,
        dry: bool,
    ) -> Look:
        """Look at a file.

        Args:
            file: what was known of it.
            operation: progress and cancelling.
            lateness: which servers have kept this walk waiting; noted and heeded.
            at_once: renew and repair without waiting for the moment or for a second look.
            dry: write nothing anywhere, only tell.

        Raises:
            OperationCancelledError: somebody has cancelled.
        """

        async def pace(size: int) -> None:
            await self._bandwidth.take(size, operation)

        renewing = at_once or self._schedule.wants_renewal(file, self._wall())
        renewal = None
        if renewing and not dry:
            index = file.cap.storage_index
            renewal = Renewal(index, list(self._servers()), lateness, self._bandwidth.clock)
            await renewal.wait()
        verify = self._may_verify(file)
        await pace(_CHECK_BYTES * file.cap.total)
        lateness.patients.next_file()
        report = await self._checker.check(
            file.cap, operation, verify=verify, pace=pace, patients=lateness.patients
        )
        trouble = ""
        if renewal is not None:
            file, trouble = self._renewed(file, report, renewal)
        now = self._wall()
        verdict = judge(file, report, self._repair_below, now, at_once=at_once)
        look = Look(
            _noted(file, report, verdict, now),
            verdict,
            renewed=renewing and not trouble,
            verified=verify,
        )
        if verdict is Verdict.REPAIR:
            return await self._repair(look, report, operation, pace, lateness, dry=dry)
        return attrs.evolve(look, file=self._follow(look.file, report, verdict, trouble))

    # Leases.

    def _renewed(
        self, file: KeptFile, report: CheckReport, renewal: Renewal
    ) -> tuple[KeptFile, str]:
        """Return the file with what became of its leases, and what is wrong if too few took one.

        Leases must be where shares are, on as many servers as the file should be on; one server
        that refuses is no failure of the file as long as there are others enough.
        """
        takers = renewal.takers
        if not takers:
            return file, renewal.trouble or "no server took a lease"
        held = {s: shares for s, shares in report.holdings().items() if s in takers}
        wanted = min(least_happiness(file, self._repair_below), report.happy)
        if (found := happiness(held)) < wanted:
            why = renewal.trouble or "the others did not answer in time"
            return file, f"only {found} servers of happiness took a lease: {why}"
        return attrs.evolve(file, renewed_at=self._wall(), renewed_servers=len(takers)), ""

    # Checking.

    def _may_verify(self, file: KeptFile) -> bool:
        """Tell whether to read every byte: when it is time for it, and it takes not too long."""
        cap = file.cap
        seconds = cap.size / cap.needed * cap.total / self._bandwidth.rate
        return (
            self._schedule.wants_verify(file, self._wall())
            and seconds <= self._schedule.period / 2
            and len(self._servers()) >= file.happy
        )

    def _follow(
        self, file: KeptFile, report: CheckReport, verdict: Verdict, trouble: str
    ) -> KeptFile:
        """Return the file with what follows from a check without a repair."""
        now, schedule = self._wall(), self._schedule
        if verdict is Verdict.LOST:
            found = f"{report.count_good} of the {file.cap.needed} shares it needs were found"
            return self.failed(file, f"only {found}")
        if verdict is Verdict.TOO_FEW_SERVERS:
            skips = file.skips + 1
            return attrs.evolve(
                file,
                skips=skips,
                next_at=schedule.again(now, skips),
                problem=f"only {report.servers_answered} servers answered, "
                f"too few to tell whether its shares are lost",
            )
        if verdict is Verdict.SECOND_LOOK:
            since = file.suspected_at
            if since is None or since > now:
                since = now
            return attrs.evolve(
                file,
                suspected_at=since,
                skips=0,
                next_at=schedule.second_look(since),
                problem=_shortfall(report),
            )
        if trouble and report.count_good:
            return self.failed(file, trouble)
        return self._well(file)

    def _well(self, file: KeptFile, problem: str = "") -> KeptFile:
        return attrs.evolve(
            file,
            suspected_at=None,
            skips=0,
            failures=0,
            next_at=self._schedule.regular(self._wall()),
            problem=problem,
        )

    def failed(self, file: KeptFile, problem: str) -> KeptFile:
        """Return a file that could not be kept as it should, with when to try again."""
        failures = file.failures + 1
        return attrs.evolve(
            file,
            skips=0,
            failures=failures,
            next_at=self._schedule.again(self._wall(), failures),
            problem=problem,
        )

    # Repairing.

    async def _repair(
        self,
        look: Look,
        found: CheckReport,
        operation: Operation,
        pace: Pace,
        lateness: Lateness,
        *,
        dry: bool,
    ) -> Look:
        if dry:
            return attrs.evolve(look, repaired=True)
        file = look.file
        try:
            report = await self._repairer.repair(
                file.cap, operation, pace=pace, found=found, patients=lateness.patients
            )
        except OperationCancelledError:
            raise
        except AmpgridError as error:
            # A node that stops loses its connections: that tells nothing of the file.
            operation.check()
            return attrs.evolve(look, file=self.failed(file, f"the repair failed: {error}"))
        after, now = report.after, self._wall()
        file = attrs.evolve(
            file,
            good=after.count_good,
            servers_happy=after.happy,
            bad=len(after.bad),
            repaired_at=now if report.written else file.repaired_at,
        )
        if falls_short(file, after, self._repair_below):
            file = self.failed(file, f"even after a repair {_shortfall(after)}")
        else:
            file = self._well(file, _damage(after))
        written = len(report.written)
        return attrs.evolve(look, file=file, repaired=bool(written), written=written)


def _noted(file: KeptFile, report: CheckReport, verdict: Verdict, now: float) -> KeptFile:
    """Return the file with what a check found."""
    # Second looks and vain ones do not bring the next reading of every byte nearer.
    ended = verdict in {Verdict.WELL, Verdict.REPAIR}
    return attrs.evolve(
        file,
        checked_at=now,
        verified_at=now if report.verified else file.verified_at,
        unverified=0 if report.verified else file.unverified + ended,
        good=report.count_good,
        servers_happy=report.happy,
        bad=len(report.bad),
    )


def _shortfall(report: CheckReport) -> str:
    return (
        f"{report.count_good} of {report.total} shares were found, on {report.happy} servers "
        "of happiness"
    )


def _damage(report: CheckReport) -> str:
    if not report.bad:
        return ""
    first = report.bad[0]
    name = node_id_text(first.server_id)[:8]
    return f"server {name} holds a bad share {first.number} and keeps it"
