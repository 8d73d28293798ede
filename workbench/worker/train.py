"""The training job: from a run directory to a trained model, every ending explained."""

import logging
import signal
import sys
import traceback
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from workbench.engine.catalog.models import ModelSource, resolve_model
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.directory import RunDirectory, find_run
from workbench.engine.runs.inquest import ending_of_exception
from workbench.engine.runs.postmortem import EXIT_UNWRITABLE, FINISHED, STOPPED, Ending
from workbench.worker.reporter import Reporter
from workbench.worker.stopping import StopRequestedError, stop_while_loading

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase


def main(run_id: str) -> int:
    """Train a run. 0 when it finished or was stopped, 1 when it failed; its journal says which and why."""
    run = find_run(run_id)
    reporter = Reporter(run)
    reporter.started()
    signal.signal(signal.SIGTERM, stop_while_loading)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        with ExitStack() as stack:
            ending = _train(run, reporter, stack)
    except StopRequestedError:
        ending = STOPPED
    except Exception as error:  # the journal must say how every run ended
        with suppress(OSError):  # the log is on the disk that may be full
            traceback.print_exc()
        ending = ending_of_exception(run, error)
    try:
        reporter.ended(ending)
    except OSError:
        return EXIT_UNWRITABLE  # the supervisor has a reserve, and says it
    return 1 if ending.outcome == "failed" else 0


def _train(run: RunDirectory, reporter: Reporter, stack: ExitStack) -> Ending:
    reporter.phase("loading libraries")
    # Here, not above: these take seconds, and the run is on screen meanwhile.
    from transformers import PrinterCallback

    from workbench.worker import adapters
    from workbench.worker.callbacks.control import ControlCallback
    from workbench.worker.callbacks.evaluation import EvaluationCallback
    from workbench.worker.callbacks.guards import GuardsCallback
    from workbench.worker.callbacks.metrics import MetricsCallback
    from workbench.worker.callbacks.scores import samples_callback
    from workbench.worker.callbacks.stopwatch import Stopwatch
    from workbench.worker.checkpoints import CheckpointCallback
    from workbench.worker.data.packing import refuse_leaking_packs
    from workbench.worker.data.training_rows import training_rows
    from workbench.worker.objectives import objective_module
    from workbench.worker.probe import ProbeCallback

    recipe = load_recipe(run.recipe)
    source = resolve_model(recipe.model)
    adapters.check_artefact(source)
    tokenizer = _load_tokenizer(recipe, source, run, reporter)
    stopwatch = Stopwatch()
    samples = samples_callback(recipe, tokenizer, reporter, stopwatch)
    guards = GuardsCallback(reporter)
    probe = ProbeCallback(recipe, tokenizer, reporter, stopwatch)
    checkpoints = CheckpointCallback(recipe, reporter, stopwatch)
    evaluation = EvaluationCallback(recipe, reporter, stopwatch, checkpoints)
    control = ControlCallback(reporter, sample=samples.ask, save=checkpoints.ask)
    signal.signal(signal.SIGTERM, lambda *_: control.request_stop())

    reporter.phase("reading the dataset")
    rows = stack.enter_context(training_rows(recipe, source, run, tokenizer, reporter, control.check_before_training))
    samples.rows = rows.held_out if rows.held_out is not None else rows.train
    control.check_before_training()
    reporter.phase(f"loading {source.label}")
    model = _load_model(recipe, source)
    beginning = adapters.Beginning(model, source)
    control.check_before_training()
    reporter.phase("preparing the rows")
    # Control first: a step's commands are carried out by the callbacks after it, at the same step.
    trainer = objective_module(recipe.objective).build_trainer(
        recipe, model, tokenizer, rows.train, rows.held_out, model.device, str(run.path),
        [control, MetricsCallback(reporter, stopwatch), evaluation, probe, guards, samples, checkpoints])
    beginning.restore(trainer)
    guards.watch(trainer)
    refuse_leaking_packs(trainer)
    # It would print into the log what the journal holds better.
    trainer.remove_callback(PrinterCallback)
    checkpoints.trainer = probe.trainer = trainer
    control.check_before_training()
    trainer.train()
    reporter.phase("saving the model")
    checkpoints.save_final(trainer.state.global_step)
    return FINISHED if evaluation.stopped_early or trainer.state.global_step >= trainer.state.max_steps else STOPPED


def _load_tokenizer(recipe: Recipe, source: ModelSource, run: RunDirectory,
                    reporter: Reporter) -> "PreTrainedTokenizerBase":
    from workbench.worker.data.templates import choose_template
    from workbench.worker.loading import load_tokenizer

    tokenizer, own_template = load_tokenizer(source)
    template = choose_template(tokenizer, recipe.data.chat_template, own=own_template, model=source.name,
                               base_dir=run.path)
    if template.name == "plain" and recipe.data.chat_template == "auto":
        reporter.alert(f"{source.name} has no chat template; using the plain one (User: … Assistant: …).", "info")
    return tokenizer


def _load_model(recipe: Recipe, source: ModelSource) -> "PreTrainedModel | PeftModel":
    from transformers import set_seed

    from workbench.worker import adapters, loading

    set_seed(recipe.training.seed)  # a reward model's head begins random
    device = loading.pick_device(recipe.hardware.use_cpu)
    base = loading.load_model(source, dtype=loading.pick_dtype(recipe.training.dtype, device), device=device,
                              attn_implementation=recipe.training.attn_implementation,
                              quantization=recipe.quantization if recipe.tuning == "qlora" else None,
                              rewards=recipe.objective == "reward")
    return adapters.start_from(base, source, recipe)
