"""General fine-tuning (continued pre-training): every token of plain text is learned, through trl's SFTTrainer."""

import torch
from transformers import PreTrainedModel, TrainerCallback
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl import SFTTrainer

from workbench.engine.recipe import Recipe
from workbench.worker.objectives import sft
from workbench.worker.objectives.common import Rows


def build_trainer(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Rows,
                  held_out: Rows | None, device: torch.device, output_dir: str,
                  callbacks: list[TrainerCallback]) -> SFTTrainer:
    """trl's trainer on rows of `text`: there is no assistant, so every token counts."""
    training = recipe.training.model_copy(update={"assistant_only_loss": False})
    return sft.build_trainer(recipe.model_copy(update={"training": training}), model, tokenizer, train, held_out,
                             device, output_dir, callbacks)


EXAMPLE = {"text": "a"}
worst_case_batch = sft.worst_case_batch
