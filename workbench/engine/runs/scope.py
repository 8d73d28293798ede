"""A place outside the login session for supervisors: a scope of the user's systemd, where there is one.

`KillUserProcesses=yes` ends everything in a session's scope at logout, daemonised or not (logind.conf(5)); what runs in
a scope of the user's manager lives as long as that manager, which lingering keeps beyond the logout (loginctl(1)).
"""

import os
import pwd
import re
import shutil
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_SECONDS = 1.0
_LOGIND = (Path("/etc/systemd/logind.conf"), Path("/etc/systemd/logind.conf.d"), Path("/run/systemd/logind.conf.d"),
           Path("/usr/lib/systemd/logind.conf.d"))
_KILLS = re.compile(r"^\s*KillUserProcesses\s*=\s*(\S+)", re.MULTILINE)
_LINGER = Path("/var/lib/systemd/linger")


@dataclass(frozen=True, slots=True)
class Detachment:
    """How supervisors are kept alive beyond a logout: `scope` in a scope of the user's systemd, else in a session of
    their own. `ends_at_logout`: whether this machine's settings end them all the same."""

    scope: bool
    ends_at_logout: bool


def detachment(logind: tuple[Path, ...] = _LOGIND, linger: Path = _LINGER, root: bool | None = None) -> Detachment:
    """How this machine treats what a user leaves behind. Never raises.

    Root's processes are left alone (logind's KillExcludeUsers); lingering keeps the user's manager, and only what runs
    under it.
    """
    scope, root = scope_command("x") != [], os.getuid() == 0 if root is None else root
    safe = root or (scope and lingers(linger))
    return Detachment(scope, ends_at_logout=kills_user_processes(logind) and not safe)


def scope_command(run_id: str) -> list[str]:
    """What to put before a supervisor's command line to start it in a scope of its own; empty where no user manager
    answers. With `--scope` the command takes the place of systemd-run in the same process, so its pid stays."""
    program, runtime = shutil.which("systemd-run"), os.environ.get("XDG_RUNTIME_DIR")
    if program is None or not runtime or not _manager_answers(Path(runtime)):
        return []
    scope = _scope(program, runtime)
    return [*scope, f"--unit=workbench-{run_id}-{os.getpid()}", f"--description=workbench run {run_id}", "--"] \
        if scope else []


@cache
def _scope(program: str, runtime: str) -> list[str]:
    """The command that makes scopes here, tried once: a socket may be there, and who listens on it may refuse. Empty
    where none can be made."""
    plain = [program, "--user", "--scope", "--quiet", "--collect"]
    # By default a kill for lack of memory ends the whole scope, and the supervisor could not say what happened to its
    # worker. Systemd knows the setting for scopes from version 253 on, and refuses what it does not know.
    for command in ([*plain, "--property=OOMPolicy=continue"], plain):
        try:
            tried = subprocess.run([*command, "--", "true"], stdin=subprocess.DEVNULL, capture_output=True,
                                   timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return []
        if tried.returncode == 0:
            return command
    return []


def _manager_answers(runtime: Path) -> bool:
    """Whether the user's manager, or the bus on which it is spoken to, takes a connection."""
    for name in ("systemd/private", "bus"):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_SECONDS)
            client.connect(str(runtime / name))
            return True
    return False


def kills_user_processes(places: tuple[Path, ...] = _LOGIND) -> bool:
    """Whether logind ends what a user leaves behind: by its configuration, whose later files win; no by default."""
    kills = False
    for place in (*places[:1], *_drop_ins(places[1:])):
        with suppress(OSError, UnicodeDecodeError):
            for value in _KILLS.findall(place.read_text()):
                kills = value.lower() in ("yes", "true", "on", "1")
    return kills


def lingers(places: Path = _LINGER) -> bool:
    """Whether this user's manager goes on without a session."""
    try:
        return (places / pwd.getpwuid(os.getuid()).pw_name).exists()
    except (KeyError, OSError):
        return False


def _drop_ins(folders: tuple[Path, ...]) -> list[Path]:
    """Files of the drop-in folders by name, as systemd sorts them; of one name the first folder's counts."""
    found: dict[str, Path] = {}
    for folder in folders:
        with suppress(OSError):
            for path in folder.glob("*.conf"):
                found.setdefault(path.name, path)
    return [found[name] for name in sorted(found)]
