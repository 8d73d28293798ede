"""Real supervisors that wait for one device: whatever becomes of one, the others have their turn."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from tests.conftest import RunCommand
from tests.faults.test_detach import wait_for
from workbench.engine.atomic import write_json
from workbench.engine.errors import RunError
from workbench.engine.runs.chain import StageOf
from workbench.engine.runs.control import send_command
from workbench.engine.runs.directory import RunDirectory, create_run_directory, find_run
from workbench.engine.runs.journal import JournalReader
from workbench.engine.runs.queue_file import hold_in_queue, join_queue, move_in_queue, queue_file, read_queue
from workbench.engine.runs.queue_rows import queue_rows, waiting_reason
from workbench.engine.runs.store import read_status, summarise

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
# Supervisors as the launcher starts them, over workers that write down when they ran, and on what, instead of training.
SUPERVISOR = """\
import sys
from workbench.engine.runs import supervisor
from workbench.engine.runs.directory import find_run
from workbench.engine.runs.supervisor import Supervisor
supervisor.TICK_SECONDS = 0.05
command = [sys.executable, "-S", "-c", sys.argv[2], *sys.argv[4:]]
sys.exit(Supervisor(find_run(sys.argv[1]), command, queued=sys.argv[3] == "queue").main())
"""
WORKER = """\
import os, sys, time
began = time.monotonic()
seconds, ending = float(sys.argv[1]), sys.argv[2]
until = began + seconds
while time.monotonic() < until and not (seconds > 60 and os.path.exists("enough")):
    time.sleep(0.02)
with open("events.jsonl", "a") as journal:
    if ending == "finished":
        journal.write('{"type":"ended","time":1,"outcome":"finished"}\\n')
with open("ran", "w") as file:
    file.write(f"{began} {time.monotonic()} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}")
sys.exit(0 if ending == "finished" else 3)
"""
NVML = """\
import json, os
from types import SimpleNamespace
NVML_TEMPERATURE_GPU = 0
def cards(): return json.load(open(os.environ["CARDS"]))
def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return len(cards())
def nvmlDeviceGetHandleByIndex(index): return cards()[index]
def nvmlDeviceGetMemoryInfo(card):
    return SimpleNamespace(total=card["total"], free=card["free"], used=card["total"] - card["free"])
