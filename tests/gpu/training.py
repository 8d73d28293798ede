"""One case trained for a few steps, or probed where recipes cannot train it yet: what it took, and how fast it was."""

import contextlib
import gc
import json
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    TrainerCallback,
)

from tests.gpu.cases import Case, config_of, from_recipes, recipe_for
from workbench.engine.atomic import write_atomic, write_json
from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import InputError
from workbench.engine.memory.estimate import estimate_memory
from workbench.engine.paths import assets_dir
from workbench.engine.planning import memory_case
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import recipe_to_yaml
from workbench.engine.runs.directory import create_run_directory
from workbench.engine.runs.store import RunFollower
from workbench.worker.loading import load_model, load_tokenizer, pick_dtype
from workbench.worker.probe import STEP, TRAINING, Probe
from workbench.worker.worst_case import WorstCase


def write_model(case: Case, folder: Path, device: torch.device) -> Path:
    """The case's model with random weights and the built-in tokenizer, as a folder. The weights of one model at a time
    are kept, and the configurations of all."""
    path = folder / f"{case.model.rsplit('/', 1)[-1]}-{case.layers or 'whole'}"
    if any(path.glob("*.safetensors")):
        return path
    for old in folder.glob("*/*.safetensors"):
        old.unlink()
    tokenizer, _ = load_tokenizer(resolve_model("tiny-base"))
    config = AutoConfig.for_model(**config_of(case))
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=pick_dtype("auto", device))
    model.generation_config.eos_token_id = config.eos_token_id
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    del model
    free()
    return path


