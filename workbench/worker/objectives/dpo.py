"""Direct preference optimisation: chosen answers are made likelier than rejected ones, through trl's DPOTrainer."""

from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, TrainerCallback
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from workbench.engine.recipe import Recipe
from workbench.worker.objectives.common import adapters_to_float32, lora_config, training_arguments

NEEDS_REFERENCE = True
"""When every weight is trained, a frozen copy of the model stays beside it; adapters are switched off instead."""


def build_trainer(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Dataset,
                  held_out: Dataset | None, device: torch.device, output_dir: str, callbacks: list[TrainerCallback],
                  reference: PreTrainedModel | None = None) -> DPOTrainer:
    """trl's trainer on rows of `prompt`, `chosen`, `rejected`. Without `reference` trl loads the model once more."""
    trainer = DPOTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(**training_arguments(recipe, device, output_dir, evaluate=held_out is not None),
                       max_length=recipe.training.max_length),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=lora_config(recipe),
        callbacks=callbacks,
    )
    if recipe.tuning == "qlora":
        adapters_to_float32(trainer.model)
    return trainer


EXAMPLE = {"prompt": "a", "chosen": "b", "rejected": "c"}
"""A row that the trainer takes, for a rehearsal's construction."""


def worst_case_batch(recipe: Recipe, trainer: DPOTrainer) -> dict[str, Any]:
    """The largest micro-batch, as the trainer's collator makes it: both answers of full length after one token."""
    answer = [1] * (recipe.training.max_length - 1)
    row = {"prompt_ids": [1], "chosen_ids": answer, "rejected_ids": answer}
    batch: dict[str, Any] = trainer.data_collator([row] * recipe.training.per_device_train_batch_size)
    return batch
