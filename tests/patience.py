"""How long a test waits for something real: a process, a socket, a thread.

It is given up long after it can still come, and not when it usually has: on a machine that does
much else everything takes many times as long.
"""

#: Seconds.
PATIENCE = 120.0
