"""What processes have spent so far, as the kernel counts it."""

import dataclasses
import os
import pathlib
import re

TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Spent:
    """CPU in user and kernel mode of all threads; bytes that the process had the device read and write; how often a thread
    went to sleep to wait for another thread, the device or the network. What kernel threads do on its behalf, interrupts
    included, is in none of them."""

    cpu_seconds: float = 0.0
    read_bytes: int = 0
    written_bytes: int = 0
    waits: int = 0

    def __add__(self, other):
        return Spent(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other))))

    def __sub__(self, other):
        return Spent(*(a - b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other))))


def spent_by(pids) -> Spent:
    """The sum over these processes."""
    return sum((_of_process(pathlib.Path("/proc") / str(pid)) for pid in pids), Spent())


def _of_process(proc) -> Spent:
    fields = (proc / "stat").read_text().rsplit(")", 1)[1].split()
    io = (proc / "io").read_text()
    waits = 0
    for status in proc.glob("task/*/status"):
        try:
            waits += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text(), re.M).group(1))
        except FileNotFoundError:
            continue  # The thread ended.
    read, written = (int(re.search(rf"^{name}: (\d+)", io, re.M).group(1)) for name in ("read_bytes", "write_bytes"))
    return Spent((int(fields[11]) + int(fields[12])) / TICKS, read, written, waits)
