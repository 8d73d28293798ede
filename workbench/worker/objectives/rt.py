"""Response tuning: accepted texts against rejected ones without a prompt; DPO's loss with the empty prompt."""

import torch
from transformers import PreTrainedModel, TrainerCallback
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl import DPOTrainer

from workbench.engine.recipe import Recipe
from workbench.worker.objectives import dpo
from workbench.worker.objectives.common import Rows
from workbench.worker.objectives.dpo import NEEDS_REFERENCE

__all__ = ["EXAMPLE", "NEEDS_REFERENCE", "build_trainer", "worst_case_batch"]


def build_trainer(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Rows,
                  held_out: Rows | None, device: torch.device, output_dir: str, callbacks: list[TrainerCallback],
                  reference: PreTrainedModel | None = None) -> DPOTrainer:
    """trl's DPOTrainer on rows of `chosen` and `rejected`, their prompts empty."""
    return dpo.build_trainer(recipe, model, tokenizer, _with_empty_prompts(train),
                             _with_empty_prompts(held_out) if held_out is not None else None, device, output_dir,
                             callbacks, reference)


def _with_empty_prompts(rows: Rows) -> Rows:
    return rows.map(lambda texts: {"prompt": [""] * len(texts["chosen"])}, batched=True)


EXAMPLE = {"chosen": "b", "rejected": "c"}
worst_case_batch = dpo.worst_case_batch
