"""docs/reference/web-api.md: its curl lines do what it says, and it leaves no operation out."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.web import posting, tree
from ampgrid.web.sections import sections
from tests.integration.processes import DATA, ROOT, GridCase
from tests.patience import PATIENCE

PAGE = (ROOT / "docs" / "reference" / "web-api.md").read_text("utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
#: The token is read where it lies, and given to nobody.
TOKEN = 'TOKEN=$(cat "$NODE/private/web-token"); set -x'
#: What has a page of its own, or is for browsers alone.
ELSEWHERE = {"", "enter", "static", "blobs", "remote-blobs", "xmlrpc"}


class LineTests(GridCase):
    def test_every_line_succeeds(self) -> None:
        client = self.grid.ready["client"]
        node = Path(client["dir"])
        allow = node / "webport_allow_localfile"
        allow.write_text(f"{self.place}\n")
        allow.chmod(0o600)
        self.addCleanup(allow.unlink)
        (self.place / "notes.txt").write_bytes(DATA)
        # An answer of 4xx or 5xx is a failure, and with it the script's.
        (self.place / ".curlrc").write_text('silent\nshow-error\nfail\nwrite-out = "\\n"\n')
        told = {
            "WEB": client["web"].rstrip("/"),
            "NODE": str(node),
            "HERE": str(self.place),
            "CURL_HOME": str(self.place),
            "PATH": "/usr/bin:/bin",
        }
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join([TOKEN, *BLOCKS])],
            cwd=self.place,
            env=told,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        last = ended.stderr.decode("utf-8", "replace")[-1_000:]
        self.assertEqual(ended.returncode, 0, last)
        self.assertEqual((self.place / "out.txt").read_bytes(), DATA)
        self.assertEqual((self.place / "out" / "notes.txt").read_bytes(), DATA)


class PageTests(SynchronousTestCase):
    def test_every_operation_has_its_line(self) -> None:
        lines = "\n".join(BLOCKS)
        names = {*tree.GETS, *tree.PUTS, *tree.UNLINKED_PUTS, *posting.ACTIONS, *posting.UNLINKED}
        told = set(re.findall(r"[?&\s]t=([a-z-]+)", lines))
        self.assertEqual(names - told, {""})
        self.assertEqual(told - names, {"download", "cancel"})
        for word in set(sections()) - ELSEWHERE:
            self.assertIn(f"$WEB/{word}", lines)
        for method in ("-T", "-X PUT", "-X DELETE", "-X POST", "-I", "-d", "-F"):
            self.assertIn(f"curl {method}", lines.replace('-H "X-Ampgrid-Token: $TOKEN" ', ""))
