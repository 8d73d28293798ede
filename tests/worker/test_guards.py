"""The guards at run time: each made to speak up by a real trainer that is broken, and silent where all is well."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from transformers import Trainer, TrainerCallback

from workbench.engine.catalog.models import resolve_model
from workbench.engine.recipe import Recipe
from workbench.worker.callbacks.guards import (
    PATIENCE,
    FrozenMovedError,
    GuardsCallback,
    NothingTrainedError,
    trained_tokens,
)
from workbench.worker.loading import load_model, load_tokenizer
from workbench.worker.objectives import objective_module

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
ROWS = {
    "sft": [{"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "Small matrices."}]}
            for question in ("What is LoRA?", "What are adapters?", "Tell me of B.", "And A?")],
    "cpt": [{"text": text} for text in ("Adapters are small.", "Nothing else moves.", "The base stays.", "So it is.")],
    "rlhf": [{"prompt": [{"role": "user", "content": question}]} for question in ("What?", "Why?", "How?", "When?")],
}


class Listener:
    """What the guards say, in place of a run's journal."""

    def __init__(self) -> None:
        self.alerts: list[tuple[int, str]] = []
        self.checks: list[tuple[str, int, int]] = []

    def alert(self, message: str, level: str = "warning", step: int = 0) -> None:
        self.alerts.append((step, message))

    def guarded(self, check: str, *, step: int, tensors: int) -> None:
        self.checks.append((check, step, tensors))


def guarded(tmp_path: Path, objective: str = "sft", tuning: str = "lora", rows: Any = None,
            spoil: Callable[[Trainer], None] = lambda trainer: None, callback: TrainerCallback | None = None,
            settings: dict[str, Any] | None = None, **training: Any) -> Listener:
    """Train for some steps under the guards, after `spoil` has broken the trainer."""
    recipe = Recipe.model_validate({
        "model": "tiny-base", "dataset": "glossary", "objective": objective, "tuning": tuning,
        "lora": {"lora_r": 4}, "rlhf": {"reward": "length:20", "num_generations": 2, "max_completion_length": 4},
        "training": {"max_steps": 3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1,
                     "max_length": 64, "logging_steps": 1, "learning_rate": 1e-3, "gradient_checkpointing": False,
                     **training}, **(settings or {})})
    source = resolve_model("tiny-base")
    tokenizer, _ = load_tokenizer(source)
    model = load_model(source, dtype=getattr(torch, training.get("dtype", "float32")), device=CPU,
                       quantization=recipe.quantization if tuning == "qlora" else None)
    listener = Listener()
    guards = GuardsCallback(listener)  # type: ignore[arg-type]
    trainer = objective_module(objective).build_trainer(
        recipe, model, tokenizer, rows if isinstance(rows, IterableDataset) else
        Dataset.from_list(rows or ROWS[objective]), None, CPU, str(tmp_path),
        [*([callback] if callback else []), guards])
    guards.watch(trainer)
    spoil(trainer)
    trainer.train()
    return listener


@pytest.mark.parametrize("tuning", ["full", "lora", "qlora"])
def test_all_is_well_and_said_once(tuning: str, tmp_path: Path) -> None:
    listener = guarded(tmp_path, tuning=tuning)
    trained, frozen = (38, 0) if tuning == "full" else (56, 38)
    # The first step's rate is zero: warm-up begins there.
    assert listener.checks == [("moved", 2, trained), ("frozen", 3, frozen)]
    assert listener.alerts == []


def test_an_adapter_without_a_gradient_ends_the_run(tmp_path: Path) -> None:
    def detach(trainer: Trainer) -> None:
        layer = trainer.model.base_model.model.model.layers[2].mlp.down_proj
        layer.lora_B["default"].register_forward_hook(lambda module, args, output: output.detach())

    with pytest.raises(NothingTrainedError, match="2 of 56 trained tensors had no gradient in step 2"):
        guarded(tmp_path, spoil=detach)


def test_no_gradient_at_all_ends_the_run(tmp_path: Path) -> None:
    """What reentrant checkpointing under PEFT does, hidden by a term of the loss that has a gradient of its own."""
    def cut_off(trainer: Trainer) -> None:
        own = trainer.compute_loss
        trainer.compute_loss = lambda *a, **k: own(*a, **k).detach() + torch.zeros((), requires_grad=True)

    with pytest.raises(NothingTrainedError, match=r"56 of 56 trained tensors had no gradient in step 2.*lora_A"):
        guarded(tmp_path, spoil=cut_off)


def test_steps_too_small_for_sixteen_bits_are_told(tmp_path: Path) -> None:
    listener = guarded(tmp_path, tuning="full", dtype="bfloat16", learning_rate=2e-5)
    (step, message), = listener.alerts
    assert step == 2
    assert "did not change in step 2: the step is too small for bfloat16" in message
    assert "norm" in message
    with pytest.raises(NothingTrainedError, match="No trained tensor changed in step 2"):
        guarded(tmp_path, tuning="full", dtype="bfloat16", learning_rate=1e-12)


