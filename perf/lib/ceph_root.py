"""Another Debian suite's Ceph in a root of its own, made once by debootstrap and kept.

Commands run in it in a private mount namespace, so no mount outlives them; process ids and network are the machine's.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess

PACKAGES = ["ceph-mon", "ceph-osd", "ceph-common"]
NAMESPACE = ["unshare", "--mount", "--propagation", "private"]
# Everything below ends with the command, also where it is killed.
NAMESPACE_OF_PROCESSES = [*NAMESPACE, "--pid", "--fork", "--kill-child", "--mount-proc"]
# Where the cluster's folder is seen inside.
CLUSTER = "/cluster"
# Mounts what a command needs below the root "$1", its second argument at CLUSTER, and becomes the rest of its arguments inside.
ENTER = f"""set -e
root=$1 cluster=$2; shift 2
for part in proc sys dev; do mount --rbind "/$part" "$root/$part"; done
mount --bind "$cluster" "$root{CLUSTER}"
for file in resolv.conf hosts; do
    if [ -e "/etc/$file" ]; then touch "$root/etc/$file"; mount --bind "/etc/$file" "$root/etc/$file"; fi
done
exec chroot "$root" "$@"
"""


class CephRoot:
    """A root with the Ceph of `suite`."""

    def __init__(self, folder, suite):
        self.folder, self.suite = pathlib.Path(folder).absolute(), suite
        self.path = self.folder / suite

    def inside(self, words, cluster, namespace=NAMESPACE):
        """The command that runs `words` in the root, with the folder `cluster` at CLUSTER. By default it becomes them: its process
        id is theirs."""
        variables = ["env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]
        return [*namespace, "sh", "-c", ENTER, "sh", str(self.path), str(cluster), *variables, *words]

    def make(self):
        """Makes the root if it is not there."""
        if self.path.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / f"{self.suite}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.path.exists():
                self._build()

    def _build(self):
        log = self.folder / f"{self.suite}.log"
        print(f"making a root with {self.suite}'s Ceph in {self.path}, once: about 1 GB, some minutes; log in {log}", flush=True)
        install_missing({"debootstrap": "debootstrap"})
        source = mirror()
        # Under another name until it is complete.
        made = CephRoot(self.folder, self.suite)
        made.path = self.folder / f"{self.suite}.new"
        shutil.rmtree(made.path, ignore_errors=True)
        empty = self.folder / f"{self.suite}.empty"
        empty.mkdir(exist_ok=True)
        environment = {**os.environ, **proxies(), "DEBIAN_FRONTEND": "noninteractive"}
        install = ("apt-get update -qq {0} && exec apt-get install -y -qq --no-install-recommends {0} {1}"
                   .format(validity_option(), " ".join(PACKAGES)))
        try:
            with open(log, "wb") as output:
                def run(words):
                    if subprocess.run(words, stdout=output, stderr=subprocess.STDOUT, env=environment).returncode != 0:
                        raise SystemExit(f"no root with {self.suite}: {words[-1]}\n{log.read_text(errors='replace')[-1500:]}")

                # In a namespace, since debootstrap leaves mounts behind when it is interrupted.
                run([*NAMESPACE_OF_PROCESSES, "debootstrap", "--variant=minbase", self.suite, str(made.path), source])
                # The packages' scripts start no service.
                policy = made.path / "usr/sbin/policy-rc.d"
                policy.write_text("#!/bin/sh\nexit 101\n")
                policy.chmod(0o755)
                (made.path / CLUSTER[1:]).mkdir()
                run(made.inside(["sh", "-c", install], empty, NAMESPACE_OF_PROCESSES))
            shutil.rmtree(made.path / "var/cache/apt/archives", ignore_errors=True)
            made.path.rename(self.path)
        except BaseException:
            shutil.rmtree(made.path, ignore_errors=True)
            raise
        finally:
            with contextlib.suppress(OSError):
                empty.rmdir()


def mirror():
    """The Debian mirror that this machine's apt uses."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian", "Component: main"],
        capture_output=True, text=True, check=True).stdout.split()
    usable = [target for target in targets if target.startswith(("http://", "https://", "file:"))]
    if not usable:
        raise SystemExit("apt-get indextargets names no Debian mirror that debootstrap could use; run apt-get update first")
    return usable[0]


def proxies():
    """apt's proxies, as debootstrap takes them."""
    found = {}
    for scheme in ("http", "https"):
        value = apt_option(f"Acquire::{scheme}::Proxy")
        if value:
            found[f"{scheme}_proxy"] = value
    return found


def validity_option():
    """Whether lists may be old is for this machine's apt to say."""
    value = apt_option("Acquire::Check-Valid-Until")
    return f"-o Acquire::Check-Valid-Until={value}" if value else ""


def apt_option(name):
    said = subprocess.run(["apt-config", "shell", "value", name], capture_output=True, text=True, check=True).stdout.strip()
    return said.removeprefix("value=").strip("'")


def install_missing(packages):
    """Installs the packages of which a command is not there: names of commands by package."""
    missing = [package for package, command in packages.items() if not shutil.which(command)]
    if not missing:
        return
    print(f"installing {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True, env=environment,
                   stdout=subprocess.DEVNULL)
