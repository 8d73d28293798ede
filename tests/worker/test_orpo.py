"""Our ORPO: equal to trl's experimental trainer on pairs, and plain NLL on demonstrations."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer

from workbench.engine.catalog.models import resolve_model
from workbench.engine.recipe import Recipe
from workbench.worker.loading import load_model
from workbench.worker.objectives.orpo import ORPO_ALPHA, OrpoTrainer, build_trainer

PAIRS = [("What is LoRA?", " Small matrices.", " A radio for long range, and more."), ("Say", " yes", " no, never")]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> OrpoTrainer:
    source = resolve_model("tiny-base")
    tokenizer = AutoTokenizer.from_pretrained(source.path)
    model = load_model(source, dtype=torch.float32, device=torch.device("cpu"))
    recipe = Recipe.model_validate({"model": "tiny-base", "dataset": "glossary", "objective": "orpo", "tuning": "full",
                                    "training": {"gradient_checkpointing": False, "max_length": 64}}, strict=False)
    return build_trainer(recipe, model, tokenizer, Dataset.from_list(rows(tokenizer)), None, torch.device("cpu"),
                         str(tmp_path_factory.mktemp("orpo")), [])


def rows(tokenizer: Any) -> list[dict[str, list[int]]]:
    return [{name: tokenizer(text, add_special_tokens=False)["input_ids"]
             for name, text in zip(("prompt_ids", "chosen_ids", "rejected_ids"), pair, strict=True)} for pair in PAIRS]


def loss(trainer: OrpoTrainer, wanted: list[dict[str, list[int]]]) -> torch.Tensor:
    return trainer.compute_loss(trainer.model, trainer.data_collator(wanted))


def as_trl(trainer: OrpoTrainer, tmp_path: Path, wanted: list[dict[str, list[int]]]) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer
    batch = trainer.data_collator(wanted)
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    half = len(wanted)
    theirs: dict[str, torch.Tensor] = {}
    for name, part in (("chosen", slice(0, half)), ("rejected", slice(half, None))):
        theirs |= {f"{name}_input_ids": batch["input_ids"][part], f"{name}_labels": labels[part],
                   f"{name}_attention_mask": batch["attention_mask"][part]}
    other = ORPOTrainer(model=trainer.model, processing_class=trainer.processing_class,
                        args=ORPOConfig(output_dir=str(tmp_path), beta=ORPO_ALPHA, report_to="none", use_cpu=True,
                                        bf16=False),
                        train_dataset=Dataset.from_list([dict(zip(("prompt", "chosen", "rejected"), pair, strict=True))
                                                         for pair in PAIRS]))
    found: torch.Tensor = other.get_batch_loss_metrics(trainer.model, theirs)[0]
    return found


def test_pairs_have_the_loss_of_trls_trainer(trainer: OrpoTrainer, tmp_path: Path) -> None:
    wanted = rows(trainer.processing_class)
    torch.testing.assert_close(loss(trainer, wanted), as_trl(trainer, tmp_path, wanted), atol=1e-5, rtol=1e-5)


def test_a_demonstration_adds_its_likelihood_alone(trainer: OrpoTrainer) -> None:
    row = {**rows(trainer.processing_class)[0], "rejected_ids": None}
    ids = torch.tensor([row["prompt_ids"] + row["chosen_ids"]])
    expected = trainer.model(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(loss(trainer, [row]), expected, atol=1e-5, rtol=1e-5)


def test_pairs_and_demonstrations_mix(trainer: OrpoTrainer) -> None:
    pair, other = rows(trainer.processing_class)
    alone, plain, mixed = (loss(trainer, wanted) for wanted in (
        [pair], [{**pair, "rejected_ids": None}], [{**other, "rejected_ids": None}, pair]))
    without = loss(trainer, [{**other, "rejected_ids": None}, {**pair, "rejected_ids": None}])
    torch.testing.assert_close(mixed - without, (alone - plain) / 2, atol=1e-5, rtol=1e-4)  # a mean over two rows
