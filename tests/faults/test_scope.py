"""Supervisors in a scope of the user's systemd, over a stand-in for systemd-run that really runs the rest."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.test_detach import wait_for
from workbench.engine.runs import launcher, scope
from workbench.engine.runs.directory import create_run_directory
from workbench.engine.runs.journal import find_ending
from workbench.engine.runs.liveness import lock_holder
from workbench.engine.runs.scope import detachment, kills_user_processes, lingers, scope_command

pytestmark = pytest.mark.slow

# As systemd-run does with --scope: itself becomes the command, so the pid stays.
SYSTEMD_RUN = """\
#!{python}
import os, sys
arguments = sys.argv[1:]
with open("{log}", "a") as log:
    log.write(" ".join(arguments) + "\\n")
separator = arguments.index("--")
{refusal}
os.execvp(arguments[separator + 1], arguments[separator + 1:])
"""
REFUSES_ALL = 'sys.exit("Failed to connect to bus: No medium found")'
REFUSES_RUNS = 'if arguments[separator + 1] != "true": sys.exit("Failed to start transient scope unit: Access denied")'
OLD = 'if "OOMPolicy" in " ".join(arguments): sys.exit("Unknown assignment: OOMPolicy=continue")'
HANGS = "import time; time.sleep(60)"


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory with a listening user manager, and a folder of programs that comes first on PATH."""
    # A socket's path may have 108 bytes; pytest's folders are longer.
    runtime = Path(f"/tmp/wb-scope-{os.getpid()}")
    (runtime / "systemd").mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(runtime / "systemd" / "private"))
    listener.listen(8)
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    scope._scope.cache_clear()
    yield programs
    scope._scope.cache_clear()
    listener.close()
    (runtime / "systemd" / "private").unlink()
    (runtime / "systemd").rmdir()
    runtime.rmdir()


def install(programs: Path, refusal: str = "") -> Path:
    log = programs / "asked"
    program = programs / "systemd-run"
    program.write_text(SYSTEMD_RUN.format(python=sys.executable, log=log, refusal=refusal))
    program.chmod(0o755)
    return log


# A supervisor as the launcher starts it, over a worker that leaves at once.
SUPERVISOR = ("import sys; from workbench.engine.runs.directory import find_run; "
              "from workbench.engine.runs.supervisor import Supervisor; "
              "sys.exit(Supervisor(find_run(sys.argv[1]), [sys.executable, '-c', 'raise SystemExit(7)']).main())")


def run_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a supervisor and see its run through."""
    monkeypatch.setattr(launcher, "supervisor_command",
                        lambda run, arguments: [sys.executable, "-c", SUPERVISOR, run.id])
    run = create_run_directory("scoped")
    launcher.start_supervisor(run)
    wait_for(lambda: find_ending(run.events) is not None and lock_holder(run.lock) is None, 60)
    assert "exit code 7" in str(find_ending(run.events))


def test_a_supervisor_runs_in_a_scope_of_its_own(home: Path, manager: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = install(manager)
    run_one(monkeypatch)
    probe, call = log.read_text().splitlines()
    assert probe == "--user --scope --quiet --collect --property=OOMPolicy=continue -- true"
    assert call.startswith("--user --scope --quiet --collect --property=OOMPolicy=continue --unit=workbench-2")
    assert "-scoped-" in call
    assert "workbench.engine.runs.supervisor" in call


@pytest.mark.parametrize("refusal", [REFUSES_ALL, REFUSES_RUNS])
def test_where_no_scope_can_be_made_it_runs_without(home: Path, manager: Path, refusal: str,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    log = install(manager, refusal)
    run_one(monkeypatch)
    assert len(log.read_text().splitlines()) == 2


def test_a_systemd_that_does_not_know_the_setting_makes_plain_scopes(home: Path, manager: Path) -> None:
    install(manager, OLD)
    assert scope_command("x")[1:6] == ["--user", "--scope", "--quiet", "--collect", f"--unit=workbench-x-{os.getpid()}"]


def test_a_manager_that_hangs_is_not_waited_for(home: Path, manager: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "_SECONDS", 0.2)
    install(manager, HANGS)
    assert scope_command("x") == []
    assert not detachment((), manager).scope


def test_without_a_manager_nothing_is_tried(home: Path, manager: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = install(manager)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(manager))
    assert scope_command("x") == []
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert scope_command("x") == []
    assert not log.exists()


def test_what_logind_does_at_logout_is_read(tmp_path: Path, manager: Path) -> None:
    main, folder, second = tmp_path / "logind.conf", tmp_path / "a.d", tmp_path / "b.d"
    places = (main, folder, second)
    assert not kills_user_processes(places)
    main.write_text("[Login]\n#KillUserProcesses=yes\n")
    assert not kills_user_processes(places)
    main.write_text("[Login]\nKillUserProcesses=yes\n")
    assert kills_user_processes(places)
    folder.mkdir()
    second.mkdir()
    (second / "50-x.conf").write_text("[Login]\nKillUserProcesses=yes\n")
    (folder / "50-x.conf").write_text("[Login]\nKillUserProcesses = no\n")
    assert not kills_user_processes(places)
    (second / "90-y.conf").write_text("[Login]\nKillUserProcesses=on\n")
    assert kills_user_processes(places)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    install(manager)
    assert detachment(places, tmp_path, root=False).ends_at_logout
    assert not detachment(places, tmp_path, root=True).ends_at_logout
    (tmp_path / user).touch()
    assert lingers(tmp_path)
    assert not detachment(places, tmp_path, root=False).ends_at_logout
    # Lingering keeps the user's manager alive, and only what runs under it.
    install(manager, REFUSES_ALL)
    scope._scope.cache_clear()
    assert detachment(places, tmp_path, root=False).ends_at_logout
