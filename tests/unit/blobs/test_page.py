"""The first use of blobs that the page shows, run as it stands."""

from __future__ import annotations

import os
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.blobs.blob_world import SECRET, World, content

PAGE = Path(__file__).parents[3] / "docs" / "blobs.md"


class PageTests(SynchronousTestCase):
    def test_the_first_use(self):
        world = World(Path(self.mktemp()).absolute())
        self.addCleanup(world.close)
        code = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[1]
        self.assertLessEqual(len(code.splitlines()), 13)
        told, made = [], []

        def manager(local_path, remote, key, secret, user, token):
            made.append((local_path, remote, key, secret, user, token))
            return world.manager(local_path, key=key.encode().ljust(32), secret=secret, user=user)

        names = {"print": lambda *words: told.append(words)}
        exec(code, names)
        names["BlobManager"] = manager
        here = Path.cwd()
        os.chdir(world.folder)
        try:
            Path("photo.jpg").write_bytes(content("photo"))
            world.run(names["keep_a_photo"](SECRET, "a token"))
        finally:
            os.chdir(here)
        world.managers.clear()
        [(report, first)] = told
        self.assertEqual(first, content("photo")[:100])
        self.assertEqual(report.failed, [])
        self.assertEqual(made[0][4:], ("alice", "a token"))
        other = world.manager("b")
        self.assertEqual(world.get(other, "photo-1"), content("photo"))
