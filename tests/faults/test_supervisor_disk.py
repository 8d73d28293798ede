"""A full disk: the supervisor lives on, and the run's end is written all the same. A real, small file system."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.small_disk import small_home
from tests.faults.stand_ins import TRAINS, WORKER, look, new_run, supervise, trained, wait_for
from workbench.cli_support import last_lines
from workbench.engine.errors import RunError
from workbench.engine.runs import aftermath
from workbench.engine.runs.aftermath import FULL_DISK_SECONDS, last_word
from workbench.engine.runs.directory import RunDirectory, create_run_directory
from workbench.engine.runs.going_on import ResumeRequest, checkpoint_at, newest_checkpoint, saved_steps
from workbench.engine.runs.journal import find_ending
from workbench.engine.runs.launcher import start_supervisor
from workbench.engine.runs.liveness import lock_holder
from workbench.engine.runs.orders import pause_run, stop_run
from workbench.engine.runs.reserve import RESERVE_BYTES, cut_log, has_room, keep_reserve, release_reserve
from workbench.engine.runs.store import read_status

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """The home on a file system of four megabytes."""
    with small_home(home, "4m") as small:
        yield small


def fill(path: Path) -> None:
    """Write until there is no room, to the last byte."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    os.write(descriptor, b"x" * size)
    finally:
        os.close(descriptor)


FILLS = WORKER + """
step(1)
save(1)
with open("filler", "wb", buffering=0) as filler:
    try:
        while True:
            filler.write(b"x" * 4096)
    except OSError:
        pass
for number in range(2, 100_000):
    step(number)
"""


WAITS = WORKER + """
step(1)
while not any(command.name == "stop" for command in control.read()):
    time.sleep(0.1)
end("stopped")
"""


def test_a_worker_that_fills_the_disk_ends_with_that_cause(small_disk: Path) -> None:
    run = new_run(resume=3)
    process = supervise(run, FILLS)
    assert process.wait(60) == 1
    follower = look(run)
    assert (follower.name, follower.state.cause) == ("failed", "disk"), run.log.read_text()
    assert "disk is full" in (follower.state.explanation or "").lower()
    assert follower.state.restarts == 0, "it would meet the same full disk"
    assert newest_checkpoint(run) == ("checkpoints/step-00000001", [])
    assert lock_holder(run.lock) is None


def test_a_disk_filled_by_others_only_silences_the_supervisor(small_disk: Path) -> None:
    run = new_run()
    process = supervise(run, WAITS)
    wait_for(trained(run, 1))
    filler = small_disk / "filler"
    fill(filler)
    assert not has_room(run)
    before = read_status(run)["heartbeat"]
    wait_for(lambda: not has_room(run), 1)
    assert process.poll() is None
    filler.unlink()
    wait_for(lambda: read_status(run)["heartbeat"] > before + 1, 10)
    assert stop_run(run).words
    assert process.wait(20) == 0
    assert look(run).name == "stopped"
    assert not list(run.path.glob(".status*")), "nothing half written is left"


def test_the_reserve_is_real_room(small_disk: Path) -> None:
    run = create_run_directory("room")
    keep_reserve(run)
    assert run.reserve.stat().st_blocks * 512 >= RESERVE_BYTES
    fill(small_disk / "filler")
    assert not has_room(run, 4096)
    assert release_reserve(run)
    assert has_room(run, RESERVE_BYTES // 2)
    assert not release_reserve(run)


def test_a_last_word_waits_for_room_but_not_for_ever(home: Path, monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    run = create_run_directory("patient")
    write, refused, now = aftermath.write_event, 3, [0.0]

    def no_room(run: RunDirectory, type_: str, /, **fields: object) -> None:
        nonlocal refused
        refused -= 1
        if refused >= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(run, type_, **fields)

    def wait() -> None:
        now[0] += 1

    monkeypatch.setattr(aftermath, "write_event", no_room)
    last_word(run, "ended", {"outcome": "stopped"}, wait, clock=lambda: now[0])
    assert (now[0], find_ending(run.events) is not None) == (3.0, True)
    refused = 10_000
    last_word(run, "ended", {"outcome": "stopped"}, wait, clock=lambda: now[0])
    assert 3 + FULL_DISK_SECONDS <= now[0] <= 6 + FULL_DISK_SECONDS
    assert "cannot write how the run ended" in capsys.readouterr().err


def test_a_log_that_grew_beyond_reason_costs_nothing(home: Path) -> None:
    run = new_run()
    # Ten gigabytes, of which the file system holds one block: only the end may ever be read.
    process = supervise(run, WORKER + """
os.truncate("worker.log", 10 << 30)
print("\\nbefore it was cut", flush=True)
while os.stat("worker.log").st_size > 1000:
    time.sleep(0.1)
sys.exit("\\nthe very last words")
""")
    assert process.wait(30) == 1
    assert "1: the very last words" in (look(run).state.explanation or "")
    assert last_lines(run.log, 1) == ["the very last words"]
    before = run.path / "worker-before.log"
    assert before.stat().st_size <= 1 << 20
    assert last_lines(before, 1) == ["before it was cut"]
    with run.log.open("ab") as log:
        log.truncate(10 << 30)
    assert len(last_lines(run.log, 1)) == 1
    run.log.unlink()
    assert not cut_log(run)


def test_who_cannot_say_that_it_goes_on_moves_nothing(small_disk: Path) -> None:
    run = new_run()
    process = supervise(run, TRAINS)
    wait_for(trained(run, 12))
    pause_run(run)
    assert process.wait(20) == 0
    saved = saved_steps(run)
    assert len(saved) > 2
    ResumeRequest(checkpoint_at(saved[-1]), saved[-1]).write(run, "0a")
    fill(small_disk / "others")
    with pytest.raises(RunError, match="the disk is full"):
        start_supervisor(run, token="0a")
    assert saved_steps(run) == saved
    assert look(run).name == "paused"
    (small_disk / "others").unlink()
    process = supervise(run, TRAINS, "0a")
    wait_for(lambda: saved_steps(run)[-1] == saved[-1] and list(run.checkpoints.glob("abandoned-*"))
             and look(run).name == "running")
    stop_run(run)
    assert process.wait(20) == 0
