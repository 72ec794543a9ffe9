"""A spirula cluster for scripts: started on loopback in a folder, killed or stopped, and asked through Debian's clients."""

import hashlib
import os
import pathlib
import select
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def binary() -> str:
    """Path of the release build of `spirula`: in Cargo's folder if one is set, else the newest of the scripts' and the checkout's."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "spirula"
    own = hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:12]
    folders = [pathlib.Path(os.environ.get("SPIRULA_CACHE") or cache) / "build" / own, ROOT / "target"]
    wanted = os.environ.get("CARGO_TARGET_DIR")
    # Not what scripts/env.sh chose for another checkout, in the same shell.
    is_anothers = wanted == os.environ.get("SPIRULA_BUILD") and os.environ.get("SPIRULA_ROOT") != str(ROOT)
    if wanted and not is_anothers:
        folders = [pathlib.Path(wanted)]
    paths = [folder / "release" / "spirula" for folder in folders]
    built = [path for path in paths if path.exists()]
    if not built:
        raise SystemExit(f"{paths[0]} does not exist: build it with 'cargo build --release', or run scripts/test")
    return str(max(built, key=lambda path: path.stat().st_mtime))


class Cluster:
    """One `spirula up` process and its folder."""

    def __init__(self, folder=None, osds=2, size="2G", options=()):
        self._temporary = tempfile.TemporaryDirectory(prefix="spirula-") if folder is None else None
        self.folder = pathlib.Path(folder or self._temporary.name) / ("cluster" if folder is None else "")
        self.arguments = ["--osds", str(osds), "--size", size, *options]
        self.process = None
        self.log = None
        self.printed = ""

    @property
    def conf(self) -> str:
        return str(self.folder / "ceph.conf")

    def environment(self) -> dict:
        return {**os.environ, "CEPH_CONF": self.conf, "CEPH_ARGS": "", "LC_ALL": "C.UTF-8"}

    def up(self, timeout=60.0) -> float:
        """Starts the cluster; returns the seconds until it said `ready`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = open(self.folder.parent / (self.folder.name + ".log"), "ab")
        started = time.monotonic()
        self.process = subprocess.Popen(
            [binary(), "up", "--dir", str(self.folder), *self.arguments],
            stdout=subprocess.PIPE, stderr=self.log, start_new_session=True,
        )
        printed = b""
        while not any(line.startswith(b"ready") for line in printed.splitlines()):
            left = started + timeout - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(left, 0))
            chunk = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                why = f"within {timeout} s"
                if ready:
                    why = f"but exit status {self._reap(10)}"
                self.kill()
                raise RuntimeError(f"no 'ready' {why}:\n{printed.decode()}{self.tail()}")
            printed += chunk
        self.printed = printed.decode()
        return time.monotonic() - started

    def tail(self) -> str:
        """The end of what the cluster wrote to standard error."""
        path = self.folder.parent / (self.folder.name + ".log")
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def kill(self):
        """kill -9 of the whole cluster."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._reap(30)

    def stop(self, timeout=60.0) -> int:
        """Stops cleanly; the exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self._reap(timeout)

    def _reap(self, timeout) -> int:
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise RuntimeError(f"the cluster did not stop within {timeout} s\n{self.tail()}") from None
        finally:
            self.process.stdout.close()
            self.log.close()
            self.process = None
        return code

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def run(self, *command, stdin=None, timeout=60, check=True):
        """Runs a client; returns its CompletedProcess with bytes."""
        done = subprocess.run(
            [str(word) for word in command], input=stdin, capture_output=True, timeout=timeout, env=self.environment(),
            cwd=self.folder,  # fio leaves files where it runs
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command} gave {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
        return done

    def pool(self, name, pgs=8):
        """Makes a pool."""
        self.run("ceph", "osd", "pool", "create", name, str(pgs))
        self.run("ceph", "osd", "pool", "application", "enable", name, "rados")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None:
            try:
                self.stop()
            except RuntimeError:
                self.kill()
        if self._temporary is not None:
            self._temporary.cleanup()
