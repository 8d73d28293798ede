"""Supervised fine-tuning: the assistant's tokens are learned from conversations, through trl's SFTTrainer."""

from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from workbench.engine.recipe import Recipe
from workbench.worker.data.assistant import label_answers, marks_answers
from workbench.worker.objectives.common import Rows, trl_trainer


def build_trainer(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Rows,
                  held_out: Rows | None, device: torch.device, output_dir: str,
                  callbacks: list[TrainerCallback]) -> SFTTrainer:
    """trl's trainer on rows of `messages`, or of `text` where no assistant speaks."""
    training = recipe.training
    only_answers = training.assistant_only_loss and "messages" in next(iter(train))
    if only_answers and not marks_answers(tokenizer):
        train = label_answers(train, tokenizer)
        held_out = label_answers(held_out, tokenizer) if held_out is not None else None
        only_answers = False  # the labels say it already
    settings = {"max_length": training.max_length, "packing": training.packing, "assistant_only_loss": only_answers}
    trainer: SFTTrainer = trl_trainer(SFTTrainer, SFTConfig, settings, recipe, model, tokenizer, train, held_out,
                                      device, output_dir, callbacks)
    return trainer


EXAMPLE = {"text": "a"}
"""A row that the trainer takes, for a rehearsal's construction."""


def worst_case_batch(recipe: Recipe, trainer: SFTTrainer) -> dict[str, Any]:
    """The largest micro-batch, as the trainer's collator makes it: rows of full length, every token learned."""
    ids = [1] * recipe.training.max_length
    row = {"input_ids": ids, "labels": ids}
    if recipe.training.packing:
        row["seq_lengths"] = [len(ids) - len(ids) // 2, len(ids) // 2]
    batch: dict[str, Any] = trainer.data_collator([row] * recipe.training.per_device_train_batch_size)
    return batch
