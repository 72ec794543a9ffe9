"""What both servers pay and neither can save: the network and the device alone, measured in the same run.

The network: a bare echo over loopback TCP, 4 KiB each way on 32 connections, by a server on our reactor (`networked`). A read
has its 4 KiB one way only, so this is somewhat more than it must pay.
The device: fio's io_uring engine with registered buffers on the place that spirula's store has afterwards; CPU of the process,
its kernel workers included, less what its start takes.
"""

import json
import pathlib
import statistics
import subprocess
import tempfile

from cluster import binary
from loads import LOADS, LoadFailed, host_environment, run_fio

DATA_BYTES_MAX = 1 << 30
SECONDS_MAX = 5
ECHOES = 50_000
DEPTH = 32
# 4 MiB I/Os count per MiB, as loads of them do.
MIB_PER_IO = {"read-4m": 4, "write-4m": 4}


class Floor:
    """Samples by measure, CPU in us per operation or MiB; and why measures are not known."""

    def __init__(self, loads):
        self.wanted = sorted({measure for name in loads for measure, _ in LOADS[name].floor})
        self.samples = {}
        self.unknown = {}

    def measure(self, place, data_bytes, seconds):
        """Adds a sample of everything that is wanted. The place is overwritten, and cleared."""
        if "echo" in self.wanted:
            self._echo()
        sections = [measure for measure in self.wanted if measure != "echo"]
        if not sections:
            return
        place.make()
        try:
            with tempfile.TemporaryDirectory(prefix="floor-") as folder:
                variables = {"FILE": place.path, "DATA": min(data_bytes, DATA_BYTES_MAX), "RUNTIME": min(seconds, SECONDS_MAX)}
                self._device(sections, variables, folder)
        finally:
            place.clear()

    def of(self, load):
        """CPU in us of what a load pays at least, by the medians; None if that is not known."""
        parts = LOADS[load].floor
        if not parts or any(measure not in self.samples for measure, _ in parts):
            return None
        return sum(weight * statistics.median(self.samples[measure]) for measure, weight in parts)

    def _device(self, sections, variables, folder):
        def run(section):
            return run_fio("device", variables, host_environment(), folder, variables["RUNTIME"], [f"--section={section}"])

        try:
            run("fill")
            _, start_seconds = run("start")
            for section in sections:
                result, cpu_seconds = run(section)
                operations = sum(result[side]["total_ios"] for side in ("read", "write")) * MIB_PER_IO.get(section, 1)
                self._add(section, 1e6 * (cpu_seconds - start_seconds) / operations)
        except LoadFailed as error:
            self.unknown.update({section: str(error) for section in sections})

    def _echo(self):
        networked = pathlib.Path(binary()).with_name("networked")
        if not networked.exists():
            self.unknown["echo"] = "there is no release build of 'networked': cargo build --release -p networked"
            return
        with tempfile.NamedTemporaryFile(prefix="echo-", suffix=".json") as told:
            done = subprocess.run(
                [str(networked), "--only", "echo", "--operations", str(ECHOES), "--depth", str(DEPTH), "--rounds", "3",
                 "--objects", "1", "--json", told.name], capture_output=True, text=True, timeout=120)
            if done.returncode != 0:
                self.unknown["echo"] = f"networked gave {done.returncode}: {done.stderr.strip()[-500:]}"
                return
            self._add("echo", json.load(told)["results"][0]["cpu_us_median"])

    def _add(self, measure, cpu_us):
        self.samples.setdefault(measure, []).append(cpu_us)
