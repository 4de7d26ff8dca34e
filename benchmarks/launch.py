"""Runs one command and writes down what it took: `launch.py RESULT.json SECONDS COMMAND…`, killed after SECONDS.

A small process of its own, since Linux counts the memory of whoever starts a program towards the program's peak.
It imports nothing but the standard library, and is run with `python -I -S`.
"""

import json
import os
import signal
import sys
import time
from types import FrameType


def main(result: str, limit: str, *command: str) -> None:
    started = time.monotonic()
    # The kernel ends it when this process is ended.
    pid = os.posix_spawnp("setpriv", ["setpriv", "--pdeathsig", "KILL", *command], os.environ)
    timed_out = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal timed_out
        timed_out = True
        os.kill(pid, signal.SIGKILL)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, float(limit))
    _, status, usage = os.wait4(pid, 0)
    taken = {
        "started": started,
        "seconds": time.monotonic() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "exit_code": os.waitstatus_to_exitcode(status),
        "timed_out": timed_out,
    }
    with open(result, "w") as file:  # noqa: PTH123 - pathlib takes its time to import
        json.dump(taken, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
