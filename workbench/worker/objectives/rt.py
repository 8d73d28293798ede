"""Response tuning: accepted texts against rejected ones without a prompt; DPO's loss with the empty prompt."""

import torch
from datasets import Dataset
from transformers import PreTrainedModel, TrainerCallback
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl import DPOTrainer

from workbench.engine.recipe import Recipe
from workbench.worker.objectives import dpo
from workbench.worker.objectives.dpo import NEEDS_REFERENCE

__all__ = ["EXAMPLE", "NEEDS_REFERENCE", "build_trainer", "worst_case_batch"]


def build_trainer(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Dataset,
                  held_out: Dataset | None, device: torch.device, output_dir: str, callbacks: list[TrainerCallback],
                  reference: PreTrainedModel | None = None) -> DPOTrainer:
    """trl's DPOTrainer on rows of `chosen` and `rejected`, their prompts empty."""
    return dpo.build_trainer(recipe, model, tokenizer, _with_empty_prompts(train),
                             _with_empty_prompts(held_out) if held_out is not None else None, device, output_dir,
                             callbacks, reference)


def _with_empty_prompts(rows: Dataset) -> Dataset:
    return rows.add_column("prompt", [""] * len(rows))


EXAMPLE = {"chosen": "b", "rejected": "c"}
worst_case_batch = dpo.worst_case_batch
