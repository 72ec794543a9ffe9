"""Where a server keeps its store: a file that is made for it, or a block device that must be blank, and is again afterwards."""

import os
import pathlib
import stat
import subprocess

# Looked at for anybody's data, and cleared afterwards.
HEAD_BYTES = TAIL_BYTES = 1 << 20
# BlueStore keeps copies of its label there, the first at the front.
#= ceph 20.2 bluestore: copies of the label
LABELS = [1 << 30, 10 << 30, 100 << 30, 1000 << 30]
LABEL_BYTES = 4096


class Refused(SystemExit):
    """A device that is not to be used."""


class StoreFile:
    """A file in the run's folder; it goes with the folder."""

    def __init__(self, path, size):
        self.path, self.size = pathlib.Path(path), size

    def make(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.size)

    def clear(self):
        self.path.unlink(missing_ok=True)


class StoreDevice:
    """A block device."""

    def __init__(self, path, size_min):
        self.path = pathlib.Path(path)
        try:
            if not stat.S_ISBLK(self.path.stat().st_mode):
                raise Refused(f"{path} is no block device; without --device-a and --device-b files are used")
        except OSError as error:
            raise Refused(f"{path}: {error.strerror}") from None
        self._refuse_used()
        with self._open(os.O_RDONLY) as device:
            self.size = device.seek(0, os.SEEK_END)
            if self.size < size_min:
                raise Refused(f"{path} has {self.size} bytes; at least {size_min} are needed for this data set")
            self._refuse_data(device)

    def make(self):
        """It is there already. Blank, whatever ran on it since it was looked at."""
        self.clear()

    def clear(self):
        """Leaves nothing by which it would be taken for somebody's."""
        with self._open(os.O_WRONLY) as device:
            for start, length in ((0, HEAD_BYTES), (self.size - TAIL_BYTES, TAIL_BYTES), *((at, LABEL_BYTES) for at in LABELS)):
                if start + length <= self.size:
                    device.seek(start)
                    device.write(bytes(length))
            os.fsync(device.fileno())

    def _open(self, flags):
        # Exclusive: the kernel refuses a device that is mounted, or part of another.
        try:
            return os.fdopen(os.open(self.path, flags | os.O_EXCL), "rb" if flags == os.O_RDONLY else "wb", buffering=0)
        except OSError as error:
            raise Refused(f"{self.path}: {error.strerror}") from None

    def _refuse_used(self):
        below = subprocess.run(["lsblk", "--noheadings", "--list", "--output", "NAME,MOUNTPOINTS", str(self.path)],
                               capture_output=True, text=True, check=True).stdout.splitlines()
        if len(below) != 1 or len(below[0].split()) != 1:
            raise Refused(f"{self.path} is in use or has partitions: {'; '.join(line.strip() for line in below)}")

    def _refuse_data(self, device):
        signatures = subprocess.run(["wipefs", "--no-act", "--noheadings", "--output", "TYPE,OFFSET", str(self.path)],
                                    capture_output=True, text=True, check=True).stdout.split()
        if signatures:
            raise Refused(f"{self.path} holds somebody's data: {' '.join(signatures)}")
        for start, length in ((0, HEAD_BYTES), (self.size - TAIL_BYTES, TAIL_BYTES)):
            device.seek(start)
            if any(device.read(length)):
                raise Refused(f"{self.path} holds somebody's data: bytes that are not zero within {length} from {start}")
