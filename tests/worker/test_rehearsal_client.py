"""The rehearsal as the application and the command line see it: one process, progress, a result or a sentence."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workbench.engine import rehearsal
from workbench.engine.errors import InputError, RunError
from workbench.engine.recipe import Recipe

RECIPE = "model: tiny-base\ndataset: glossary\ntraining: {max_length: 64}\n"


def recipe(model: str = "tiny-base", **training: object) -> Recipe:
    return Recipe.model_validate({"model": model, "dataset": "not-there.jsonl", "training": training}, strict=False)


@pytest.mark.slow
def test_a_rehearsal_tells_its_progress_and_result() -> None:
    heard: list[tuple[str, float]] = []
    found = rehearsal.rehearse(recipe(max_length=64), None, lambda words, share: heard.append((words, share)))
    assert found.depths_traced == (4,)
    assert found.static_bytes < found.peak_bytes == sum(found.components.values())
    assert 0 < found.trainable_parameters < found.parameters
    shares = [share for _, share in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert "training on all 4 layers" in [words for words, _ in heard]


def test_a_cancelled_rehearsal_ends_its_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    monkeypatch.setattr(rehearsal, "REHEARSE", (sys.executable, "-c", code))
    began = time.monotonic()
    with pytest.raises(rehearsal.RehearsalCancelled):
        rehearsal.rehearse(recipe(), None, cancelled=lambda: pid.exists() and pid.read_text() != "")
    assert time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_worker_that_dies_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "REHEARSE", (sys.executable, "-c", "raise SystemExit('no torch here')"))
    with pytest.raises(RunError, match=r"ended with exit code 1: no torch here\.$"):
        rehearsal.rehearse(recipe(), None)


def test_a_model_whose_config_is_not_here() -> None:
    with pytest.raises(InputError, match="neither on this disk nor in the catalogue"):
        rehearsal.rehearse(recipe("somebody/a-model-of-theirs"), None)


@pytest.mark.slow
def test_the_command_prints_estimate_and_rehearsal(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    done = subprocess.run([sys.executable, "-m", "workbench", "rehearse", str(path), "--json", "--set",
                           "objective=dpo"], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert document["depths_traced"] == [4]
    assert document["difference"] == pytest.approx(document["estimate_bytes"] / document["peak_bytes"] - 1)
    assert {"seconds", "peak_moment", "components", "parameters"} <= set(document)


@pytest.mark.slow
def test_what_a_trainer_refuses_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE + "objective: kto\n")
    done = subprocess.run([sys.executable, "-m", "workbench", "rehearse", str(path), "--set",
                           "training.per_device_train_batch_size=1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: The trainer refuses this recipe: Actual (not effective) batch size must be")
    assert "Traceback" not in done.stderr
