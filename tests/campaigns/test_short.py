"""Each campaign on the store, short: what a full run finds, this finds sooner or later."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.campaigns import blob_sync, crash_states, nth_failure
from tests.patience import PATIENCE

HERE = Path(__file__).parent


class ShortCampaignTests(SynchronousTestCase):
    def check(self, campaign, *arguments):
        told = []
        violations = campaign(*arguments, tell=told.append)
        self.assertEqual(violations, 0, [line for line in told if "VIOLATION" in line])
        return told[-1]

    def run_script(self, name, *words):
        """Run a campaign that needs a reactor of its own; return the last line it prints."""
        done = subprocess.run(
            [sys.executable, HERE / name, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=4 * PATIENCE,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout.splitlines()[-1]

    def test_nth_failure(self):
        self.assertIn("failures injected", self.check(nth_failure.run, 2))

    def test_crash_states(self):
        last = self.check(crash_states.run, 400)
        self.assertGreater(int(last.split()[0]), 200)

    def test_kills(self):
        self.assertTrue(self.run_script("kills.py", "--count", 8).startswith("8 kills"))

    def test_blob_sync(self):
        words = ("--count", 3, "--small", 40, "--large", 1, "--large-bytes", 3_000_000)
        self.assertTrue(self.run_script("blob_sync.py", *words).startswith("3 kills"))

    def test_blob_sync_that_is_stopped_tells_what_was_done(self):
        class Stopped(blob_sync.Campaign):
            def in_peace(self, store, *words):
                raise KeyboardInterrupt

        work, told = Path(self.mktemp()).absolute(), []
        work.mkdir(parents=True)
        numbers = {"count": 1, "seed": 1, "small": 5, "small_bytes": 100, "large": 0, "life": 1}
        options = argparse.Namespace(remote="loopback", large_bytes=0, **numbers)
        status = Stopped(options, work, told.append).run()
        self.assertEqual(status, blob_sync.INCOMPLETE, told)
        self.assertRegex(told[-1], "^INCOMPLETE: 1 of 1 kills .* of 5; nothing was compared; 0 v")

    def test_full_disk(self):
        last = self.run_script("full_disk.py", "--count", 1)
        self.assertRegex(last, "^(2 disks filled and freed|SKIPPED)")
