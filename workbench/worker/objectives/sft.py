"""Supervised fine-tuning: the assistant's tokens are learned from conversations, through trl's SFTTrainer."""

from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import PreTrainedModel, TrainerCallback
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from workbench.engine.recipe import LoraSettings, Recipe
from workbench.worker.loading import has_bfloat16


def build_trainer(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Dataset,
                  held_out: Dataset | None, device: torch.device, output_dir: str,
                  callbacks: list[TrainerCallback]) -> SFTTrainer:
    """trl's trainer, set up as the recipe says. Saving, sampling and control are the callbacks' work."""
    return SFTTrainer(
        model=model,
        args=SFTConfig(output_dir=output_dir, **_arguments(recipe, device, evaluate=held_out is not None)),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=None if recipe.tuning == "full" else lora_config(recipe.lora),
        callbacks=callbacks,
    )


def lora_config(lora: LoraSettings) -> LoraConfig:
    """peft's configuration of the adapters."""
    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    return LoraConfig(r=lora.lora_r, lora_alpha=lora.lora_alpha, lora_dropout=lora.lora_dropout,
                      target_modules=targets, use_rslora=lora.use_rslora, task_type="CAUSAL_LM")


def _arguments(recipe: Recipe, device: torch.device, evaluate: bool) -> dict[str, Any]:
    training = recipe.training
    same_names = ("num_train_epochs", "max_steps", "per_device_train_batch_size", "per_device_eval_batch_size",
                  "gradient_accumulation_steps", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm",
                  "optim", "max_length", "packing", "gradient_checkpointing", "assistant_only_loss", "logging_steps",
                  "seed")
    eval_strategy = "no" if not evaluate else "steps" if training.eval_steps else "epoch"
    return {
        **{name: getattr(training, name) for name in same_names},
        "learning_rate": recipe.learning_rate,
        "eval_strategy": eval_strategy,
        "eval_steps": training.eval_steps,
        "bf16": has_bfloat16(device) if training.bf16 is None else training.bf16,
        "use_cpu": device.type == "cpu",
        # Reentrant checkpointing under PEFT trains nothing, without a word.
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        # On by default, it logs a NaN loss as 0.0.
        "logging_nan_inf_filter": False,
        "logging_first_step": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
