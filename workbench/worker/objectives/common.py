"""What the trainers of all objectives share: the arguments, the adapters, and their number format."""

from typing import Any

import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.recipe import Recipe
from workbench.worker.loading import adapters_in_float32, has_bfloat16

Rows = Dataset | IterableDataset
"""Canonical examples of an objective (workbench.engine.data.examples)."""

_SAME_NAMES = ("num_train_epochs", "max_steps", "per_device_train_batch_size", "per_device_eval_batch_size",
               "gradient_accumulation_steps", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm",
               "optim", "gradient_checkpointing", "logging_steps", "seed")


def training_arguments(recipe: Recipe, device: torch.device, output_dir: str, evaluate: bool) -> dict[str, Any]:
    """Keyword arguments for transformers' TrainingArguments and what derives from it."""
    training = recipe.training
    return {
        **{name: getattr(training, name) for name in _SAME_NAMES},
        "output_dir": output_dir,
        "learning_rate": recipe.learning_rate,
        "eval_on_start": evaluate and training.eval_on_start,
        "eval_strategy": "no" if not evaluate else "steps" if training.eval_steps else "epoch",
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


def trl_trainer(trainer_class: type[Trainer], config_class: type[TrainingArguments], settings: dict[str, Any],
                recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Rows,
                held_out: Rows | None, device: torch.device, output_dir: str, callbacks: list[TrainerCallback],
                **keywords: Any) -> Any:
    """One of trl's trainers as the recipe says; `settings` and `keywords` are what only this trainer takes.

    A model that brings an adapter goes on training that one. Saving, sampling and control are the callbacks' work.
    """
    config = model.config.get_text_config()
    if hasattr(config, "num_local_experts") and not hasattr(config, "num_experts"):
        config.num_experts = config.num_local_experts  # by which trl's loss of the router asks every mixture
    arguments = training_arguments(recipe, device, output_dir, evaluate=held_out is not None)
    trainer = trainer_class(
        model=model,
        args=config_class(**{**arguments, **settings}),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        callbacks=callbacks,
        peft_config=None if isinstance(model, PeftModel) else lora_config(recipe),
        **keywords,
    )
    if recipe.tuning == "qlora":
        adapters_in_float32(trainer.model)
    return trainer


def lora_config(recipe: Recipe) -> LoraConfig | None:
    """peft's configuration of the adapters; None when every weight is trained."""
    if recipe.tuning == "full":
        return None
    lora = recipe.lora
    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    task = "SEQ_CLS" if recipe.objective == "reward" else "CAUSAL_LM"
    return LoraConfig(r=lora.lora_r, lora_alpha=lora.lora_alpha, lora_dropout=lora.lora_dropout,
                      target_modules=targets, use_rslora=lora.use_rslora, task_type=task)
