"""What every test gets: a directory of its own to work in, and no clock over its examples.

What a run may leave nowhere is looked for by `tests.hygiene_plugin`; how the tests are distributed
says `tests.sharing`.
"""

import hypothesis
import pytest

pytest_plugins = ("tests.hygiene_plugin", "tests.sharing")

# How long an example takes says how busy the machine is, and nothing about the example.
hypothesis.settings.register_profile("ampgrid", deadline=None)
hypothesis.settings.load_profile("ampgrid")


@pytest.fixture(autouse=True)
def _own_directory(tmp_path, monkeypatch):
    """Trial's ``mktemp`` makes directories where the test runs: let that be a temporary one."""
    monkeypatch.chdir(tmp_path)
