"""A run that was killed and goes on says what one says that nobody interrupted: every figure, bit for bit."""

from pathlib import Path
from typing import Any

import pytest

from tests.forked import make_run, story, work
from workbench.engine.recipe_file import parse_recipe
from workbench.engine.runs.journal import read_tail
from workbench.engine.runs.resumable import newest_resumable

pytestmark = pytest.mark.slow

# Eleven steps of two micro-batches, four in an epoch; logs, saves and evaluations fall on different steps.
RECIPE = """\
name: exact
model: tiny-base
dataset: {path: glossary, eval_path: glossary-held-out, max_rows: 15}
tuning: lora
lora: {lora_r: 4, lora_alpha: 8, lora_dropout: 0.1}
training: {max_steps: 11, per_device_train_batch_size: 2, per_device_eval_batch_size: 16,
  gradient_accumulation_steps: 2, gradient_checkpointing: false, learning_rate: 2e-3, warmup_steps: 2, max_length: 48,
  logging_steps: 3, save_steps: 5, eval_steps: 4}
samples: {every_steps: 3, max_new_tokens: 4, temperature: 1.0, prompts: ["What is LoRA?"]}
hardware: {probe: false}
data: {allow: all}
"""


def both(*overrides: str, die_at: int = 8, again: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The story of a run without, and of one with a death before step `die_at`, and perhaps another one."""
    recipe = parse_recipe(RECIPE, overrides=overrides)
    whole, broken = make_run(recipe), make_run(recipe)
    assert work(whole) == 0, whole.log.read_text()[-3000:]
    for death in (die_at, *([again] if again else [])):
        checkpoint = newest_resumable(broken)
        assert work(broken, checkpoint and f"checkpoints/{checkpoint.name}", die_at=death) == -9
        if (checkpoint := newest_resumable(broken)) is None:
            continue
        # What a supervisor writes when it goes on.
        from workbench.engine.runs.journal import Journal

        with Journal(broken.events) as journal:
            journal.append("restarted", step=int(checkpoint.name[5:]), checkpoint=f"checkpoints/{checkpoint.name}")
    checkpoint = newest_resumable(broken)
    assert checkpoint is not None, broken.log.read_text()[-3000:]
    assert work(broken, f"checkpoints/{checkpoint.name}") == 0, broken.log.read_text()[-3000:]
    assert read_tail(broken.events)[-1]["outcome"] == "finished"
    return story(whole), story(broken)


@pytest.mark.parametrize("overrides", [
    pytest.param((), id="lora-dropout"),
    pytest.param(("tuning=full",), id="full"),
    pytest.param(("tuning=qlora",), id="qlora"),
    pytest.param(("training.packing=true", "dataset.max_rows=80"), id="packing"),
    pytest.param(("training.eval_steps=null", "training.save_steps=4", "hardware.probe=true"), id="end-of-epoch"),
])
def test_supervised(overrides: tuple[str, ...], home: Path) -> None:
    whole, broken = both(*overrides)
    assert whole == broken
