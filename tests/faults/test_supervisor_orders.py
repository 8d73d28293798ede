"""Orders to runs over light workers, with real processes and signals: stop, pause and resume, given once, twice and at
once by several, to workers that are halted, that lost their supervisor, and to strangers."""

import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.conftest import RunCommand
from tests.faults.stand_ins import (
    FINISHES,
    TRAINS,
    WORKER,
    StandIn,
    any_plan,
    events,
    identity,
    look,
    new_run,
    supervise,
    trained,
    use_stand_in,
    wait_for,
)
from workbench.engine.atomic import write_json
from workbench.engine.errors import InputError, RunError
from workbench.engine.runs.control import send_command
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.liveness import ProcessIdentity, lock_holder
from workbench.engine.runs.orders import pause_run, stop_run
from workbench.engine.runs.resume import Resumption, prepare_resume
from workbench.engine.runs.store import read_status

pytestmark = pytest.mark.slow


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return use_stand_in(monkeypatch)


def test_stop_reaches_a_worker_without_supervisor(home: object, stand_in: StandIn) -> None:
    run = new_run()
    stand_in(TRAINS)
    supervise(run, TRAINS)
    wait_for(trained(run, 2))
    worker = identity(run, "worker")
    identity(run, "supervisor").signal(signal.SIGKILL)
    assert worker.signal(signal.SIGSTOP)
    wait_for(lambda: look(run).name == "crashed", 5)
    answer = stop_run(run)
    assert answer.words == (f"{run.id} had lost its supervisor; another one has taken over.",
                            f"{run.id} was asked to stop; its worker was halted by a signal, so it gets SIGTERM at "
                            "once, and SIGKILL after 15s.")
    wait_for(lambda: look(run).ended, 10)
    assert look(run).name == "stopped"
    assert not worker.is_alive()


def test_a_halted_worker_that_does_not_want_to_end_is_ended_within_the_deadline(home: object) -> None:
    run = new_run()
    process = supervise(run, WORKER + "signal.signal(signal.SIGTERM, signal.SIG_IGN); step(1); time.sleep(600)")
    wait_for(trained(run, 1))
    identity(run, "worker").signal(signal.SIGSTOP)
    began = time.monotonic()
    send_command(run, "stop")
    assert process.wait(20) == 0
    assert time.monotonic() - began < 2 + 1, "it was not waited for as for one that works"
    assert "SIGKILL" in (look(run).state.explanation or "")


def test_a_stranger_with_the_workers_number_is_left_alone(home: object, workbench: RunCommand) -> None:
    run = new_run()
    supervise(run, TRAINS)
    wait_for(trained(run, 2))
    for role in ("supervisor", "worker"):
        identity(run, role).signal(signal.SIGKILL)
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        theirs = ProcessIdentity.of(stranger.pid)
        assert theirs is not None
        # The same number, once with another start and once from before a reboot: both are somebody else.
        for changed in ({"start_time": theirs.start_time - 5}, {"boot_id": "another-boot"}):
            write_json(run.status, {**read_status(run), "worker": {**theirs.to_json(), **changed}})
            result = workbench("stop", run.id)
            assert result.returncode == 1
            assert result.stderr.splitlines() == [
                f"error: {run.id} is not running, so it cannot stop: its supervisor died, and its worker is gone. "
                f"Process {stranger.pid} is another program now (sleep), so it was left alone.",
                f"hint: Go on with it: workbench resume {run.id}"]
        assert stranger.poll() is None
        assert psutil.Process(stranger.pid).status() != psutil.STATUS_STOPPED
    finally:
        stranger.kill()
        stranger.wait()


