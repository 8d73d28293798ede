"""A reward model, RLHF's first step: one score per answer, higher for the chosen one, through trl's RewardTrainer."""

from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl import RewardConfig, RewardTrainer

from workbench.engine.recipe import Recipe
from workbench.worker.objectives.common import Rows, trl_trainer


def build_trainer(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Rows,
                  held_out: Rows | None, device: torch.device, output_dir: str,
                  callbacks: list[TrainerCallback]) -> RewardTrainer:
    """trl's trainer on rows of `chosen` and `rejected`, whole conversations or texts; the model has one label."""
    settings = {"max_length": recipe.training.max_length,
                "center_rewards_coefficient": recipe.reward.center_rewards_coefficient}
    trainer: RewardTrainer = trl_trainer(RewardTrainer, RewardConfig, settings, recipe, model, tokenizer, train,
                                         held_out, device, output_dir, callbacks)
    return trainer


EXAMPLE = {"chosen": "a", "rejected": "b"}
"""A row that the trainer takes, for a rehearsal's construction."""


def worst_case_batch(recipe: Recipe, trainer: RewardTrainer) -> dict[str, Any]:
    """The largest micro-batch, as the trainer's collator makes it: both answers of full length."""
    ids = [1] * recipe.training.max_length
    rows = [{"chosen_ids": ids, "rejected_ids": ids}] * recipe.training.per_device_train_batch_size
    batch: dict[str, Any] = trainer.data_collator(rows)
    return batch
