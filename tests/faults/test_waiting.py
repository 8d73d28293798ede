"""Stages wait for each other in processes of their own; whatever becomes of one, the next says so and ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.test_detach import wait_for
from workbench.engine.atomic import write_json
from workbench.engine.errors import RunError
from workbench.engine.runs.chain import StageOf
from workbench.engine.runs.control import send_command
from workbench.engine.runs.deletion import delete_run
from workbench.engine.runs.directory import RunDirectory, create_run_directory
from workbench.engine.runs.store import RunFollower, summarise

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
# A supervisor as the launcher starts it, over a worker that does what the test says instead of training.
SUPERVISOR = """\
import sys
from workbench.engine.runs.directory import find_run
from workbench.engine.runs.supervisor import Supervisor
sys.exit(Supervisor(find_run(sys.argv[1]), [sys.executable, "-c", sys.argv[2]]).main())
"""
WORKS = "import time; time.sleep(600)"
FINISHES = """\
from pathlib import Path
from workbench.engine.runs.journal import Journal
with Journal(Path("events.jsonl")) as journal:
    journal.append("started")
    journal.append("ended", outcome="finished")
"""


def chain(length: int) -> list[RunDirectory]:
    runs: list[RunDirectory] = []
    for number in range(1, length + 1):
        run = create_run_directory(f"chain-{number}")
        place = StageOf("one", "chain", number, length, runs[-1].id if runs else None)
        write_json(run.plan, {"pipeline": place.to_json()})
        runs.append(run)
    return runs


def start(run: RunDirectory, work: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, run.id, work], cwd=ROOT)
    wait_for(lambda: run.status.exists() or summarise(run).state == "waiting", 20)
    return process


def ended(run: RunDirectory) -> RunFollower:
    follower = RunFollower(run)
    wait_for(lambda: follower.refresh() is not None and follower.ended, 20)
    return follower


def test_a_killed_stage_ends_all_that_wait_for_it(home: Path) -> None:
    first, second, third = chain(3)
    supervisors = [start(run, WORKS) for run in (first, second, third)]
    wait_for(lambda: [summarise(run).state for run in (second, third)] == ["waiting", "waiting"], 20)
    with pytest.raises(RunError, match="has not ended"):
        delete_run(first)
    supervisors[0].send_signal(signal.SIGKILL)
    assert ended(second).state.explanation == f"Not started: stage 1, {first.id}, crashed."
    assert ended(third).state.explanation == f"Not started: stage 2, {second.id}, was stopped."
    assert [process.wait(20) for process in supervisors[1:]] == [0, 0]


def test_a_waiting_stage_is_stopped_alone_and_what_it_needs_is_kept(home: Path) -> None:
    first, second, third = chain(3)
    supervisors = [start(first, FINISHES), start(second, WORKS), start(third, WORKS)]
    wait_for(lambda: summarise(third).state == "waiting" and "worker" in second.status.read_text(), 20)
    assert ended(first).name == "finished"
    supervisors[0].wait(20)
    with pytest.raises(RunError, match=f"{third.id} has not ended and needs it"):
        delete_run(first)
    send_command(third, "stop")
    assert ended(third).state.explanation == "Stopped on request, before its turn came."
    assert summarise(second).state not in ("stopped", "crashed")
    supervisors[1].send_signal(signal.SIGKILL)
    for process in supervisors:
        process.wait(20)


def test_a_stage_starts_when_the_one_before_has_finished(home: Path) -> None:
    first, second = chain(2)
    waiting = start(second, FINISHES)
    wait_for(lambda: summarise(second).state == "waiting", 20)
    start(first, FINISHES).wait(20)
    assert waiting.wait(20) == 0
    assert ended(second).name == "finished"