def write_rows(case: Case, folder: Path) -> Path:
    """Conversations that are all longer than the case's length, so that every batch is the worst case."""
    path = folder / f"rows-{case.length}.jsonl"
    if not path.exists():
        words = json.loads((assets_dir() / "glossary.jsonl").read_text().splitlines()[0])
        text = " ".join(str(value) for value in words.values()) + " "
        answer = text * (case.length * 8 // len(text) + 2)
        row = {"messages": [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": answer}]}
        path.write_text("".join(json.dumps(row) + "\n" for _ in range(64)))
    return path


def measure(case: Case, folder: Path, device: torch.device, steps: int = 4, logging_steps: int = 1) -> dict[str, Any]:
    """One row: settings, what was measured, and the estimate. A case that fails gives its sentence as `error`."""
    free()
    row: dict[str, Any] = {"id": case.id, **asdict(case), "device": device.type, "error": None}
    try:
        recipe = recipe_for(case, write_model(case, folder, device), write_rows(case, folder), steps, logging_steps)
        row |= {"model_config": config_of(case), "case": asdict(memory_case(recipe, on_cpu=device.type == "cpu"))}
        row |= {"estimated": estimated(row), "recipe": recipe.model_dump(mode="json")}
        with quietly(folder / "log.txt"):
            row |= by_worker(recipe) if from_recipes(case.objective) else by_builder(recipe, device, folder)
    except Exception as error:  # one case must not end the others
        row["error"] = f"{type(error).__name__}: {str(error)[:300]}"
    free()
    return row


def estimated(row: dict[str, Any]) -> int | None:
    """The closed form's peak in bytes; None where it has no answer."""
    from workbench.engine.memory.case import MemoryCase

    known = {name: value for name, value in row["case"].items() if name in MemoryCase.__dataclass_fields__}
    if isinstance(known.get("target_modules"), list):
        known["target_modules"] = tuple(known["target_modules"])
    try:
        return estimate_memory(architecture_from_config(row["model_config"]), MemoryCase(**known)).peak_bytes
    except InputError:
        return None


def by_worker(recipe: Recipe) -> dict[str, Any]:
    """Through the worker's own entry, in this process: the run directory holds what it measured."""
    from workbench.worker.train import main

    run = create_run_directory(recipe.name)
    write_atomic(run.recipe, recipe_to_yaml(recipe, full=True).encode(), durable=False)
    write_json(run.plan, {"recipe": recipe.model_dump(mode="json")}, durable=False)
    before = signal.getsignal(signal.SIGTERM)
    try:
        code = main(run.id)
    finally:
        signal.signal(signal.SIGTERM, before)
    follower = RunFollower(run)
    follower.refresh()
    state = follower.state
    if code:
        raise RuntimeError(state.explanation or "the worker failed")
    phases = next(event for event in map(json.loads, run.events.read_text().splitlines())
                  if event["type"] == "probed")
    rates = state.metrics["perf/tokens_per_second"].values
    shutil.rmtree(run.path)
    return {"way": "worker", "parameters": state.parameters, "trainable_parameters": state.trainable_parameters,
            **_peaks(phases["by_phase"], phases["rows"], phases["tokens"]), "probe_seconds": phases["seconds"],
            "trained_allocated": state.last("memory/peak_allocated"),
            "trained_reserved": state.last("memory/peak_reserved"), "trained_resident": state.last("memory/resident"),
            "tokens_per_second": median(rates[1:] or rates)}


class _ProbedError(Exception):
    """The probe is done, and so is the case."""


class _ProbeOnly(TrainerCallback):
    """Probes when training is about to begin, and ends it there."""

    def __init__(self, recipe: Recipe, tokenizer: Any, train: WorstCase) -> None:
        self._recipe, self._tokenizer, self._train = recipe, tokenizer, train
        self.trainer: Any = None
        self.probe: Probe | None = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.probe = Probe(self.trainer, self._recipe, self._tokenizer, self._train)
        self.probe.run()
        raise _ProbedError


def by_builder(recipe: Recipe, device: torch.device, folder: Path) -> dict[str, Any]:
    """Through the objective's builder and its worst-case batch, the same that a rehearsal follows on fake tensors."""
    from workbench.worker.objectives import needs_reference, objective_module

    module = objective_module(recipe.objective)
    recipe = recipe.model_copy(update={"samples": recipe.samples.model_copy(update={"prompts": ()})})
    source = resolve_model(recipe.model)
    tokenizer, _ = load_tokenizer(source)
    model = _load(recipe, device)
    extra = {}
    if needs_reference(recipe):
        extra["reference"] = _load(recipe, device)
    rows = Dataset.from_list([module.EXAMPLE] * (4 * recipe.effective_batch_size))
    trainer = module.build_trainer(recipe, model, tokenizer, rows, None, device, str(folder / "trainer"), [], **extra)
    batch = {name: value.to(device) if isinstance(value, torch.Tensor) else value
             for name, value in module.worst_case_batch(recipe, trainer).items()}
    if hasattr(module, "rollout"):
        trainer._prepare_inputs = lambda inputs: inputs  # the batch is what its rollouts would leave
    rows_in_batch = recipe.training.per_device_train_batch_size
    callback = _ProbeOnly(recipe, tokenizer, WorstCase(batch, rows_in_batch, recipe.training.max_length, None))
    callback.trainer = trainer
    trainer.add_callback(callback)
    with contextlib.suppress(_ProbedError):
        trainer.train()
    assert callback.probe is not None
    phases = {name: peak.to_json() for name, peak in callback.probe.meter.phases.items()}
    trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    return {"way": "builder", "trainable_parameters": trained,
            **_peaks(phases, rows_in_batch, recipe.training.max_length)}


def _load(recipe: Recipe, device: torch.device) -> PreTrainedModel:
    source, dtype = resolve_model(recipe.model), pick_dtype("auto", device)
    quantization = recipe.quantization if recipe.tuning == "qlora" else None
    return load_model(source, dtype=dtype, device=device, quantization=quantization,
                      attn_implementation=recipe.training.attn_implementation, rewards=recipe.objective == "reward")


def _peaks(phases: dict[str, dict[str, int]], rows: int, tokens: int) -> dict[str, Any]:
    """The peak of a training step, which the estimate predicts: samples and evaluations have their own phases."""
    steps = [phases[name] for name in (TRAINING, STEP) if name in phases]
    peaks = {kind: max((step[kind] for step in steps if kind in step), default=None)
             for kind in ("allocated", "reserved", "resident")}
    return {**peaks, "by_phase": phases, "probed_rows": rows, "probed_tokens": tokens}


def free() -> None:
    """Drop what earlier cases left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def quietly(log: Path) -> Iterator[None]:
    """What libraries print goes into a file."""
    with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield
        sys.stdout.flush()
