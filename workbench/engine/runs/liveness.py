"""Is it alive, and is it still the same process: locks for life, pid + start time + boot id for identity."""

import fcntl
import os
import struct
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

NOT_OURS = 3
"""The exit code of a supervisor that found its run in other hands, or not as it was told."""
# struct flock: Linux puts type and whence first, the BSDs and macOS put them last.
_FLOCK = "hhqqi" if sys.platform.startswith("linux") else "qqihh"

_own: dict[Path, int] = {}
"""Locks that this process holds, and its pid: a forked child holds none of them."""
_looks = threading.Lock()
"""Held while a lock's file is open: a thread of a screen that only looks would give away what another one takes."""


def acquire_lock(path: Path) -> int | None:
    """Take the run's lock for the life of this process; None when another process, or another part of this one, has it.

    POSIX record locks are dropped when the process closes *any* descriptor of the file: the holder must never
    open it again. They are not inherited by children, so a data-loader worker cannot keep a dead run alive.
    """
    with _looks:
        if _own.get(path) == os.getpid():
            return None
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        _own[path] = os.getpid()
        return descriptor


def release_lock(path: Path, descriptor: int) -> None:
    """Give back a lock that `acquire_lock` gave."""
    with _looks:
        _own.pop(path, None)
        os.close(descriptor)


def lock_holder(path: Path) -> int | None:
    """The pid of the process that holds the lock, None when nobody does. Asks without taking the lock."""
    with _looks:
        return os.getpid() if _own.get(path) == os.getpid() else _holder(path)


def _holder(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        if sys.platform.startswith("linux"):
            query = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, query))
        else:
            query = struct.pack(_FLOCK, 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
            _, _, pid, kind, _ = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, query))
        return pid if kind != fcntl.F_UNLCK else None
    finally:
        os.close(descriptor)


def boot_id() -> str:
    """What changes with every boot: a pid from before it means nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(int(psutil.boot_time()))


def _start_time(pid: int) -> float:
    """Seconds from boot to the process's start. Raises psutil.Error when there is none.

    Read from /proc where there is one: psutil adds the boot time, which moves when the clock is set.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return psutil.Process(pid).create_time()


@dataclass(frozen=True)
class ProcessIdentity:
    """One process and no other: pids are recycled, so the start time and the boot id go with it."""

    pid: int
    start_time: float
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """The identity of a living process, None when there is none."""
        try:
            return cls(pid, _start_time(pid), boot_id())
        except psutil.Error:
            return None

    @classmethod
    def from_json(cls, data: Any) -> "ProcessIdentity | None":
        """The identity that `to_json` gave; None for anything else."""
        try:
            return cls(int(data["pid"]), float(data["start_time"]), str(data["boot_id"]))
        except (KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"pid": self.pid, "start_time": self.start_time, "boot_id": self.boot_id}

    def is_alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        found = ProcessIdentity.of(self.pid)
        if found is None or found.boot_id != self.boot_id or found.start_time != self.start_time:
            return False
        try:
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def is_suspended(self) -> bool:
        """Whether this very process was halted (SIGSTOP, ctrl+z, a debugger): it answers nothing until it goes on."""
        try:
            return self.is_alive() and psutil.Process(self.pid).status() in (psutil.STATUS_STOPPED,
                                                                             psutil.STATUS_TRACING_STOP)
        except psutil.Error:
            return False

    def signal(self, number: int, group: bool = False) -> bool:
        """Send a signal to this very process, or to the whole `group` that it leads; False when it is gone, the pid is
        another's now, or it may not be signalled."""
        if not self.is_alive():
            return False
        try:
            if group and os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True
