"""What `show` says of a run that failed: in its document, and in plain words with the way on."""

import json
from pathlib import Path
from typing import Any

from tests.conftest import RunCommand
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_diff import applied, changed_settings, recipe_diff
from workbench.engine.recipe_file import recipe_to_yaml
from workbench.engine.runs.directory import RunDirectory, create_run_directory
from workbench.engine.runs.document import run_document
from workbench.engine.runs.follow import ending_lines
from workbench.engine.runs.journal import Journal
from workbench.engine.runs.manifest import write_complete
from workbench.engine.runs.postmortem import Raised, explain_chain
from workbench.engine.runs.store import RunFollower

RECIPE = Recipe.model_validate({"model": "tiny-base", "dataset": "glossary", "training": {"learning_rate": 3e-4}})


def failed(checkpoints: tuple[int, ...], **raised: Any) -> RunDirectory:
    run = create_run_directory("failed")
    run.recipe.write_text(recipe_to_yaml(RECIPE, full=True))
    with Journal(run.events) as journal:
        journal.append("started")
        for step in checkpoints:
            path = f"checkpoints/step-{step:08d}"
            if step < 30:  # the last one was deleted behind its back
                write_complete(run.path / path, _fill, {"step": step})
            journal.append("checkpoint", step=step, path=path, verified=True)
        journal.append("ended", **explain_chain((Raised(**raised),), "Traceback (most recent call last):\nE: \x1b[2J\n",
                                                RECIPE).to_event())
    run.status.write_text("{}")
    return run


def _fill(place: Path) -> None:
    (place / "w").write_bytes(b"w")


def follower_of(run: RunDirectory) -> RunFollower:
    follower = RunFollower(run)
    follower.refresh()
    return follower


def test_the_document_has_evidence_changes_and_the_last_good_checkpoint(home: Path) -> None:
    run = failed((10, 20, 30), kind="NonFiniteLossError", message="train/loss became nan at step 31.")
    document = run_document(follower_of(run))
    assert document["cause"] == "nan"
    assert document["suggested_changes"] == {"training.learning_rate": 1e-4}
    assert document["recipe_diff"] == [{"setting": "training.learning_rate", "old": 3e-4, "new": 1e-4}]
    assert document["evidence"] == ["E: \\x1b[2J"]
    assert document["last_good_checkpoint"] == {"step": 20, "path": str(run.path / "checkpoints/step-00000020")}
    assert [kept["step"] for kept in document["checkpoints"]] == [10, 20]
    assert "checkpoints: step 10, step 20" in list(ending_lines(follower_of(run)))
    assert document["restarts"] == 0


def test_the_words_end_with_the_way_on(home: Path) -> None:
    run = failed((10,), kind="NonFiniteLossError", message="train/loss became nan at step 31.")
    lines = list(ending_lines(follower_of(run)))
    assert "  | E: \\x1b[2J" in lines
    assert "last good checkpoint: step 10" in lines
    assert "change: training.learning_rate: 0.0003 → 0.0001" in lines
    assert lines[-2:] == [f"apply and go on: workbench resume {run.id} --apply",
                          f"go on unchanged: workbench resume {run.id}"]
    plain = failed((), kind="RuntimeError", message="CUDA error: device-side assert triggered")
    assert list(ending_lines(follower_of(plain)))[-2:] == ["last good checkpoint: none, so it would begin anew",
                                                           f"go on with it: workbench resume {plain.id}"]


def test_show_prints_both(home: Path, workbench: RunCommand) -> None:
    run = failed((10,), kind="OSError", message="No space left on device", errno=28)
    shown = workbench("show", run.id).stdout
    assert "The disk is full: No space left on device" in shown
    assert f"workbench resume {run.id} --apply" in shown
    document = json.loads(workbench("show", run.id, "--json").stdout)
    assert document["suggested_changes"] == {"training.save_total_limit": 1}


def test_recipes_side_by_side() -> None:
    after = RECIPE.model_copy(update={"tuning": "qlora", "training": RECIPE.training.model_copy(
        update={"packing": True, "save_steps": None})})
    assert recipe_diff(RECIPE, after) == ("tuning: lora → qlora", "training.packing: false → true",
                                          "training.save_steps: 500 → not set")
    assert recipe_diff(RECIPE, RECIPE) == ()
    assert [change.setting for change in changed_settings(RECIPE, after)] \
        == ["tuning", "training.packing", "training.save_steps"]
    assert [change.words for change in applied(RECIPE, {"training.max_length": 512, "tuning": "lora"})] \
        == ["training.max_length: 1024 → 512"]
    hostile = RECIPE.model_copy(update={"name": "a\x1b[2J\nb"})
    assert recipe_diff(RECIPE, hostile) == (f"name: {RECIPE.name} → a\\x1b[2J b",)
