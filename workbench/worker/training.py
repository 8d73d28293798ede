"""One training: what its callbacks do, in which order, and how it ended."""

import signal
from contextlib import ExitStack
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PrinterCallback, Trainer, set_seed
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import RunError
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.postmortem import FINISHED, STOPPED, Ending
from workbench.engine.runs.resumable import WAY_OUT, facts, faults, notes
from workbench.worker import adapters, loading, resuming
from workbench.worker.callbacks.control import ControlCallback
from workbench.worker.callbacks.evaluation import EvaluationCallback
from workbench.worker.callbacks.guards import GuardsCallback
from workbench.worker.callbacks.metrics import MetricsCallback
from workbench.worker.callbacks.scores import samples_callback
from workbench.worker.callbacks.stopwatch import Stopwatch
from workbench.worker.checkpoints import CheckpointCallback, make_ready
from workbench.worker.data.packing import refuse_leaking_packs
from workbench.worker.data.templates import choose_template
from workbench.worker.data.training_rows import TrainingRows, training_rows
from workbench.worker.finite import NonFiniteLossError
from workbench.worker.objectives import objective_module
from workbench.worker.probe import ProbeCallback
from workbench.worker.progress import Progress
from workbench.worker.reporter import Reporter
from workbench.worker.stopping import Beginning


def train(run: RunDirectory, beginning: Beginning, reporter: Reporter) -> Ending | None:
    """Train to the end, and say how it ended; None when it paused, which is said in the journal.

    Raises StopRequestedError or PauseRequestedError before the first step, and whatever goes wrong.
    """
    with ExitStack() as stack:
        return _Training(run, beginning, reporter, stack).run()


class _Training:
    def __init__(self, run: RunDirectory, beginning: Beginning, reporter: Reporter, stack: ExitStack) -> None:
        self._run, self._beginning, self._reporter, self._stack = run, beginning, reporter, stack
        self._recipe = recipe = load_recipe(run.recipe)
        self._leave_the_rest_behind()
        self._source = resolve_model(recipe.model)
        adapters.check_artefact(self._source)
        self._tokenizer = self._load_tokenizer()
        stopwatch, self._progress = Stopwatch(), Progress()
        self._samples = samples_callback(recipe, self._tokenizer, reporter, stopwatch)
        self._guards = GuardsCallback(reporter)
        self._probe = ProbeCallback(recipe, self._tokenizer, reporter, stopwatch)
        self._checkpoints = CheckpointCallback(recipe, reporter, stopwatch, self._progress)
        self._evaluation = EvaluationCallback(recipe, reporter, stopwatch, self._checkpoints)
        self._control = ControlCallback(reporter, self._samples.ask, self._checkpoints.ask, self._progress.keep_sums,
                                        self._on_pause)
        self._progress.callbacks = {"evaluation": self._evaluation, "checkpoints": self._checkpoints,
                                    "guards": self._guards}
        # Progress first: the others read what it restores. Then control: a step's commands are carried out by the
        # callbacks after it, at the same step.
        self._callbacks = [self._progress, self._control, MetricsCallback(reporter, stopwatch), self._evaluation,
                           self._probe, self._guards, self._samples, self._checkpoints]
        signal.signal(signal.SIGTERM, lambda *_: self._control.request_stop())

    def run(self) -> Ending | None:
        trainer = self._build_trainer()
        self._control.check_before_training()
        try:
            resuming.train(trainer, self._progress, self._beginning.checkpoint,
                           lambda: self._evaluation.stopped_early)
        except NonFiniteLossError:
            self._checkpoints.set_aside_poisoned()
            raise
        step = trainer.state.global_step
        if self._control.pausing and not self._evaluation.stopped_early:
            self._reporter.paused(step, self._checkpoints.path_of(step))
            return None
        self._reporter.phase("saving the model")
        self._checkpoints.save_final(step)
        return FINISHED if self._evaluation.stopped_early or step >= trainer.state.max_steps else STOPPED

    def _leave_the_rest_behind(self) -> None:
        """Raises RunError when this recipe cannot go on from the checkpoint."""
        checkpoint, step = self._beginning.checkpoint, self._beginning.step
        if checkpoint is not None:
            self._reporter.phase("checking the checkpoint")
            if checkpoint.parent != self._run.checkpoints:
                raise RunError(f"{checkpoint} is no checkpoint of {self._run.id}.")
            if found := faults(self._run, self._recipe, checkpoint):
                raise RunError(f"The run cannot go on from step {step}: {' '.join(found)}", WAY_OUT)
            for note in notes(self._run, self._recipe, checkpoint):
                self._reporter.alert(note, "info", step)
        self._reporter.resumed(step if checkpoint is not None else -1)
        make_ready(self._run, step)

    def _on_pause(self) -> None:
        self._samples.pause()
        self._evaluation.pause()

    def _build_trainer(self) -> Trainer:
        recipe, control, reporter = self._recipe, self._control, self._reporter
        reporter.phase("reading the dataset")
        rows = self._stack.enter_context(training_rows(recipe, self._source, self._run, self._tokenizer, reporter,
                                                       control.check_before_training))
        self._samples.rows = rows.held_out if rows.held_out is not None else rows.train
        control.check_before_training()
        reporter.phase(f"loading {self._source.label}")
        model = self._load_model()
        # Now that its files are on this disk.
        self._checkpoints.facts = facts(recipe, resolve_model(recipe.model), self._run.path)
        control.check_before_training()
        reporter.phase("preparing the rows")
        trainer = self._trainer_of(model, rows)
        self._guards.watch(trainer)
        self._checkpoints.watch(trainer)
        refuse_leaking_packs(trainer)
        # It would print into the log what the journal holds better.
        trainer.remove_callback(PrinterCallback)
        self._progress.trainer = self._probe.trainer = trainer
        if self._beginning.checkpoint is not None:
            self._samples.go_on_from(self._beginning.step)
            self._checkpoints.go_on_from(self._beginning.step)
        return trainer

    def _trainer_of(self, model: PreTrainedModel | PeftModel, rows: TrainingRows) -> Trainer:
        began = adapters.Beginning(model, self._source)
        trainer: Any = objective_module(self._recipe.objective).build_trainer(
            self._recipe, model, self._tokenizer, rows.train, rows.held_out, model.device, str(self._run.path),
            self._callbacks)
        began.restore(trainer)
        return trainer

    def _load_tokenizer(self) -> PreTrainedTokenizerBase:
        tokenizer, own_template = loading.load_tokenizer(self._source)
        template = choose_template(tokenizer, self._recipe.data.chat_template, own=own_template,
                                   model=self._source.name, base_dir=self._run.path)
        if template.name == "plain" and self._recipe.data.chat_template == "auto":
            self._reporter.alert(f"{self._source.name} has no chat template; using the plain one (User: … Assistant: "
                                 "…).", "info")
        return tokenizer

    def _load_model(self) -> PreTrainedModel | PeftModel:
        recipe = self._recipe
        set_seed(recipe.training.seed)  # a reward model's head begins random
        device = loading.pick_device(recipe.hardware.use_cpu)
        base = loading.load_model(self._source, dtype=loading.pick_dtype(recipe.training.dtype, device), device=device,
                                  attn_implementation=recipe.training.attn_implementation,
                                  quantization=recipe.quantization if recipe.tuning == "qlora" else None,
                                  rewards=recipe.objective == "reward")
        return adapters.start_from(base, self._source, recipe)
