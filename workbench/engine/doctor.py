"""What this machine can do, and how to mend what it cannot."""

import locale
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workbench.engine.catalog.models import hub_cache_dir
from workbench.engine.figures import GIB, gib
from workbench.engine.hardware.cgroup import machine_kills, memory_group
from workbench.engine.hardware.gpus import list_gpus
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.paths import home_dir
from workbench.engine.runs.launcher import library_versions
from workbench.engine.runs.reserve import RESERVE_BYTES
from workbench.engine.runs.scope import detachment

_LOW_DISK_BYTES = 20 * GIB


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found, and what to do about it when it is not well."""

    name: str
    status: Literal["ok", "note", "problem"]
    found: str
    fix: str | None = None


def examine() -> list[Check]:
    """Look at everything; never raises."""
    return [*_gpus(), _host(), _memory_limit(), *_libraries(), _home(), _detaching(), _hub(), _terminal()]


def _gpus() -> Iterator[Check]:
    gpus = list_gpus()
    if not gpus:
        yield Check("GPU", "note", "none found through NVML",
                    "Runs train on the CPU. With an NVIDIA GPU here, install its driver (nvidia-smi must work).")
    for gpu in gpus:
        yield Check(f"GPU {gpu.index}", "ok", f"{gpu.name}, {gib(gpu.free_bytes)} free of {gib(gpu.total_bytes)}")


def _host() -> Check:
    host = host_snapshot()
    return Check("host", "ok", f"{host.cores} cores, {gib(host.ram_available_bytes)} RAM free of "
                               f"{gib(host.ram_total_bytes)}, Python {sys.version.split()[0]}")


def _memory_limit() -> Check:
    """The control group's limit, and whether a kill for lack of memory could be told from another one."""
    group, kills = memory_group(), machine_kills()
    counted = group.kills is not None or kills is not None
    found = "no limit of its control group" if group.limit_bytes is None else \
        f"limited to {gib(group.limit_bytes)} by its control group, {gib(group.free_bytes)} free"
    if not counted:
        return Check("memory", "note", f"{found}; the kernel's counters of out-of-memory kills cannot be read",
                     "A run that was killed will not know by whom: see dmesg.")
    return Check("memory", "ok", f"{found}; out-of-memory kills are counted by the "
                                 f"{'control group' if group.kills is not None else 'kernel'}")


def _detaching() -> Check:
    """What a logout does to runs."""
    how = detachment()
    found = "runs are started in a scope of the user's systemd" if how.scope else \
        "runs are started in a session of their own (no user manager of systemd answers)"
    if how.ends_at_logout:
        more = "" if how.scope else ", and start runs where XDG_RUNTIME_DIR is set, as it is after ssh or a login"
        return Check("logout", "problem", f"{found}, and KillUserProcesses=yes ends them at logout",
                     f"Let your manager go on without you: loginctl enable-linger{more}.")
    return Check("logout", "ok", f"{found}; they outlive a logout")


def _libraries() -> Iterator[Check]:
    for name, version in library_versions().items():
        if version is None:
            yield Check(name, "problem", "not installed", f"pip install {name}")
        else:
            yield Check(name, "ok", version)


def _home() -> Check:
    home = home_dir()
    existing = next(path for path in (home, *home.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Check("home", "problem", f"{home} cannot be written",
                     "Set WORKBENCH_HOME to a directory that can.")
    free = shutil.disk_usage(existing).free
    if free < _LOW_DISK_BYTES:
        return Check("home", "note", f"{home}, {gib(free)} free", "Checkpoints of large models need more: free some.")
    reserve = f"each run keeps {RESERVE_BYTES // 1024} KiB of it for its last word on a full disk"
    return Check("home", "ok", f"{home}, {gib(free)} free; {reserve}")


def _hub() -> Check:
    token_file = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser() / "token"
    present = bool(os.environ.get("HF_TOKEN")) or token_file.is_file()
    cache = hub_cache_dir()
    if present:
        return Check("Hub", "ok", f"token present (not shown), cache {cache}")
    return Check("Hub", "note", f"no token, cache {cache}", "Gated models need one: hf auth login, or set HF_TOKEN.")


def _terminal() -> Check:
    encoding = locale.getpreferredencoding(False).upper().replace("-", "")
    size = shutil.get_terminal_size()
    colours = "true colour" if os.environ.get("COLORTERM") in ("truecolor", "24bit") else "256 colours or fewer"
    found = f"{os.environ.get('TERM', 'no TERM')}, {colours}, {size.columns}×{size.lines}, {encoding}"
    if encoding != "UTF8":
        return Check("terminal", "note", found, "Charts use ASCII; for braille set a UTF-8 locale, e.g. LANG=C.UTF-8.")
    return Check("terminal", "ok", found)
