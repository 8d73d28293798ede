"""A run that was killed and goes on says what one says that nobody interrupted: every figure, bit for bit."""

from pathlib import Path
from typing import Any

import pytest

from tests.forked import go_on, make_run, small_model, story, work
from workbench.engine.recipe_file import parse_recipe
from workbench.engine.runs.journal import read_tail

pytestmark = pytest.mark.slow

# Eleven steps of two micro-batches, four in an epoch; logs, saves and evaluations fall on different steps. Death comes
# before step 9, so that two steps after the checkpoint, one of them logged, are done again.
RECIPE = """\
name: exact
model: {model}
dataset: {{path: glossary, eval_fraction: 0.3, max_rows: 22}}
tuning: lora
lora: {{lora_r: 4, lora_alpha: 8, lora_dropout: 0.1}}
training: {{max_steps: 11, per_device_train_batch_size: 2, per_device_eval_batch_size: 16,
  gradient_accumulation_steps: 2, gradient_checkpointing: false, learning_rate: 1e-2, warmup_steps: 2, max_length: 48,
  logging_steps: 3, save_steps: 5, eval_steps: 4}}
samples: {{every_steps: 3, max_new_tokens: 4, temperature: 1.0, prompts: ["What is LoRA?"]}}
hardware: {{probe: false}}
data: {{allow: all}}
"""
PAIRS = "dataset.path=glossary-pairs"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small") / "model")


def both(model: Path, *overrides: str, die_at: int = 9) -> tuple[dict[str, Any], dict[str, Any]]:
    """The story of a run without, and of one with a death before step `die_at`."""
    recipe = parse_recipe(RECIPE.format(model=model), overrides=overrides)
    whole, broken = make_run(recipe), make_run(recipe)
    assert work(whole) == 0, whole.log.read_text()[-3000:]
    assert work(broken, at=(die_at, "SIGKILL")) == -9, broken.log.read_text()[-3000:]
    assert work(broken, go_on(broken)) == 0, broken.log.read_text()[-3000:]
    assert read_tail(broken.events)[-1]["outcome"] == "finished"
    return story(whole), story(broken)


STREAM = ("dataset.streaming=true", "dataset.eval_fraction=0", "dataset.eval_path=glossary-held-out")
RLHF = ("objective=rlhf", "rlhf.reward=length:5", "rlhf.num_generations=2", "rlhf.max_completion_length=6")


@pytest.mark.parametrize("overrides", [
    pytest.param((), id="lora"),
    pytest.param(("tuning=full", "training.dtype=bfloat16"), id="full"),
    pytest.param(("tuning=qlora",), id="qlora"),
    pytest.param(("training.packing=true", "dataset.max_rows=80"), id="packing"),
    pytest.param(("training.eval_steps=null", "training.save_steps=4", "hardware.probe=true"), id="end-of-epoch"),
    pytest.param((*STREAM, "dataset.max_rows=15"), id="stream-in-its-second-pass"),
    pytest.param(("objective=dpo", PAIRS, "tuning=full"), id="dpo"),
    pytest.param(("objective=orpo", PAIRS), id="orpo"),
    pytest.param(("objective=kto", PAIRS), id="kto"),
    pytest.param(("objective=reward", PAIRS), id="reward"),
    pytest.param((*RLHF, "dataset.max_rows=10", "rlhf.beta=0.1"), id="rlhf-in-its-third-epoch"),
])
def test_what_happened_is_the_same(overrides: tuple[str, ...], model: Path, home: Path) -> None:
    whole, broken = both(model, *overrides)
    assert len(whole["metrics"]["train/loss"]) >= 4
    assert len(whole["metrics"]["eval/loss"]) >= 3
    assert len({step for step, _, _ in whole["samples"]}) == 5
    assert whole == broken


def test_the_patience_and_the_best_checkpoint_are_remembered(model: Path, home: Path) -> None:
    early = ("training.early_stopping_patience=3", "training.load_best_model_at_end=true", "training.eval_steps=1",
             "training.learning_rate=0.05", "training.warmup_steps=0", "training.max_steps=20", "training.save_steps=4",
             "training.save_total_limit=1")
    whole, broken = both(model, *early)
    assert whole == broken
    assert max(whole["metrics"]["eval/loss"]) == 9, "the evaluations of steps 7 and 8 were before the death"
