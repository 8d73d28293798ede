"""What a worker does when it is told to pause, to stop and to save, and when it is started again."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.forked import go_on, make_run, order, small_model, story, work
from tests.worker.test_resume_exact import RECIPE
from workbench.engine.recipe_file import parse_recipe
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.journal import Journal, JournalReader
from workbench.engine.runs.liveness import acquire_lock
from workbench.engine.runs.manifest import verify
from workbench.engine.runs.store import beat_age

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small") / "model")


def new_run(model: Path, *overrides: str) -> RunDirectory:
    return make_run(parse_recipe(RECIPE.format(model=model), overrides=overrides))


def events(run: RunDirectory, kind: str) -> list[dict[str, Any]]:
    return [event for event in JournalReader(run.events).read() if event["type"] == kind]


def without(told: dict[str, Any], step: int) -> dict[str, Any]:
    """A story without what was said at one step."""
    return {"metrics": {name: {at: value for at, value in points.items() if at != step}
                        for name, points in told["metrics"].items()},
            "samples": [sample for sample in told["samples"] if sample[0] != step]}


def test_a_pause_and_a_stop_change_nothing_of_what_comes_after(model: Path, home: Path) -> None:
    whole = new_run(model, "training.eval_steps=null")
    assert work(whole, at=(5, "save")) == 0, whole.log.read_text()[-3000:]
    assert events(whole, "command")[0]["result"] == "saved checkpoints/step-00000005"
    told = story(whole)
    assert 7 not in told["metrics"]["train/loss"]

    paused = new_run(model, "training.eval_steps=null")
    assert work(paused, at=(7, "pause")) == 0
    last = list(JournalReader(paused.events).read())[-1]
    assert (last["type"], last["step"], last["checkpoint"]) == ("paused", 7, "checkpoints/step-00000007")
    assert not paused.model.exists()
    assert max(sample[0] for sample in story(paused)["samples"]) == 6
    assert work(paused, go_on(paused)) == 0
    assert events(paused, "ended")[-1]["outcome"] == "finished", "the command to pause is not obeyed again"
    assert story(paused) == told

    for fate in ("stop", "SIGTERM"):
        stopped = new_run(model, "training.eval_steps=null")
        assert work(stopped, at=(7, fate)) == 0
        assert events(stopped, "ended")[-1]["outcome"] == "stopped"
        assert verify(stopped.model) is None
        assert work(stopped, go_on(stopped)) == 0
        assert 7 in story(stopped)["metrics"]["train/loss"], "its last step is logged, whatever the logging steps"
        assert without(story(stopped), 7) == told


def test_before_the_first_step_there_is_nothing_to_save(model: Path, home: Path) -> None:
    run = new_run(model)
    order(run, "pause")
    assert work(run) == 0
    last = list(JournalReader(run.events).read())[-1]
    assert (last["type"], last["step"], last["checkpoint"]) == ("paused", 0, None)
    assert not list(run.checkpoints.glob("*"))


def test_a_branch_that_was_left_is_set_aside(model: Path, home: Path) -> None:
    run = new_run(model, "training.save_steps=2", "training.save_total_limit=9")
    assert work(run, at=(10, "SIGKILL")) == -signal.SIGKILL
    (run.checkpoints / ".partial-step-00000010").mkdir()
    left = story(run)
    with Journal(run.events) as journal:
        journal.append("resumed", step=4, checkpoint="checkpoints/step-00000004")
    assert work(run, "checkpoints/step-00000004", at=(7, "SIGKILL")) == -signal.SIGKILL
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [
        "abandoned-1", "step-00000002", "step-00000004", "step-00000006"]
    aside = run.checkpoints / "abandoned-1"
    assert sorted(path.name for path in aside.iterdir()) == ["step-00000006", "step-00000008"]
    assert work(run, go_on(run)) == 0
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [
        "abandoned-1", "step-00000002", "step-00000004", "step-00000006", "step-00000008", "step-00000010"]
    again = story(run)
    assert {step: again["metrics"]["train/loss"][step] for step in left["metrics"]["train/loss"]} \
        == left["metrics"]["train/loss"]


def test_what_would_be_another_run_is_refused_and_a_lower_rate_is_used(model: Path, home: Path) -> None:
    run = new_run(model)
    assert work(run, at=(7, "SIGKILL")) == -signal.SIGKILL
    path = go_on(run)
    whole = run.recipe.read_text()
    run.recipe.write_text(whole.replace("seed: 42", "seed: 43"))
    assert work(run, path) == 1
    assert events(run, "ended")[-1]["explanation"] == \
        "The run cannot go on from step 5: training.seed was 42, and is 43 now."
    # Half the rows at once, twice as often: the rows of the five steps that were done are not seen again.
    run.recipe.write_text(whole.replace("learning_rate: 0.01", "learning_rate: 0.005").replace(
        "per_device_train_batch_size: 2", "per_device_train_batch_size: 1").replace(
        "gradient_accumulation_steps: 2", "gradient_accumulation_steps: 4").replace("max_steps: 11", "max_steps: 8"))
    assert work(run, go_on(run)) == 0, run.log.read_text()[-2000:]
    rates = {event["step"]: event["metrics"]["train/learning_rate"] for event in events(run, "step")}
    assert rates[3] == pytest.approx(0.01, rel=0.2)
    assert 0 < rates[6] < 0.005
    tokens = [event["metrics"]["train/num_tokens"] for event in events(run, "step") if event["step"] == 6]
    assert tokens[0] == tokens[-1], "the same rows, however they are cut up"


def test_nothing_is_kept_that_leads_to_a_loss_that_is_no_number(model: Path, home: Path) -> None:
    run = new_run(model, "tuning=full", "training.learning_rate=1e25", "training.warmup_steps=3",
                  "training.save_steps=1", "training.logging_steps=100", "training.save_total_limit=9",
                  "training.eval_steps=100")
    assert work(run) == 1
    ended = events(run, "ended")[-1]
    assert ended["cause"] == "nan", ended
    # At a rate of zero the first step moved nothing; the second one's weights are finite, and of no use.
    assert [path.name for path in run.checkpoints.glob("step-*")] == ["step-00000001"]
    assert "The checkpoint of step 2 is set aside" in " ".join(event["message"] for event in events(run, "alert"))


def test_a_run_has_one_worker_which_shows_that_it_lives(model: Path, home: Path) -> None:
    run = new_run(model)
    lock = acquire_lock(run.worker_lock)
    assert lock is not None
    second = subprocess.run([sys.executable, "-m", "workbench.worker", "train", run.id], capture_output=True, text=True)
    assert (second.returncode, second.stderr) == (3, f"{run.id} already has a worker\n")
    assert not run.events.exists()
    assert not run.beat.exists()
    assert beat_age(run) is None
    assert work(new_run(model, "training.max_steps=1")) == 0
    done = max(home.glob("runs/*/beat"))
    assert beat_age(RunDirectory(done.parent)) < 60


def test_a_death_over_the_result_costs_neither_it_nor_a_step(model: Path, home: Path) -> None:
    run = new_run(model, "training.save_steps=11", "training.eval_steps=null")
    assert work(run) == 0, run.log.read_text()[-3000:]
    told = story(run)
    # As it stood when the last checkpoint was written, and nothing after it.
    shutil.rmtree(run.model)
    lines = run.events.read_bytes().splitlines(keepends=True)
    last = next(number for number, line in enumerate(lines) if b'"type":"checkpoint"' in line)
    run.events.write_bytes(b"".join(lines[:last + 1]))
    *kept, final = run.samples.read_bytes().splitlines(keepends=True)
    assert b'"step":11' in final
    run.samples.write_bytes(b"".join(kept))
    assert work(run, go_on(run)) == 0, run.log.read_text()[-3000:]
    assert events(run, "ended")[-1]["outcome"] == "finished"
    assert verify(run.model) is None
    assert story(run) == told
    assert not [alert for alert in events(run, "alert") if "nothing was learned" in alert["message"]]
