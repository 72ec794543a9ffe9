"""One `spirula up` with one OSD."""

import json
import pathlib
import subprocess

from cluster import Cluster, binary
from loads import flatten, host_environment


# As much as an OSD of Ceph takes by default.
#= ceph 16.2 osd_memory_target
MEMORY_BYTES = 4 << 30


def memory_for_reading(data_bytes):
    """So little that most of the data set has no room, and so much that its metadata has in the least part of the caches: that is
    a sixteenth of them, and metadata a hundredth of the data. What an OSD takes beside its caches comes to it."""
    return (384 << 20) + data_bytes // 4


class Spirula:
    """The cluster. Its CPU includes its monitor's, which lives in the same process."""

    name = "spirula"
    pool = "p"
    image = "fio"
    commit_rounds = ["store.flushes"]
    metadata_misses = ["store.cache_misses"]

    def __init__(self, folder, place, memory_reading):
        self.place = place
        # It starts with little: what a process once had counts against a lower target that it is given later.
        options = ["--media", "ssd", "--memory-target", str(memory_reading), "--device", str(place.path)]
        self.cluster = Cluster(folder=folder, osds=1, size=str(place.size), options=options)
        self.folder = pathlib.Path(folder)
        self.memory = self.memory_reading = memory_reading
        self.conf = self.cluster.conf
        self.pids = []

    def environment(self):
        return {**host_environment(), "CEPH_CONF": self.conf}

    def up(self):
        self.place.make()
        self.cluster.up()
        self.pids = [self.cluster.process.pid]
        self.cluster.pool(self.pool, 16)

    def run(self, *words, timeout=60):
        return self.cluster.run(*words, timeout=timeout).stdout

    def told(self):
        """Version and settings."""
        version = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
        target = f"{MEMORY_BYTES}, {self.memory_reading} for loads that read"
        return {"version": version, "build": "Cargo's release profile", "settings": {"media": "ssd", "osd_memory_target": target}}

    def prepare(self, load):
        """Sets how much memory it has for a load. True if that changed, and with it what is in memory."""
        wanted = self.memory_reading if load.reads else MEMORY_BYTES
        if wanted == self.memory:
            return False
        self.run("ceph", "tell", "osd.0", "config", "set", "osd_memory_target", wanted)
        self.memory = wanted
        return True

    def counters(self):
        return flatten(json.loads(self.run("ceph", "tell", "osd.0", "perf", "dump")))

    def down(self):
        try:
            self.cluster.stop()
        except RuntimeError as error:
            print(f"spirula did not stop as it should: {error}", flush=True)
            self.cluster.kill()
