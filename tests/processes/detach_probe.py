"""Reports what a detached process finds when it starts, as JSON to the FIFO argv[1]; waits for a line from argv[2]."""

import json
import os
import signal
import sys
from pathlib import Path

signal.alarm(120)  # whatever becomes of the test, this process ends
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
report = {
    "pid": os.getpid(),
    "parent": os.getppid(),
    "session": os.getsid(0),
    "terminal": int(stat[4]),
    "directory": str(Path.cwd()),
    "stdio": [str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in range(3)],
    "descriptors": [fd for fd in range(3, 200) if Path(f"/proc/self/fd/{fd}").exists()],
    "blocked": status["SigBlk"].strip(),
    "ignored": int(status["SigIgn"], 16),
    "environment": dict(os.environ),
    "arguments": sys.argv[3:],
}
# Without O_NONBLOCK the open would wait for a reader that may be dead.
with open(os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK), "w") as fifo:  # noqa: PTH123 - a descriptor
    fifo.write(json.dumps(report))
if sys.argv[2]:
    with Path(sys.argv[2]).open() as file:
        file.readline()