def nvmlDeviceGetUtilizationRates(card): return SimpleNamespace(gpu=0)
def nvmlDeviceGetPowerUsage(card): return 1000
def nvmlDeviceGetUUID(card): return card["uuid"].encode()
def nvmlDeviceGetName(card): return b"NVIDIA Stand-in"
def nvmlDeviceGetTemperature(card, sensor): return 30
"""
GIB = 1024**3
Process = subprocess.Popen[bytes]


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    """Supervisors; those that a failed test leaves are ended."""
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start(processes: list[Process], run: RunDirectory, seconds: float = 600.0, ending: str = "finished",
          queue: bool = True) -> Process:
    process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, run.id, WORKER, "queue" if queue else "",
                                str(seconds), ending], cwd=ROOT)
    processes.append(process)
    return process


def queued(processes: list[Process], names: Sequence[str], seconds: float = 600.0) -> list[RunDirectory]:
    """Runs that queue one behind the other; the first has the device, the others wait."""
    runs = [create_run_directory(name) for name in names]
    for run in runs:
        join_queue(run)
        start(processes, run, seconds)
    wait_for(lambda: [at(run) for run in runs] == ["worker", *["waiting"] * (len(runs) - 1)], 30)
    return runs


def at(run: RunDirectory) -> str:
    """Where a run stands: `worker` while its worker runs."""
    return "worker" if read_status(run).get("worker") else summarise(run).state


def enough(run: RunDirectory) -> None:
    """Its worker may end now."""
    (run.path / "enough").touch()


def ran(run: RunDirectory) -> tuple[float, float]:
    began, ended, _ = (run.path / "ran").read_text().split()
    return float(began), float(ended)


def reasons(run: RunDirectory) -> list[str]:
    return [event["reason"] for event in JournalReader(run.events).read() if event["type"] == "waiting"]


def test_runs_start_in_their_order_and_the_user_changes_it(home: Path, processes: list[Process],
                                                           workbench: RunCommand) -> None:
    one, two, three, four = queued(processes, ["one", "two", "three", "four"])
    wait_for(lambda: [row.reason for row in queue_rows()] == ["the CPU is taken by one", "1 before it on the CPU",
                                                              "2 before it on the CPU"], 10)
    moved = workbench("queue", four.id, "--first")
    assert moved.stdout == f"{four.id} is number 1 of 3 in the queue.\n", moved.stderr
    hold_in_queue(two, True)
    wait_for(lambda: waiting_reason(three) == "1 before it on the CPU" and waiting_reason(two) == "held", 10)
    shown = json.loads(workbench("queue", "--json").stdout)
    assert [(row["position"], row["id"], row["held"]) for row in shown] == [
        (1, four.id, False), (2, two.id, True), (3, three.id, False)]
    enough(one)
    wait_for(lambda: at(four) == "worker", 10)
    enough(four)
    wait_for(lambda: at(three) == "worker", 10)
    enough(three)
    assert processes[2].wait(10) == 0
    time.sleep(1)
    assert summarise(two).state == "waiting"
    hold_in_queue(two, False)
    wait_for(lambda: at(two) == "worker", 10)
    enough(two)
    assert [process.wait(10) for process in processes] == [0, 0, 0, 0]
    intervals = [ran(run) for run in (one, four, three, two)]
    assert all(before[1] < after[0] for before, after in pairwise(intervals))
    assert reasons(two)[-2:] == ["held", "its turn has come: starting on the CPU"]
    assert len(reasons(two)) < 8
    with pytest.raises(RunError, match="is finished, and not in the queue"):
        move_in_queue(two, "up")


def test_a_killed_supervisor_and_a_failing_run_block_nobody(home: Path, processes: list[Process]) -> None:
    first, killed, failing, last = (create_run_directory(name) for name in ("first", "killed", "failing", "last"))
    for run, seconds, ending in ((first, 600.0, "finished"), (killed, 600.0, "finished"), (failing, 0.0, "failed"),
                                 (last, 0.0, "finished")):
        join_queue(run)
        start(processes, run, seconds, ending)
    wait_for(lambda: at(first) == "worker" and waiting_reason(last) == "2 before it on the CPU"
             and waiting_reason(killed) == "the CPU is taken by first", 30)
    processes[1].send_signal(signal.SIGKILL)
    wait_for(lambda: waiting_reason(failing) == "the CPU is taken by first", 10)
    assert summarise(killed).state == "crashed"
    enough(first)
    assert [process.wait(20) for process in processes] == [0, -9, 1, 0]
    assert summarise(last).state == "finished"
    assert read_queue().entries == ()
    assert ran(failing)[1] < ran(last)[0]


def test_a_worker_that_lost_its_supervisor_keeps_the_device_until_it_ends(home: Path, processes: list[Process]) -> None:
    first, second = queued(processes, ["first", "second"])
    processes[0].kill()
    processes[0].wait()
    time.sleep(1)
    assert at(second) == "waiting"
    wait_for(lambda: waiting_reason(second) == "the CPU is taken by first", 10)
    start(processes, first)
    wait_for(lambda: read_status(first)["supervisor"]["pid"] == processes[2].pid, 20)
    assert read_status(first)["gpus"] == ["cpu"]
    assert [claim.supervisor for claim in read_queue().claims] == [processes[2].pid]
    enough(first)
    assert processes[2].wait(10) == 0
    wait_for(lambda: at(second) == "worker", 10)


def test_the_command_line_queues_a_run_pauses_it_and_queues_it_again(home: Path, processes: list[Process],
                                                                     workbench: RunCommand) -> None:
    first, = queued(processes, ["first"])
    launched = workbench("train", "recipes/demo.yaml", "--queue", "--detach", "--json")
    assert launched.returncode == 0, launched.stderr
    run = RunDirectory(Path(json.loads(launched.stdout)["directory"]))
    wait_for(lambda: waiting_reason(run) == "the CPU is taken by first", 10)
    assert json.loads(workbench("show", run.id, "--json").stdout)["phase"] == "the CPU is taken by first"
    assert workbench("pause", run.id).returncode == 0
    wait_for(lambda: summarise(run).state == "paused", 10)
    assert queue_rows() == []
    again = workbench("resume", run.id, "--detach")  # it waited in the queue, and does again
    assert again.returncode == 0, again.stderr
    wait_for(lambda: [(row.run, row.reason) for row in queue_rows()] == [(run, "the CPU is taken by first")], 10)
    assert workbench("stop", run.id).returncode == 0
    wait_for(lambda: summarise(run).state == "stopped", 10)
    assert not run.log.exists()
    chain = workbench("train", "recipes/tiny/pipeline_sft_reward_rlhf.yaml", "--queue", "--detach")
    assert chain.returncode == 0, chain.stderr
    stages = [find_run(stage) for stage in chain.stdout.split()]
    wait_for(lambda: [waiting_reason(stage) for stage in stages[:2]] == ["the CPU is taken by first",
                                                                        f"waiting for stage 1 ({stages[0].name})"], 10)
    assert [row.run for row in queue_rows()] == stages[:1]
    assert all(psutil.Process(read_status(stage)["supervisor"]["pid"]).cmdline()[-1] == "--queue" for stage in stages)
    assert at(first) == "worker"


def test_stop_and_pause_reach_those_who_wait(home: Path, processes: list[Process]) -> None:
    _, stopped, paused, last = queued(processes, ["first", "stopped", "paused", "last"])
    send_command(stopped, "stop")
    send_command(paused, "pause")
    assert [processes[index].wait(10) for index in (1, 2)] == [0, 0]
    assert summarise(stopped).state == "stopped"
    assert summarise(paused).state == "paused"
    wait_for(lambda: waiting_reason(last) == "the CPU is taken by first", 10)
    assert [row.run for row in queue_rows()] == [last]
    assert not (stopped.path / "ran").exists()


def test_a_damaged_queue_keeps_its_order_and_what_is_held(home: Path, processes: list[Process]) -> None:
    runs = queued(processes, ["first", "second", "third", "fourth"])
    hold_in_queue(runs[1], True)
    wait_for(lambda: waiting_reason(runs[1]) == "held", 10)
    queue_file().write_bytes(b'{"entries": [{"run')
    wait_for(lambda: [row.run for row in queue_rows()] == runs[1:], 10)
    assert [row.held for row in queue_rows()] == [True, False, False]
    wait_for(lambda: waiting_reason(runs[2]) == "the CPU is taken by first", 10)
    enough(runs[0])
    wait_for(lambda: at(runs[2]) == "worker", 10)
    assert at(runs[1]) == at(runs[3]) == "waiting"


def test_twenty_who_race_for_one_device_never_overlap(home: Path, processes: list[Process]) -> None:
    runs = [create_run_directory(f"racer-{number}") for number in range(20)]
    for run in runs:
        start(processes, run, 0.05)
    assert [process.wait(90) for process in processes] == [0] * 20
    intervals = sorted(ran(run) for run in runs)
    assert all(before[1] < after[0] for before, after in pairwise(intervals))
    assert read_queue().entries == ()


def test_a_stage_queues_when_its_turn_comes(home: Path, processes: list[Process]) -> None:
    first, second, other = (create_run_directory(name) for name in ("stage-1", "stage-2", "other"))
    for number, run in ((1, first), (2, second)):
        write_json(run.plan, {"pipeline": StageOf("p", "p", number, 2, first.id if number == 2 else None).to_json()})
        start(processes, run)
        wait_for(run.status.exists, 20)
    start(processes, other)
    wait_for(lambda: waiting_reason(other) == "the CPU is taken by stage-1", 20)
    assert [row.run for row in queue_rows()] == [other]
    enough(first)
    wait_for(lambda: at(other) == "worker" and waiting_reason(second) == "the CPU is taken by other", 10)
    enough(other)
    wait_for(lambda: at(second) == "worker", 10)
    enough(second)
    assert [process.wait(10) for process in processes] == [0, 0, 0]


def test_each_worker_sees_the_one_gpu_that_its_supervisor_claimed(home: Path, processes: list[Process], tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs behind a stand-in for NVML: who queues and who does not, through the real supervisor to the worker."""
    (tmp_path / "nvml").mkdir()
    (tmp_path / "nvml" / "pynvml.py").write_text(NVML)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'nvml'}{os.pathsep}{ROOT}")
    monkeypatch.setenv("CARDS", str(tmp_path / "cards.json"))
    cards = [{"uuid": "GPU-aaaa", "total": 24 * GIB, "free": 23 * GIB}, {"uuid": "GPU-bbbb", "total": 24 * GIB,
                                                                          "free": 5 * GIB}]
    write_json(tmp_path / "cards.json", cards)
    at_once, queues, named, absent = (create_run_directory(name) for name in ("at-once", "queues", "named", "absent"))
    for run, gpus in ((at_once, []), (queues, []), (named, ["GPU-aa"]), (absent, ["5"])):
        write_json(run.plan, {"plan": {"tuning": "full", "gpus": [{}], "tunings": {"full": {"high_bytes": 10 * GIB}}},
                              "recipe": {"hardware": {"gpus": gpus}}})
    start(processes, at_once, queue=False)
    wait_for(lambda: at(at_once) == "worker", 20)
    assert read_status(at_once)["gpus"] == ["GPU-aaaa"]
    start(processes, queues, 0.0)
    why = "GPU 0 is taken by at-once; GPU 1 has 5.0 GiB free and it needs 10.5 GiB"
    wait_for(lambda: waiting_reason(queues) == why, 20)
    start(processes, named, 0.0)
    wait_for(lambda: waiting_reason(named) == "1 before it on GPU 0", 20)
    write_json(tmp_path / "cards.json", [cards[0], cards[1] | {"free": 20 * GIB}])
    assert processes[1].wait(20) == 0
    assert (queues.path / "ran").read_text().split()[2] == "GPU-bbbb"
    wait_for(lambda: waiting_reason(named) == "GPU 0 is taken by at-once", 10)
    enough(at_once)
    assert processes[2].wait(20) == 0
    assert [(run.path / "ran").read_text().split()[2] for run in (at_once, named)] == ["GPU-aaaa", "GPU-aaaa"]
    assert start(processes, absent, queue=False).wait(20) == 1
    assert "GPU 5 is not there" in absent.events.read_text()
