"""Every logged number, under its full name, in the journal; a loss that is no number ends the run."""

import math
from typing import Any

import psutil
import torch
from peft import PeftModel
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.worker.callbacks.stopwatch import Stopwatch
from workbench.worker.finite import NonFiniteLossError
from workbench.worker.loading import device_name
from workbench.worker.reporter import Reporter


class MetricsCallback(TrainerCallback):
    """Turns the trainer's logs of its steps into `step` events."""

    def __init__(self, reporter: Reporter, stopwatch: Stopwatch) -> None:
        self._reporter = reporter
        self._stopwatch = stopwatch
        self._tokens: float | None = None
        self._since = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                       model: PreTrainedModel | None = None, **kwargs: Any) -> None:
        """Say what was loaded, and start counting tokens a second."""
        assert model is not None
        parameters, trainable = count_parameters(model)
        self._reporter.loaded(parameters=parameters, trainable_parameters=trainable, total_steps=state.max_steps,
                              device=str(model.device), dtype=str(model.dtype).removeprefix("torch."),
                              device_name=device_name(model.device))
        self._reporter.phase(f"going on from step {state.global_step}" if state.global_step else "first step")
        self._since = self._stopwatch.seconds
        # A resumed run knows how many tokens there were at its first log, not in how long a time.
        self._tokens = 0.0 if state.global_step == 0 else None

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
               logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Write what was logged. Raises NonFiniteLossError after writing it."""
        if logs and "loss" in logs:
            metrics = {f"train/{key}": float(value) for key, value in logs.items()
                       if key not in ("epoch", "num_tokens") and isinstance(value, int | float)}
            metrics |= self._throughput(logs.get("num_tokens")) | _memory()
            self._reporter.step(state.global_step, state.epoch, state.max_steps, metrics)
            _stop_when_not_finite(state.global_step, metrics)

    def _throughput(self, num_tokens: float | None) -> dict[str, float]:
        if num_tokens is None:
            return {}
        now, metrics = self._stopwatch.seconds, {"train/num_tokens": num_tokens}
        if self._tokens is not None:
            metrics["perf/tokens_per_second"] = (num_tokens - self._tokens) / max(now - self._since, 1e-9)
        self._tokens, self._since = num_tokens, now
        return metrics


def count_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """(parameters of the base, trainable parameters); 4-bit weights count as what they stand for."""
    if isinstance(model, PeftModel):
        trainable, everything = model.get_nb_trainable_parameters()
        return everything - trainable, trainable
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters, parameters


def _memory() -> dict[str, float]:
    if torch.cuda.is_available():
        return {"memory/peak_allocated": float(torch.cuda.max_memory_allocated()),
                "memory/peak_reserved": float(torch.cuda.max_memory_reserved())}
    return {"memory/resident": float(psutil.Process().memory_info().rss)}


def _stop_when_not_finite(step: int, metrics: dict[str, float]) -> None:
    for name in ("train/loss", "train/grad_norm"):
        value = metrics.get(name, 0.0)
        if not math.isfinite(value):
            raise NonFiniteLossError(f"{name} became {value} at step {step}.")
