"""Pipelines through the real command line: stages hand on what they learned, and go on where one failed."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.conftest import RunCommand
from workbench.engine.runs.chain import chain_of
from workbench.engine.runs.store import list_runs

pytestmark = pytest.mark.slow

RECIPE = """\
name: chain
model: tiny-base
tuning: lora
lora: {lora_r: 4, lora_alpha: 8}
training: {max_steps: 3, per_device_train_batch_size: 4, per_device_eval_batch_size: 16, gradient_accumulation_steps: 1,
  gradient_checkpointing: false, learning_rate: 2e-3, warmup_steps: 0, max_length: 96, logging_steps: 1}
hardware: {probe: false}
stages:
  - {name: taught, dataset: {path: glossary, eval_path: glossary-held-out, max_rows: 16}}
  - objective: dpo
    dataset: {path: glossary-pairs, eval_path: glossary-pairs-held-out, max_rows: 16}
    training: {learning_rate: 1e30}
"""


def wait_for_the_end(seconds: float = 200) -> dict[int, str]:
    """The states of the newest runs of the one pipeline, by stage, once all have ended."""
    deadline = time.monotonic() + seconds
    while True:
        first = next(summary for summary in list_runs() if summary.pipeline)
        assert first.pipeline is not None
        summaries = {summary.id: summary for summary in list_runs()}
        states = {number: summaries[run.id].state for number, run in enumerate(chain_of(first.pipeline.id), 1)}
        if all(state in ("finished", "stopped", "failed", "crashed") for state in states.values()):
            return states
        assert time.monotonic() < deadline, states
        time.sleep(0.2)


def evaluated(shown: dict[str, Any]) -> dict[int, float]:
    return dict(shown["metrics"]["eval/loss"])


def test_a_chain_outlives_its_terminal_and_is_mended_at_the_failed_stage(workbench: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "chain.yaml").write_text(RECIPE)
    terminal = subprocess.Popen([sys.executable, "-m", "workbench", "train", str(tmp_path / "chain.yaml")],
                                stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert terminal.stdout is not None
    assert terminal.stdout.readline() == "stage 1 of 2: taught\n"
    terminal.kill()
    terminal.wait()
    waiting = json.loads(workbench("show", "chain-2-dpo", "--json").stdout)
    assert (waiting["state"], waiting["phase"]) == ("waiting", "waiting for stage 1 (taught)")
    early = workbench("resume", "chain-2-dpo")
    assert early.returncode == 1
    assert "has not ended, so there is nothing to resume" in early.stderr

    assert wait_for_the_end() == {1: "finished", 2: "failed"}
    failed = json.loads(workbench("show", "last", "--json").stdout)
    assert failed["cause"] == "nan"

    result = workbench("resume", "last", "--set", "training.learning_rate=1e-3", "--json")
    assert result.returncode == 0, result.stderr
    second = json.loads(result.stdout)
    assert second["state"] == "finished"
    # In place: the stage has the id it had, and forgets where it failed.
    assert (second["id"], second["pipeline"]) == (failed["id"], failed["pipeline"])
    assert (second["cause"], second["explanation"], second["resumed_from"]) == (None, None, 0)
    assert second["recipe"]["training"]["learning_rate"] == 1e-3
    # It begins where the first stage ended, not at the base, nor at the stage that failed: the margin over itself is 0.
    taught = json.loads(workbench("show", "taught", "--json").stdout)
    assert dict(second["metrics"]["eval/rewards/margins"])[0] == 0
    assert evaluated(second)[0] == pytest.approx(math.log(2), abs=1e-6)
    assert second["recipe"]["model"] == str(Path(taught["directory"]) / "model")
    assert load_file(Path(second["directory"]) / "model" / "adapter_model.safetensors").keys() \
        == load_file(Path(taught["directory"]) / "model" / "adapter_model.safetensors").keys()

    listed = [line.split()[0] for line in workbench("runs").stdout.splitlines()[1:]]
    assert listed == [taught["id"], second["id"]]
    done = workbench("resume", "last")
    assert done.returncode == 1
    assert "All 2 stages of chain are finished" in done.stderr


JUDGED = """\
name: judged
model: tiny-base
tuning: lora
lora: {lora_r: 4, lora_alpha: 8}
training: {max_steps: 2, per_device_train_batch_size: 4, per_device_eval_batch_size: 16, gradient_accumulation_steps: 1,
  gradient_checkpointing: false, learning_rate: 2e-3, warmup_steps: 0, max_length: 96, logging_steps: 1}
hardware: {probe: false}
stages:
  - {objective: sft, dataset: {path: glossary, max_rows: 16}}
  - {objective: reward, dataset: {path: glossary-pairs, max_rows: 16}}
  - {objective: rlhf, dataset: {path: glossary, max_rows: 16}, rlhf: {max_completion_length: 8}}
"""


def test_the_last_stage_is_judged_by_the_one_before(workbench: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "judged.yaml").write_text(JUDGED)
    result = workbench("train", str(tmp_path / "judged.yaml"), "--json")
    assert result.returncode == 0, result.stderr
    stages = json.loads(result.stdout)["stages"]
    assert [stage["state"] for stage in stages] == ["finished"] * 3
    taught, judge, judged = (str(Path(stage["directory"]) / "model") for stage in stages)
    assert [stage["recipe"]["model"] for stage in stages] == ["tiny-base", taught, taught]
    assert stages[2]["recipe"]["rlhf"]["reward"] == [judge]
    assert len(stages[2]["metrics"]["train/reward"]) == 2
    # Each result stands by itself: adapters of one shape over the built-in model, the judge's with a head beside it.
    shapes = [{name: value.shape for name, value in load_file(Path(model) / "adapter_model.safetensors").items()}
              for model in (taught, judge, judged)]
    assert shapes[0] == shapes[2] == {name: shape for name, shape in shapes[1].items() if "score" not in name}
    assert any("score" in name for name in shapes[1])
    assert not (Path(judged) / "ref").exists()
    plan = json.loads(workbench("plan", str(Path(stages[2]["directory"]) / "recipe.yaml"), "--json").stdout)
    assert plan["problems"] == [], "a stage's own recipe runs by itself"
