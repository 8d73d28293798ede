"""The supervisor over light workers, with real processes and signals: restarts, takeovers, what is never restarted."""

import signal

import pytest

from tests.conftest import RunCommand
from tests.faults.stand_ins import (
    TRAINS,
    WORKER,
    StandIn,
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
from workbench.engine.errors import RunError
from workbench.engine.runs.control import send_command
from workbench.engine.runs.deletion import delete_run
from workbench.engine.runs.follow import ending_lines
from workbench.engine.runs.liveness import lock_holder
from workbench.engine.runs.resume import prepare_resume
from workbench.engine.runs.store import read_json, read_status

pytestmark = pytest.mark.slow


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return use_stand_in(monkeypatch)


def test_a_killed_worker_is_started_again_from_its_last_good_checkpoint(home: object) -> None:
    run = new_run(resume=2)
    process = supervise(run, TRAINS)
    wait_for(trained(run, 12))
    newest = run.path / "checkpoints" / "step-00000010" / "weights"
    newest.write_text("damaged")
    first = identity(run, "worker")
    assert first.signal(signal.SIGKILL)
    wait_for(lambda: look(run).state.restarts == 1 and look(run).state.step > 8)
    assert look(run).name == "running"
    assert not first.is_alive()
    restarted, = events(run, "restarted")
    assert (restarted["attempt"], restarted["of"], restarted["cause"]) == (1, 2, "killed")
    assert (restarted["step"], restarted["checkpoint"]) == (5, "checkpoints/step-00000005")
    assert "SIGKILL" in str(restarted["explanation"])
    alerts = [alert.message for alert in look(run).state.alerts]
    assert any(message.startswith("The checkpoint step-00000010 is not loaded: weights ") for message in alerts)
    assert any(message.endswith("It goes on from step 5: restart 1 of 2.") for message in alerts)
    assert (run.path / "checkpoints" / "abandoned-1" / "step-00000010").is_dir()
    steps = list(look(run).state.metrics["train/loss"].steps)
    assert steps == list(range(1, len(steps) + 1)), "the abandoned branch is forgotten, nothing is missing"
    send_command(run, "stop")
    assert process.wait(20) == 0
    assert look(run).name == "stopped"
    assert lock_holder(run.lock) is None
    assert not run.beat.exists()


def test_a_killed_worker_is_a_failed_run_that_says_so(home: object) -> None:
    run = new_run()
    process = supervise(run, TRAINS)
    wait_for(trained(run, 2))
    second = supervise(run, TRAINS)
    assert second.wait(20) == 3
    assert f"{run.id} already has a supervisor" in run.supervisor_log.read_text()
    assert identity(run, "worker").signal(signal.SIGKILL)
    assert process.wait(20) == 1
    follower = look(run)
    assert (follower.name, follower.state.cause) == ("failed", "killed")
    assert "SIGKILL" in (follower.state.explanation or "")
    assert lock_holder(run.lock) is None


def test_restarts_end_where_nothing_is_gained_or_allowed(home: object) -> None:
    at_once = new_run("at-once", resume=5)
    assert supervise(at_once, WORKER + "end('failed', cause='error', explanation='Broken.')").wait(60) == 1
    assert [event["attempt"] for event in events(at_once, "restarted")] == [1]
    follower = look(at_once)
    assert (follower.name, follower.state.cause) == ("failed", "error")
    assert follower.state.alerts[-1].message == ("It failed again before it had made a step, so it was not started "
                                                 "again.")

    often = new_run("often", resume=2)
    assert supervise(often, WORKER + "step(begin + 1); os.kill(os.getpid(), 9)").wait(60) == 1
    assert [event["attempt"] for event in events(often, "restarted")] == [1, 2]
    assert look(often).state.explanation is not None
    assert look(often).state.explanation.endswith(  # type: ignore[union-attr]
        "It was started again 2 times, as often as on_failure.resume allows.")

    never = new_run("never", resume=5)
    work = WORKER + "step(1); end('failed', cause='nan', explanation='The loss is NaN.')"
    assert supervise(never, work).wait(60) == 1
    assert not events(never, "restarted")


def test_out_of_memory_halves_the_batch_until_it_fits(home: object) -> None:
    run = new_run(halve_batch=True)
    # As a worker on a GPU that holds one row: four, then two are too many.
    work = WORKER + """
from workbench.engine.recipe_file import load_recipe
training = load_recipe(run.recipe).training
if training.per_device_train_batch_size > 1:
    end("failed", cause="oom", explanation="Out of memory.")
assert training.gradient_accumulation_steps == 16
step(1)
end("finished")
"""
    assert supervise(run, work).wait(60) == 0
    restarts = events(run, "restarted")
    assert [event["changes"] for event in restarts] == [
        {"training.per_device_train_batch_size": 2, "training.gradient_accumulation_steps": 8},
        {"training.per_device_train_batch_size": 1, "training.gradient_accumulation_steps": 16}]
    assert [event["attempt"] for event in restarts] == [None, None]
    assert "per_device_train_batch_size: 4" in (run.path / "recipe-1.yaml").read_text()
    assert "per_device_train_batch_size: 2" in (run.path / "recipe-2.yaml").read_text()
    assert read_json(run.plan)["recipe"]["training"]["per_device_train_batch_size"] == 1
    assert any("a batch of 2 and 8 accumulation steps: the effective batch stays the same" in alert.message
               for alert in look(run).state.alerts)


def test_a_silent_worker_is_ended_and_started_again(home: object) -> None:
    run = new_run(resume=1)
    plan = read_json(run.plan)
    plan["recipe"]["on_failure"]["hang_minutes"] = 1.5 / 60
    write_json(run.plan, plan)
    process = supervise(run, TRAINS)
    wait_for(trained(run, 6))
    assert identity(run, "worker").signal(signal.SIGSTOP)
    wait_for(lambda: look(run).state.restarts == 1 and look(run).state.step > 6)
    restarted, = events(run, "restarted")
    assert (restarted["cause"], restarted["step"]) == ("hang", 5)
    send_command(run, "stop")
    assert process.wait(20) == 0


def test_nothing_restarts_after_a_stop_or_a_pause(home: object) -> None:
    for order in ("stop", "pause"):
        run = new_run(order, resume=3)
        process = supervise(run, WORKER + "step(1); time.sleep(600)")
        wait_for(trained(run, 1))
        send_command(run, order)  # type: ignore[arg-type]
        wait_for(lambda run=run: read_status(run)["phase"] in ("stopping", "pausing"))
        assert identity(run, "worker").signal(signal.SIGKILL)
        process.wait(20)
        assert not events(run, "restarted")
        assert look(run).name == ("stopped" if order == "stop" else "failed")


def test_a_crashed_supervisor_is_replaced_and_the_worker_never_notices(home: object, stand_in: StandIn,
                                                                      workbench: RunCommand) -> None:
    run = new_run()
    stand_in(TRAINS)
    supervise(run, TRAINS)
    wait_for(trained(run, 3))
    worker = identity(run, "worker")
    assert identity(run, "supervisor").signal(signal.SIGKILL)
    wait_for(lambda: look(run).name == "crashed", 5)
    lines = [line for line in ending_lines(look(run)) if not line.startswith("checkpoints: ")]
    assert lines[1:] == [
        f"Its supervisor died without a word, but its worker still trains, as process {worker.pid}.",
        f"take it over: workbench resume {run.id}", f"stop it: workbench stop {run.id}"]
    with pytest.raises(RunError, match=f"has lost its supervisor, but its worker still trains .process {worker.pid}."):
        delete_run(run)
    refused = workbench("resume", run.id, "--set", "training.learning_rate=1e-3")
    assert "still trains, so it can only be taken over as it is" in refused.stderr
    resumption = prepare_resume(run, lambda recipe: pytest.fail("nothing is planned"))
    assert resumption.words == [f"{run.id} still trains, without a supervisor: a new one takes it over."]
    assert resumption.start() == [run]
    assert look(run).name == "running"
    assert identity(run, "worker") == worker
    wait_for(trained(run, look(run).state.step + 5))
    assert not events(run, "resumed")
    assert look(run).state.alerts[-1].message == "Its supervisor was gone; another one minds it again."
    steps = list(look(run).state.metrics["train/loss"].steps)
    assert steps == list(range(1, len(steps) + 1))
    # Its end is taken from the journal; where it wrote none it counts as killed.
    worker.signal(signal.SIGKILL)
    wait_for(lambda: look(run).ended)
    assert (look(run).name, look(run).state.cause) == ("failed", "killed")


def test_a_worker_that_died_before_it_was_taken_over_counts_as_killed(home: object) -> None:
    run = new_run()
    supervise(run, TRAINS)
    wait_for(trained(run, 2))
    for role in ("supervisor", "worker"):
        identity(run, role).signal(signal.SIGKILL)
    wait_for(lambda: look(run).name == "crashed")
    assert supervise(run, TRAINS, "beef").wait(20) == 3
    assert f"{run.id} went on meanwhile" in run.supervisor_log.read_text()
    assert supervise(run, TRAINS).wait(20) == 1
    assert (look(run).name, look(run).state.cause) == ("failed", "killed")
    assert (look(run).state.explanation or "").startswith("The worker died without a word.")