def test_a_part_that_is_never_used_is_explained(tmp_path: Path) -> None:
    def add_expert(trainer: Trainer) -> None:
        trainer.model.model.layers[0].mlp.expert = torch.nn.Linear(4, 4)

    listener = guarded(tmp_path, tuning="full", spoil=add_expert)
    (_, message), = listener.alerts
    assert message.startswith("2 of 40 trained tensors belong to parts of the model that step 2 never used")
    assert "layers.0.mlp.expert.weight" in message


class _Flip(TrainerCallback):
    """Flips one bit of one frozen weight while training."""

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == 2:
            weight = next(p for n, p in model.named_parameters() if "layers.1.mlp.gate_proj.base_layer" in n)
            weight.data.view(-1).view(torch.uint8)[7] ^= 1


@pytest.mark.parametrize("tuning", ["lora", "qlora"])
def test_one_bit_of_a_frozen_weight_ends_the_run(tuning: str, tmp_path: Path) -> None:
    with pytest.raises(FrozenMovedError, match="1 of 38 frozen weight tensors changed"):
        guarded(tmp_path, tuning=tuning, callback=_Flip())


@pytest.mark.parametrize("objective", ["sft", "rlhf"])
def test_an_optimizer_without_parameters_refuses(objective: str, tmp_path: Path) -> None:
    def freeze(trainer: Trainer) -> None:
        trainer.model.requires_grad_(False)

    with pytest.raises(NothingTrainedError, match="no parameters to train"):
        guarded(tmp_path, objective, spoil=freeze)


def test_weights_left_out_of_the_optimizer_are_named(tmp_path: Path) -> None:
    def leave_out(trainer: Trainer) -> None:
        own = list(trainer.model.named_parameters())
        trainer.optimizer = torch.optim.AdamW([p for n, p in own if p.requires_grad and "layers.3" not in n])

    with pytest.raises(NothingTrainedError, match=r"14 of 56 trained tensors are not in the optimizer: .*layers\.3"):
        guarded(tmp_path, spoil=leave_out)


def test_a_batch_without_a_trained_token_is_an_alert(tmp_path: Path) -> None:
    def mask(trainer: Trainer) -> None:
        dataset = trainer.train_dataset
        trainer.train_dataset = dataset.map(lambda row: {"labels": [-100] * len(row["labels"])})

    listener = guarded(tmp_path, spoil=mask)
    assert any("had no trained token: every label is masked" in message for _, message in listener.alerts)
    assert [check for check, *_ in listener.checks] == ["frozen"]


def test_a_model_that_has_collapsed_is_told(tmp_path: Path) -> None:
    def collapse(trainer: Trainer) -> None:
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.register_hook(lambda gradient: gradient * (trainer.state.global_step < 2))

    listener = guarded(tmp_path, max_steps=PATIENCE + 3, spoil=collapse)
    assert [step for step, message in listener.alerts if "the model has collapsed" in message] == [PATIENCE + 2]


def test_answers_that_all_earn_the_same_are_waited_for_and_told(tmp_path: Path) -> None:
    listener = guarded(tmp_path, "rlhf", max_steps=PATIENCE + 2, settings={
        "rlhf": {"reward": "json", "num_generations": 2, "max_completion_length": 2}})
    words = " ".join(message for _, message in listener.alerts)
    assert f"The first {PATIENCE} steps had no gradient at all" in words
    assert "all answers to a prompt earned the same reward" in words


def test_a_short_run_that_learned_nothing_says_so(tmp_path: Path) -> None:
    listener = guarded(tmp_path, "rlhf", settings={
        "rlhf": {"reward": "json", "num_generations": 2, "max_completion_length": 2}})
    assert listener.alerts == [(3, "No step had both a gradient and a learning rate above zero: nothing was learned.")]


def test_tokens_are_counted_as_the_loss_does() -> None:
    assert trained_tokens({"labels": torch.tensor([[5, -100, 7, 8]])}) == 2  # the first has nothing before it
    assert trained_tokens({"completion_mask": torch.tensor([[0, 1, 1], [0, 0, 1]])}) == 3
    assert trained_tokens([{"prompt": "a"}]) is None


def test_a_stream_too_short_for_a_step_is_not_gone_through_for_ever(tmp_path: Path) -> None:
    rows = IterableDataset.from_generator(lambda: iter(ROWS["sft"]))  # two batches
    with pytest.raises(NothingTrainedError, match="a step takes 3 batches of 2, and the stream ends before"):
        guarded(tmp_path, rows=rows, gradient_accumulation_steps=3)
    guarded(tmp_path, rows=rows, gradient_accumulation_steps=2)
