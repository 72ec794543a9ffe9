"""The loads that both sides get, each a job file of perf/fio, and what one run of one gave."""

import dataclasses
import json
import os
import pathlib
import resource
import subprocess

from spent import spent_by

JOBS = pathlib.Path(__file__).resolve().parent.parent / "fio"
# An object of the data set, as fio and the job files divide it.
OBJECT_BYTES = 4 << 20
# A run that is longer than it should be by so much has hung.
PATIENCE_SECONDS = 180


@dataclasses.dataclass(frozen=True)
class Load:
    """A job file. Figures are per MiB if `per_mib`, else per operation. `reads` is said of those whose reads must come from the
    device. `floor` says of what the floor is made: measures of the floor with their weights, or nothing if none is measured
    for it."""

    name: str
    title: str
    reads: bool = False
    per_mib: bool = False
    floor: tuple = ()
    rbd: bool = False

    @property
    def unit(self):
        return "MiB" if self.per_mib else "op"


LOADS = {
    load.name: load
    for load in (
        Load("randread-depth32", "random read 4 KiB, depth 32", reads=True, floor=(("echo", 1), ("read-4k", 1))),
        Load("randread-depth1", "random read 4 KiB, depth 1", reads=True),
        Load("randread-64k", "random read 64 KiB, depth 16", reads=True),
        Load("seqread-4m", "sequential read 4 MiB, depth 8", reads=True, per_mib=True, floor=(("read-4m", 1),)),
        Load("randwrite-depth32", "durable random write 4 KiB, depth 32", floor=(("echo", 1), ("write-4k-flushed", 1))),
        Load("randwrite-depth1", "durable random write 4 KiB, depth 1"),
        Load("mixed-depth32", "70 reads to 30 writes, 4 KiB, depth 32", reads=True,
             floor=(("echo", 1), ("read-4k", 0.7), ("write-4k-flushed", 0.3))),
        Load("randwrite-64k", "durable random write 64 KiB, depth 16"),
        Load("seqwrite-4m", "durable sequential write 4 MiB, depth 8", per_mib=True, floor=(("write-4m", 1),)),
        Load("verify", "written, read back and compared"),
        Load("rbd-randread", "rbd: random read 4 KiB, depth 32", rbd=True),
        Load("rbd-randwrite", "rbd: random write 4 KiB, depth 32", rbd=True),
    )
}
# What reads goes first, on objects as they were filled; what overwrites at random makes their metadata longer.
USUAL = ["randread-depth32", "randread-depth1", "seqread-4m", "mixed-depth32", "randwrite-depth32", "randwrite-depth1", "seqwrite-4m"]


class LoadFailed(Exception):
    """fio ended with an error, or said that operations failed."""


def run_fio(job, variables, environment, folder, seconds, options=()):
    """Runs a job file. Returns what fio says of its job, and the CPU seconds of fio with its start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(
            ["fio", "--output-format=json", *options, str(JOBS / f"{job}.fio")], cwd=folder, capture_output=True,
            timeout=seconds + PATIENCE_SECONDS, env={**environment, **{name: str(value) for name, value in variables.items()}})
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"fio {job}.fio did not end in {error.timeout} s") from None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = (done.stderr or done.stdout).decode(errors="replace")[-1000:].strip()
    if done.returncode != 0:
        raise LoadFailed(f"fio {job}.fio gave {done.returncode}: {said}")
    try:
        result = json.loads(done.stdout[done.stdout.index(b"{"):])["jobs"][0]
    except (ValueError, LookupError):
        raise LoadFailed(f"fio {job}.fio printed no result: {said}") from None
    if result["error"]:
        raise LoadFailed(f"fio {job}.fio: error {result['error']}: {said}")
    return result, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_load(name, server, data_bytes, seconds):
    """Runs a load on a server; what it took, as a flat dictionary with figures per operation and, where bytes are, per byte."""
    variables = {"CEPH_CONF": server.conf, "POOL": server.pool, "RUNTIME": seconds, "DATA": data_bytes,
                 "OBJECTS": data_bytes // OBJECT_BYTES, "IMAGE": server.image}
    counters, before = server.counters(), spent_by(server.pids)
    result, client_seconds = run_fio(name, variables, server.environment(), server.folder, seconds)
    after, later = spent_by(server.pids), server.counters()
    sides = [result[side] for side in ("read", "write") if result[side]["total_ios"]]
    operations = sum(side["total_ios"] for side in sides)
    if not operations:
        raise LoadFailed(f"fio {name}.fio did nothing in {seconds} s")
    count = sum(side["io_bytes"] for side in sides) / (1 << 20) if name in LOADS and LOADS[name].per_mib else operations
    spent = after - before
    moved = {key: (value - counters[key]) / count for key, value in later.items() if value != counters.get(key, value)}
    percentile = {
        of: [side["clat_ns"]["percentile"][of] / 1e3 for side in sides if "percentile" in side["clat_ns"]]
        for of in ("50.000000", "99.000000")
    }
    return {
        "operations": operations,
        "seconds": result["job_runtime"] / 1e3,
        "per_second": count / (result["job_runtime"] / 1e3),
        "cpu_us": 1e6 * spent.cpu_seconds / count,
        "client_cpu_us": 1e6 * client_seconds / count,
        "device_read_bytes": spent.read_bytes / count,
        "device_written_bytes": spent.written_bytes / count,
        "client_bytes": sum(side["io_bytes"] for side in sides) / count,
        "hand_offs": spent.waits / count,
        "commit_rounds": sum(moved.get(key, 0) for key in server.commit_rounds),
        "metadata_misses": sum(moved.get(key, 0) for key in server.metadata_misses),
        "p50_us": percentile["50.000000"],
        "p99_us": percentile["99.000000"],
        "counters": moved,
    }


def flatten(counters, prefix=""):
    """Counters of all sections by "section.name"."""
    flat = {}
    for key, value in counters.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        elif isinstance(value, (int, float)):
            flat[prefix + key] = value
    return flat


def host_environment():
    """Without what could point clients at another cluster."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CEPH_")}
    return {**kept, "CEPH_ARGS": "", "LC_ALL": "C.UTF-8"}
