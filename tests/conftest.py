"""What every test gets: a directory of its own, and the same examples each time, with no clock.

What a run may leave nowhere is looked for by `tests.hygiene_plugin`; how the tests are distributed
says `tests.sharing`.
"""

import signal

import hypothesis
import pytest

pytest_plugins = ("tests.hygiene_plugin", "tests.sharing")

# How long an example takes says how busy the machine is, and nothing about the example.
_UNTIMED = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
# Each run tries the same examples, so that what fails is the change and not the day. Others are
# sought with ``--hypothesis-profile seeking``.
hypothesis.settings.register_profile("ampgrid", derandomize=True, **_UNTIMED)
hypothesis.settings.register_profile("seeking", derandomize=False, **_UNTIMED)
hypothesis.settings.load_profile("ampgrid")

# A shell that starts something in the background lets it ignore Ctrl-C, and nohup a hang-up; the
# programs that tests start and stop would ignore them too.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)


@pytest.fixture(autouse=True)
def _own_directory(tmp_path, monkeypatch):
    """Trial's ``mktemp`` makes directories where the test runs: let that be a temporary one."""
    monkeypatch.chdir(tmp_path)
