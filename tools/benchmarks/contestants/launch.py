"""Runs a command and writes what it took. A process of its own, for a child inherits its parent's peak of memory."""

import json
import os
import subprocess
import sys
import time

started = time.perf_counter()
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - started
took = {"seconds": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}
with open(sys.argv[1], "w") as stream:
    json.dump(took | {"exit_code": os.waitstatus_to_exitcode(status)}, stream)
