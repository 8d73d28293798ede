"""The memory that this process's control group may use, and what the kernel killed in it: cgroup v2 and v1, /proc."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC, _MOUNTS = Path("/proc"), Path("/sys/fs/cgroup")
# v1 writes "no limit" as the largest page-aligned number of bytes; nothing has more than an exabyte.
_UNLIMITED = 1 << 60


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A control group's memory, in bytes; None where there is no limit, or where it cannot be read.

    `limit_bytes` is the tightest limit of the group and those above it. `kills` counts the processes of the group that
    the kernel killed for lack of memory, the group's own or the machine's; `limit_hits` how often the group's own limit
    was in the way of an allocation.
    """

    limit_bytes: int | None = None
    used_bytes: int | None = None
    kills: int | None = None
    limit_hits: int | None = None

    @property
    def free_bytes(self) -> int | None:
        """What may still be used; None without a limit."""
        if self.limit_bytes is None or self.used_bytes is None:
            return None
        return max(self.limit_bytes - self.used_bytes, 0)


def memory_group(pid: int | None = None, proc: Path = _PROC, mounts: Path = _MOUNTS) -> MemoryGroup:
    """The memory control group of a process, by default this one. Never raises."""
    for path, names in _groups(pid, proc, mounts):
        hits = _entry(path / names.events, "oom") if names is _V2 else _number(path / "memory.failcnt")
        return MemoryGroup(_tightest(path, mounts, names.limit), _used(path, names),
                           _entry(path / names.events, "oom_kill"), hits)
    return MemoryGroup()


def machine_kills(proc: Path = _PROC) -> int | None:
    """Processes that the kernel killed for lack of memory since the boot, in any group; None where it does not say."""
    return _entry(proc / "vmstat", "oom_kill")


@dataclass(frozen=True, slots=True)
class _Names:
    limit: str
    used: str
    events: str
    reclaimable: str


_V2 = _Names("memory.max", "memory.current", "memory.events", "inactive_file")
_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control", "total_inactive_file")


def _groups(pid: int | None, proc: Path, mounts: Path) -> Iterator[tuple[Path, _Names]]:
    """Where the process's memory group is, by /proc/PID/cgroup: lines of `number:controllers:path`, v2's first is 0."""
    try:
        lines = (proc / (str(pid) if pid is not None else "self") / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if "memory" in controllers.split(","):
            roots, names = [mounts / "memory"], _V1
        elif number == "0" and not controllers:
            roots, names = [mounts, mounts / "unified"], _V2
        else:
            continue
        for root in roots:
            # In a container the path is the host's, and the container's own group is mounted as the root.
            for place in (root / path.lstrip("/"), root):
                if (place / names.used).is_file() and (place / names.events).is_file():
                    yield place, names
                    break


def _tightest(path: Path, mounts: Path, name: str) -> int | None:
    limits = []
    for place in (path, *path.parents):
        if place == mounts.parent:
            break
        limit = _number(place / name)
        if limit is not None and limit < _UNLIMITED:
            limits.append(limit)
    return min(limits, default=None)


def _used(path: Path, names: _Names) -> int | None:
    """Without the file cache that the kernel takes back at once."""
    used = _number(path / names.used)
    return None if used is None else max(used - (_entry(path / "memory.stat", names.reclaimable) or 0), 0)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _entry(path: Path, name: str) -> int | None:
    """The number that follows a name at the start of a line."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(words[1]) for words in map(str.split, lines)
                 if len(words) == 2 and words[0] == name and words[1].isdecimal()), None)
