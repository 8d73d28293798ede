"""Kahneman–Tversky optimisation: answers labelled good or bad, one at a time, through trl's KTOTrainer."""

from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl import KTOConfig, KTOTrainer

from workbench.engine.recipe import Recipe
from workbench.worker.objectives.common import Rows, trl_trainer

IN_ORDER = True
"""trl takes the rows as they come: the KL term is estimated from each batch's neighbours."""
NEEDS_REFERENCE = True
"""When every weight is trained, a frozen copy of the model stays beside it; adapters are switched off instead."""


def build_trainer(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Rows,
                  held_out: Rows | None, device: torch.device, output_dir: str, callbacks: list[TrainerCallback],
                  reference: PreTrainedModel | None = None) -> KTOTrainer:
    """trl's trainer on rows of `prompt`, `completion`, `label`. Without `reference` trl loads the model once more."""
    own = recipe.kto
    settings = {"max_length": recipe.training.max_length, "beta": own.beta, "desirable_weight": own.desirable_weight,
                "undesirable_weight": own.undesirable_weight}
    trainer: KTOTrainer = trl_trainer(KTOTrainer, KTOConfig, settings, recipe, model, tokenizer, train, held_out,
                                      device, output_dir, callbacks, ref_model=reference)
    return trainer


EXAMPLE = {"prompt": "a", "completion": "b", "label": True}
"""A row that the trainer takes, for a rehearsal's construction."""


def worst_case_batch(recipe: Recipe, trainer: KTOTrainer) -> dict[str, Any]:
    """The largest micro-batch, as the trainer's collator makes it: answers of full length after one token, and the
    mismatched ones that estimate the KL term."""
    answer = [1] * (recipe.training.max_length - 1)
    rows = [{"prompt_ids": [1], "completion_ids": answer, "KL_completion_ids": answer, "label": number % 2 == 0}
            for number in range(recipe.training.per_device_train_batch_size)]
    batch: dict[str, Any] = trainer.data_collator(rows)
    return batch
