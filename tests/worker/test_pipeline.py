"""Pipelines through the real command line: stages hand on what they learned, and go on where one failed."""

import json
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
dataset: {path: glossary, eval_path: glossary-held-out, max_rows: 16}
training: {max_steps: 3, per_device_train_batch_size: 4, per_device_eval_batch_size: 16, gradient_accumulation_steps: 1,
  gradient_checkpointing: false, learning_rate: 2e-3, warmup_steps: 0, max_length: 96, logging_steps: 1}
hardware: {probe: false}
stages:
  - name: taught
  - training: {learning_rate: 1e30}
"""


def wait_for_the_end(seconds: float = 120) -> dict[int, str]:
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
    waiting = json.loads(workbench("show", "chain-2-sft", "--json").stdout)
    assert (waiting["state"], waiting["phase"]) == ("waiting", "waiting for stage 1 (taught)")
    early = workbench("resume", "chain-2-sft")
    assert early.returncode == 1
    assert "has not ended, so there is nothing to resume" in early.stderr

    assert wait_for_the_end() == {1: "finished", 2: "failed"}
    failed = json.loads(workbench("show", "last", "--json").stdout)
    assert failed["cause"] == "nan"

    result = workbench("resume", "last", "--set", "training.learning_rate=1e-3", "--json")
    assert result.returncode == 0, result.stderr
    second = json.loads(result.stdout)
    assert second["state"] == "finished"
    assert second["id"] != failed["id"]
    assert second["pipeline"] == failed["pipeline"]
    # It begins where the last stage that finished ended, not at the base, nor at the stage that failed.
    taught = json.loads(workbench("show", "taught", "--json").stdout)
    assert evaluated(second)[0] == pytest.approx(evaluated(taught)[3], abs=1e-6)
    assert second["recipe"]["model"] == str(Path(taught["directory"]) / "model")
    assert load_file(Path(second["directory"]) / "model" / "adapter_model.safetensors").keys() \
        == load_file(Path(taught["directory"]) / "model" / "adapter_model.safetensors").keys()

    listed = [line.split()[0] for line in workbench("runs").stdout.splitlines()[1:]]
    assert listed == [taught["id"], failed["id"], second["id"]]
    done = workbench("resume", "last")
    assert done.returncode == 1
    assert "All 2 stages of chain are finished" in done.stderr