def test_pause_and_resume_go_on_in_place(home: object, stand_in: StandIn, workbench: RunCommand) -> None:
    run = new_run()
    stand_in(TRAINS)
    process = supervise(run, TRAINS)
    wait_for(trained(run, 7))
    # Both were halted, as by ctrl+z: who orders a pause wants the GPU free.
    both = [identity(run, role) for role in ("supervisor", "worker")]
    assert all(one.signal(signal.SIGSTOP) for one in both)
    wait_for(lambda: all(one.is_suspended() for one in both))
    assert pause_run(run).words == (
        f"Its supervisor, process {both[0].pid}, was halted by a signal; it goes on now.",
        f"{run.id} was asked to pause; it saves after its current step and leaves its GPU.",
        f"Go on: workbench resume {run.id}")
    assert process.wait(20) == 0
    paused = look(run)
    assert paused.name == "paused"
    assert lock_holder(run.lock) is None
    assert pause_run(run).words[0] == f"{run.id} is paused already."
    resumption = prepare_resume(run, any_plan)
    assert resumption.words == [f"{run.id} goes on from step {paused.state.step}."]
    resumption.start()
    assert look(run).name in ("queued", "running")
    with pytest.raises(RunError, match=f"{run.id} is (queued|running), so there is nothing to resume"):
        prepare_resume(run, any_plan)
    wait_for(trained(run, paused.state.step + 3))
    resumed, = events(run, "resumed")
    assert (resumed["step"], resumed["attempt"], resumed["changes"]) == (paused.state.step, 1, {})
    assert not list(run.path.glob("resume-*.json"))
    assert (run.path / "control-1.jsonl").is_file(), "the pause was for the worker before"

    first, second = stop_run(run), stop_run(run)
    assert "was asked to stop; it ends after its current step; when nothing moves for 1m00s" in first.words[0]
    assert "was asked to stop already" in second.words[0] or "was asked to stop" in second.words[0]
    wait_for(lambda: look(run).ended)
    assert look(run).name == "stopped"
    steps = list(look(run).state.metrics["train/loss"].steps)
    assert steps == list(range(1, len(steps) + 1))


def test_of_two_that_resume_one_wins(home: object, stand_in: StandIn) -> None:
    run = new_run()
    stand_in(TRAINS)
    supervise(run, TRAINS)
    wait_for(trained(run, 6))
    stop_run(run)
    wait_for(lambda: look(run).ended and lock_holder(run.lock) is None)
    resumptions = [prepare_resume(run, any_plan) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(attempt, resumptions))
    assert sorted(isinstance(result, RunError) for result in results) == [False, True, True, True]
    assert {error.message for error in results if isinstance(error, RunError)} \
        <= {f"{run.id} is already running: somebody else was quicker."}
    assert len(events(run, "resumed")) == 1
    stop_run(run)
    wait_for(lambda: look(run).ended and lock_holder(run.lock) is None)
    # What was looked at before it went on is void, also once it has ended again.
    late = attempt(resumptions[0])
    assert isinstance(late, RunError)
    assert "went on meanwhile" in late.message


def attempt(resumption: Resumption) -> list[RunDirectory] | RunError:
    try:
        return resumption.start()
    except RunError as error:
        return error


def test_a_paused_run_can_be_stopped_and_a_step_can_be_chosen(home: object, stand_in: StandIn) -> None:
    run = new_run()
    stand_in(FINISHES)
    process = supervise(run, TRAINS)
    wait_for(trained(run, 12))
    pause_run(run)
    process.wait(20)
    assert stop_run(run).words == (f"{run.id} was paused; now it is stopped.",)
    assert look(run).name == "stopped"
    assert stop_run(run).words == (f"{run.id} is stopped already.",)
    with pytest.raises(InputError, match="has no checkpoint of step 7") as error:
        prepare_resume(run, any_plan, step=7)
    assert str(error.value.hint).startswith("There are: 5, 10,")
    prepare_resume(run, any_plan, ["training.learning_rate=0.001"], step=5).start()
    wait_for(lambda: look(run).name == "finished")
    follower = look(run)
    assert list(follower.state.metrics["train/loss"].steps) == [1, 2, 3, 4, 5, 6]
    assert any(alert.message == "Goes on with training.learning_rate = 0.001." for alert in follower.state.alerts)
    assert any(alert.message.startswith("Set aside, as training goes on from before them: the checkpoints of 10")
               for alert in follower.state.alerts)
    assert "learning_rate: 0.001" in run.recipe.read_text()
    assert "learning_rate: 0.001" not in (run.path / "recipe-1.yaml").read_text()
    with pytest.raises(RunError, match="is finished; there is nothing to resume"):
        prepare_resume(run, any_plan)
    with pytest.raises(RunError, match="is not running, so it cannot stop"):
        stop_run(run)
