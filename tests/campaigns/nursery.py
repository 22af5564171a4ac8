"""A process that has imported everything and forks one node after the other.

    python tests/campaigns/nursery.py

It reads commands from its standard input, a line each, and answers each with a line:

* ``run DIRECTORY``: fork a process that does what ``python -m ampgrid -d DIRECTORY run`` does,
  from the same main function on; the answer is its process id. Its output goes to ``node.log``.
* ``wait PID``: wait until that process has ended; the answer is how.

Starting Python and importing costs some 0.4 seconds of processor time a node, forking nothing.
What is forked is a node like any other: no reactor, thread, socket or database exists before.
When the standard input ends, all nodes are killed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

# All that a node needs, so that it need not be imported again.
import ampgrid.cli.reactor
import ampgrid.cli.run
import ampgrid.node.node  # noqa: F401
from ampgrid.cli.main import main as ampgrid_main


def run_node(directory: str) -> int:
    """Fork a node; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        log = os.open(
            os.path.join(directory, "node.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.closerange(3, 256)
        sys.argv = ["ampgrid", "-d", directory, "run"]
        ampgrid_main()
    finally:
        # Never back into the loop below.
        os._exit(1)


def main() -> None:
    """Obey until the standard input ends."""
    if "twisted.internet.reactor" in sys.modules:
        raise AssertionError("a reactor must not be shared by forked processes")
    running: set[int] = set()
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "run":
            pid = run_node(rest)
            running.add(pid)
            answer = str(pid)
        else:
            _, status = os.waitpid(int(rest), 0)
            running.discard(int(rest))
            answer = str(os.waitstatus_to_exitcode(status))
        print(answer, flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
