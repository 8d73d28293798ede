"""Direct preference optimisation: chosen answers are made likelier than rejected ones, through trl's DPOTrainer."""

from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from workbench.engine.recipe import Recipe
from workbench.worker.objectives.common import Rows, trl_trainer

NEEDS_REFERENCE = True
"""When every weight is trained, a frozen copy of the model stays beside it; adapters are switched off instead."""


def build_trainer(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Rows,
                  held_out: Rows | None, device: torch.device, output_dir: str, callbacks: list[TrainerCallback],
                  reference: PreTrainedModel | None = None) -> DPOTrainer:
    """trl's trainer on rows of `prompt`, `chosen`, `rejected`. Without `reference` trl loads the model once more."""
    own = recipe.rt if recipe.objective == "rt" else recipe.dpo
    settings = {"max_length": recipe.training.max_length, "beta": own.beta, "loss_type": [own.loss_type],
                "label_smoothing": own.label_smoothing}
    trainer: DPOTrainer = trl_trainer(DPOTrainer, DPOConfig, settings, recipe, model, tokenizer, train, held_out,
                                      device, output_dir, callbacks, ref_model=reference)
    return trainer


EXAMPLE = {"prompt": "a", "chosen": "b", "rejected": "c"}
"""A row that the trainer takes, for a rehearsal's construction."""


def worst_case_batch(recipe: Recipe, trainer: DPOTrainer) -> dict[str, Any]:
    """The largest micro-batch, as the trainer's collator makes it: both answers of full length after one token."""
    answer = [1] * (recipe.training.max_length - 1)
    row = {"prompt_ids": [1], "chosen_ids": answer, "rejected_ids": answer}
    batch: dict[str, Any] = trainer.data_collator([row] * recipe.training.per_device_train_batch_size)
    return batch
