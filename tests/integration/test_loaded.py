"""What a storage node loads to serve, so that its memory and its start do not grow unseen."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid.node.creation import create_introducer, create_node
from tests.integration.processes import ampgrid, environment

#: All that a node which serves takes from elsewhere. Whoever adds to it says in
#: docs/performance/README.md what it costs (tests/benchmarks/layers.py).
PACKAGES = {
    "attr",
    "attrs",
    "automat",
    "click",
    "constantly",
    "cryptography",
    "idna",
    "incremental",
    "OpenSSL",
    "service_identity",
    "sqlcipher3",
    "twisted",
    "typing_extensions",
    "zope",
}
#: What is looked for in vain, or there for others, and what an installation runs at its start.
ELSEWHERE = {"bcrypt", "org", "sitecustomize", "usercustomize", "win32api"}
#: What is loaded when it is used, with what is below.
LATER = {
    "ampgrid.blobs",
    "ampgrid.erasure",
    "ampgrid.immutable.checker",
    "ampgrid.immutable.downloader",
    "ampgrid.immutable.repairer",
    "ampgrid.immutable.uploader",
    "ampgrid.immutable.walker",
    "ampgrid.node.blob_control",
    "ampgrid.node.control",
    "ampgrid.node.directory_control",
    "ampgrid.node.recovery",
    "ampgrid.peers.introducer",
    "ampgrid.placement",
    "ampgrid.register.reader",
    "ampgrid.register.writer",
    "ampgrid.storage.tahoe_import",
    "ampgrid.store.localblobs",
    "ampgrid.store.servedblobs",
    "ampgrid.vdrive.deep",
    "ampgrid.vdrive.dirnode",
    "ampgrid.vdrive.drive",
    "ampgrid.vdrive.table",
    "ampgrid.web",
    "email.message",
    "http.client",
    "http.cookiejar",
    "twisted.internet.endpoints",
    "twisted.plugin",
    "twisted.web",
    "urllib.request",
    "zipfile",
}


class LoadedTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def loaded_by(self, directory: Path) -> set[str]:
        """Start and stop a node; return the modules that it has executed."""
        words = ["-d", directory, "run", "--until-stdin-closes", "--log-file", directory / "log"]
        ran = ampgrid(*words, env=environment(PYTHONPROFILEIMPORTTIME="1"))
        self.assertEqual(ran.status, 0, ran.err)
        self.assertIn(b"Ready: ", ran.out)
        lines = [line for line in ran.err.splitlines() if line.startswith("import time:")]
        # Behind the heading.
        return {line.rpartition("|")[2].strip() for line in lines[1:]}

    def test_a_storage_node_loads_what_it_serves_with(self) -> None:
        directory = self.folder / "node"
        create_node(directory, introducers=[], listen="127.0.0.1:0", web="none", reserve=0)
        loaded = self.loaded_by(directory)
        self.assertLessEqual({"ampgrid.storage.responder", "ampgrid.vdrive.responder"}, loaded)
        early = [n for n in loaded if any(f"{n}.".startswith(f"{each}.") for each in LATER)]
        self.assertEqual(sorted(early), [])
        known = PACKAGES | ELSEWHERE | {"ampgrid"} | sys.stdlib_module_names
        strange = {name.partition(".")[0] for name in loaded} - known
        # The compiled halves of packages, and the finders of editable ones, have such names.
        self.assertEqual({name for name in strange if not name.startswith("_")}, set())

    def test_an_introducer_loads_no_more_but_what_introduces(self) -> None:
        create_introducer(self.folder / "introducer", listen="127.0.0.1:0")
        loaded = self.loaded_by(self.folder / "introducer")
        self.assertIn("ampgrid.peers.introducer", loaded)
        self.assertEqual([n for n in loaded if n.startswith(("ampgrid.blobs", "ampgrid.web"))], [])
