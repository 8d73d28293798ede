"""Evaluations: their metrics in the journal, the best checkpoint kept, an early stop when nothing gets better."""

import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.engine.errors import InputError
from workbench.engine.evaluation import greater_is_better
from workbench.engine.figures import number
from workbench.engine.recipe import Recipe
from workbench.worker.callbacks.stopwatch import Stopwatch
from workbench.worker.checkpoints import CheckpointCallback
from workbench.worker.reporter import Reporter

_PERPLEXITY_OF = ("sft", "cpt")
"""Objectives whose loss is the mean negative log-likelihood of a token, of which perplexity is the exponential."""


class EvaluationCallback(TrainerCallback):
    """Writes `eval` events and judges them by `metric_for_best_model`. What the model was before training does not
    compete: it is no result."""

    def __init__(self, recipe: Recipe, reporter: Reporter, stopwatch: Stopwatch,
                 checkpoints: CheckpointCallback) -> None:
        self._objective = recipe.objective
        self._settings = recipe.training
        self._reporter = reporter
        self._stopwatch = stopwatch
        self._checkpoints = checkpoints
        self._metrics: dict[str, float] = {}
        self._before: float | None = None
        self._best: tuple[int, float] | None = None
        self._without_better = 0
        self._pausing = False
        self.stopped_early = False

    def remember(self) -> dict[str, Any]:
        """What the evaluations so far were like, for a resumed run."""
        return {"metric": self._settings.metric_for_best_model, "before": self._before, "best": self._best,
                "without_better": self._without_better}

    def recall(self, memory: dict[str, Any]) -> None:
        """Go on with what `remember` gave, unless another metric judges now."""
        if memory["metric"] == self._settings.metric_for_best_model:
            self._before, self._without_better = memory["before"], memory["without_better"]
            self._best = (memory["best"][0], memory["best"][1]) if memory["best"] else None
            patience = self._settings.early_stopping_patience
            self.stopped_early = patience is not None and self._without_better >= patience

    def pause(self) -> None:
        """The end of training will not be its end."""
        self._pausing = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                    **kwargs: Any) -> TrainerControl:
        """The last step is evaluated too: it is rarely one of every `eval_steps`."""
        control.should_evaluate |= args.eval_strategy == "steps" and state.global_step >= state.max_steps
        return control

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
               logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Write an evaluation's metrics, among them what the trainers add to the logs alone."""
        metrics = {f"eval/{key[5:]}": float(value) for key, value in (logs or {}).items() if key.startswith("eval_")}
        if not metrics:
            return
        self._stopwatch.exclude(metrics.get("eval/runtime", 0.0))
        if self._objective in _PERPLEXITY_OF and "eval/loss" in metrics:
            metrics["eval/perplexity"] = perplexity(metrics["eval/loss"])
        self._metrics = metrics
        self._reporter.eval(state.global_step, metrics)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                    **kwargs: Any) -> TrainerControl:
        """Keep the best checkpoint, and stop when patience is at its end. Raises InputError for an unknown metric."""
        name, patience = self._settings.metric_for_best_model, self._settings.early_stopping_patience
        if not self._settings.load_best_model_at_end and patience is None:
            return control
        if name not in self._metrics:
            raise InputError(f"training.metric_for_best_model is {name}, which an evaluation of this run has not.",
                             f"It has: {', '.join(sorted(self._metrics))}.")
        value = self._metrics[name]
        if state.global_step == 0:
            self._before = value
            return control
        if self._is_better(value, self._best[1] if self._best else None):
            self._best, self._without_better = (state.global_step, value), 0
            if self._settings.load_best_model_at_end:
                self._checkpoints.keep_best(state.global_step, value)
                control.should_save = True
        else:
            self._without_better += 1
        if patience is not None and self._without_better >= patience and state.global_step < state.max_steps:
            self._reporter.alert(self._why_stopped(state.global_step), "info", state.global_step)
            self.stopped_early = control.should_training_stop = True
        return control

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                     **kwargs: Any) -> None:
        """Say so when training made nothing better."""
        if self._pausing or self._before is None or self._best is None:
            return
        if not self._is_better(self._best[1], self._before):
            self._reporter.alert(f"{self._settings.metric_for_best_model} was never better than before training "
                                 f"({number(self._before)}): at its best it was {number(self._best[1])}, at step "
                                 f"{self._best[0]}.", "warning", state.global_step)

    def _is_better(self, value: float, than: float | None) -> bool:
        if math.isnan(value) or than is None or math.isnan(than):
            return not math.isnan(value)
        return value > than if greater_is_better(self._settings) else value < than

    def _why_stopped(self, step: int) -> str:
        name = self._settings.metric_for_best_model
        times = "evaluation" if self._without_better == 1 else f"{self._without_better} evaluations"
        if self._best is None:
            return f"Stopped early at step {step}: {name} was no number in the last {times}."
        best_step, best = self._best
        return (f"Stopped early at step {step}: in the last {times} {name} was not better than at step {best_step} "
                f"({number(best)}).")


def perplexity(loss: float) -> float:
    """exp(loss), infinite where a float cannot hold it."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
