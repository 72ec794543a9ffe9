"""One monitor and one BlueStore OSD of Ceph, on loopback: this machine's, or those of a root with another version."""

import json
import pathlib
import re
import signal
import socket
import subprocess
import time
import uuid

from ceph_root import CLUSTER
from loads import flatten, host_environment

# Clients get the first part only; paths in the second are as the daemons see them.
CLIENT_CONF = """[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{port}/0]
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
rbd_cache = false
"""
DAEMON_CONF = """mon_initial_members = a
ms_bind_msgr1 = false
ms_bind_port_min = {osd_port}
ms_bind_port_max = {osd_port_max}
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
run_dir = {home}/run
admin_socket = {home}/run/$name.asok
log_file = {home}/log/$name.log
crash_dir = {home}/log
keyring = {home}/keyring
mon_data = {home}/mon.$id
osd_data = {home}/osd.$id
osd_objectstore = bluestore
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_data_avail_warn = 2
mon_data_avail_crit = 1
"""
# What differs from Ceph's own defaults and matters for what is measured.
MEASURED_CONF = {
    # Its settings for flash, whatever the kernel says of a virtual disk.
    "bluestore_debug_enforce_settings": "ssd",
    "osd_op_num_shards": "8",
    "osd_op_num_threads_per_shard": "2",
    # Its memory is for metadata; what clients read is not kept, so that it comes from the device every time.
    "bluestore_default_buffered_read": "false",
}
# Told beside them.
TOLD = [
    "osd_memory_target", "bluestore_cache_autotune", "bluestore_default_buffered_write", "bluestore_csum_type",
    "bluestore_min_alloc_size_ssd", "bluestore_prefer_deferred_size_ssd", "bluestore_ioring", "osd_op_queue", "ms_async_op_threads",
    "ms_crc_data", "debug_osd", "debug_ms", "debug_bluestore",
]
START_SECONDS = 120


class Ceph:
    """The cluster. Its OSD is what is measured."""

    name = "ceph"
    pool = "p"
    image = "fio"
    commit_rounds = ["bluestore.kv_sync_lat.avgcount"]
    metadata_misses = ["bluestore.onode_misses", "bluestore.onode_shard_misses"]

    def __init__(self, folder, place, root=None):
        self.folder = pathlib.Path(folder)
        self.place, self.root = place, root
        self.home = CLUSTER if root else str(self.folder)
        self.conf = str(self.folder / "client.conf")
        self.daemons = []
        self.pids = []

    def environment(self):
        return {**host_environment(), "CEPH_CONF": self.conf}

    def up(self):
        for part in ("run", "log", "mon.a", "osd.0"):
            (self.folder / part).mkdir(parents=True)
        fsid, port = str(uuid.uuid4()), free_ports()
        values = {"fsid": fsid, "port": port, "osd_port": port + 1, "osd_port_max": port + 20, "home": self.home}
        client, rest = CLIENT_CONF.format(**values), DAEMON_CONF.format(**values)
        pathlib.Path(self.conf).write_text(client)
        measured = "".join(f"{name} = {value}\n" for name, value in MEASURED_CONF.items())
        (self.folder / "ceph.conf").write_text(client + rest + measured)
        (self.folder / "keyring").touch()
        home = self.home
        self._daemon_run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{port}/0]", f"{home}/monmap")
        self._daemon_run("ceph-mon", "-i", "a", "--mkfs", "--monmap", f"{home}/monmap", "--keyring", f"{home}/keyring")
        self._start("ceph-mon", "-i", "a", "-f")
        self._make_store()
        osd = str(uuid.uuid4())
        self.run("ceph", "--connect-timeout", str(START_SECONDS), "osd", "new", osd)
        self._daemon_run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self.pids = [self._start("ceph-osd", "-i", "0", "-f").pid]
        self._wait_for_osd()
        self.run("ceph", "osd", "pool", "create", self.pool, "16", "16", "replicated", "--size", "1")
        self.run("ceph", "osd", "pool", "application", "enable", self.pool, "rados")

    def run(self, *words, timeout=START_SECONDS + 30):
        """A client of this machine."""
        return self._checked(words, words, self.environment(), timeout)

    def told(self):
        """Version, kind of build and settings, as the OSD says them."""
        version = json.loads(self.run("ceph", "tell", "osd.0", "version"))
        binary = self._daemon_run("ceph-osd", "--version").decode().strip()
        # 16.2 and 18.2 tell only that they are a release.
        build = re.search(r"\((\w+) - (\w+)\)", binary)
        package = self._daemon_run("dpkg-query", "-W", "-f", "${Version}", "ceph-osd").decode()
        settings = json.loads(self.run("ceph", "tell", "osd.0", "config", "show"))
        return {
            "version": binary, "number": version["version"], "package": package,
            "build": f"{build.group(2)}, {version.get('release_type', '?')}" if build else
                     f"{version.get('release_type', '?')}; CMake's build type is not told by this version",
            "settings": {name: settings[name] for name in (*MEASURED_CONF, *TOLD) if name in settings},
        }

    def prepare(self, _load):
        """Nothing differs from load to load."""
        return False

    def counters(self):
        return flatten(json.loads(self.run("ceph", "tell", "osd.0", "perf", "dump")))

    def down(self):
        """Ends the daemons, the OSD first. To be called whatever happened before."""
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons = []

    def _make_store(self):
        block = self.folder / "osd.0" / "block"
        self.place.make()
        if self.place.path != block:
            block.symlink_to(self.place.path)

    def _wait_for_osd(self):
        for _ in range(START_SECONDS * 5):
            if json.loads(self.run("ceph", "osd", "stat", "-f", "json")).get("num_up_osds") == 1:
                return
            self._check_alive()
            time.sleep(0.2)
        raise SystemExit(f"Ceph's OSD did not come up in {START_SECONDS} s:\n{self._tail('ceph-osd')}")

    def _check_alive(self):
        for daemon in self.daemons:
            if daemon.poll() is not None:
                raise SystemExit(f"{daemon.args[-4]} ended with {daemon.returncode}:\n{self._tail(daemon.args[-4])}")

    def _tail(self, daemon):
        files = [self.folder / "log" / f"{daemon}.out", *(self.folder / "log").glob(f"{daemon.removeprefix('ceph-')}*.log")]
        return "\n".join(file.read_text(errors="replace")[-1500:] for file in files if file.exists())

    def _daemon_words(self, words):
        words = ["env", f"CEPH_CONF={self.home}/ceph.conf", *words]
        return self.root.inside(words, self.folder) if self.root else words

    def _daemon_run(self, *words):
        return self._checked(self._daemon_words(words), words, host_environment(), START_SECONDS)

    def _start(self, *words):
        with open(self.folder / "log" / f"{words[0]}.out", "ab") as output:
            # In a session of its own: Ctrl-C is for this script, which ends it in order.
            daemon = subprocess.Popen(self._daemon_words(words), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                      env=host_environment(), start_new_session=True)
        self.daemons.append(daemon)
        return daemon

    @staticmethod
    def _checked(words, shown, environment, timeout):
        try:
            done = subprocess.run(words, env=environment, capture_output=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"'{' '.join(shown)}' did not end in {timeout} s") from None
        if done.returncode != 0:
            raise SystemExit(f"'{' '.join(shown)}' gave {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
        return done.stdout


def free_ports():
    """First of 21 ports; that it is free is known, of the others it is likely."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return min(probe.getsockname()[1], 65000)
