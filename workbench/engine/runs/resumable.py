"""Whether a run can go on from a checkpoint: what of its recipe, data and model must be as they were, and what may not.

A run is one training: the same losses, whoever interrupts it. What would make it another one is refused, with the
setting that did it; what is chosen after a failure or to train longer is let pass, and said.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash

from workbench.engine.catalog.models import ModelSource, resolve_model
from workbench.engine.data.facts import content_fingerprint, hash_content
from workbench.engine.errors import InputError
from workbench.engine.objective_checks import reward_references
from workbench.engine.recipe import Recipe
from workbench.engine.rewards import reward_source
from workbench.engine.runs.artefacts import step_of
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.launcher import library_versions
from workbench.engine.runs.manifest import MANIFEST, digest_json, verify
from workbench.engine.runs.store import read_json

TRAINING_STATE = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "progress.json")
"""What a checkpoint holds besides the weights; without one of them training would go on wrongly, and not say so."""
WAY_OUT = "Train it as a run of its own: workbench train …"

_FREE = ("name", "hardware", "on_failure", "samples", "stages", "data.allow", "data.max_rejected_rows",
         "lora.lora_dropout", *(f"training.{name}" for name in (
             "logging_steps", "save_steps", "save_total_limit", "eval_steps", "eval_on_start",
             "early_stopping_patience", "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
             "per_device_eval_batch_size", "gradient_checkpointing", "attn_implementation", "learning_rate",
             "warmup_steps", "max_grad_norm", "num_train_epochs", "max_steps")))
"""Settings, and sections of them, that leave it the same run, or are wanted after a failure or to train longer."""
_OBJECTIVES = ("dpo", "rt", "orpo", "kto", "reward", "rlhf")
_BATCH = ("training.per_device_train_batch_size", "training.gradient_accumulation_steps")


def facts(recipe: Recipe, model: ModelSource, base_dir: Path | None) -> dict[str, Any]:
    """What a checkpoint's manifest says of the run it belongs to: its recipe whole, its data, model and libraries.

    Raises DataError, and OSError for files that cannot be read.
    """
    settings = recipe.model_dump(mode="json")
    return {"recipe": digest_json(settings), "settings": settings, "model": model_identity(model),
            "dataset_fingerprint": content_fingerprint(recipe, base_dir), "versions": library_versions()}


def faults(run: RunDirectory, recipe: Recipe, checkpoint: Path) -> tuple[str, ...]:
    """Sentences that say why the run cannot go on from a checkpoint of its own with this recipe; none when it can.

    Reads every file of the checkpoint, and some of the data and the model.
    """
    return tuple(damage(checkpoint)) or unlike(run, recipe, checkpoint)


def unlike(run: RunDirectory, recipe: Recipe, checkpoint: Path) -> tuple[str, ...]:
    """As `faults`, of a checkpoint that was found whole just now: of a large model that takes minutes."""
    manifest = read_json(checkpoint / MANIFEST)
    return (*_of_settings(manifest["settings"], recipe, step_of(checkpoint) or 0),
            *_of_content(manifest, run, recipe), *_of_versions(manifest.get("versions")))


def notes(run: RunDirectory, recipe: Recipe, checkpoint: Path) -> tuple[str, ...]:
    """Sentences that say where a run that can go on may not give what an uninterrupted one would have given."""
    before = read_json(checkpoint / MANIFEST).get("versions") or {}
    newer = [f"{name} {before[name]} → {now}" for name, now in library_versions().items()
             if name in before and before[name] != now]
    found = []
    if newer:
        found.append(f"Other versions than before: {', '.join(newer)}. Figures may differ in their last digits.")
    if recipe.objective == "rlhf" and any(reward_source(reward, run.path).kind == "function"
                                          for reward in reward_references(recipe)):
        found.append("A reward function of your own is loaded anew: what it remembered from call to call is gone.")
    return tuple(found)


def differences(before: Mapping[str, Any], after: Mapping[str, Any], section: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys with other values: (before, after). A key that one of them lacks is None there."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted({*before, *after}):
        one, other = before.get(key), after.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found |= differences(one, other, f"{section}{key}.")
        elif one != other:
            found[f"{section}{key}"] = (one, other)
    return found


def damage(checkpoint: Path) -> Iterator[str]:
    """Why a checkpoint cannot be read at all, in a sentence; nothing where it can. Reads every file of it."""
    if not checkpoint.is_dir():
        yield f"There is no checkpoint {checkpoint.name}."
        return
    manifest = read_json(checkpoint / MANIFEST)
    files = manifest.get("files")
    missing = [name for name in TRAINING_STATE if name not in files] if isinstance(files, dict) else []
    if missing or (isinstance(files, dict) and not isinstance(manifest.get("settings"), dict)):
        yield (f"The checkpoint {checkpoint.name} was written by an earlier version of the workbench, which did not "
               "keep all that going on takes.")
    elif (fault := verify(checkpoint)) is not None:
        yield f"The checkpoint {checkpoint.name} is not loaded: {fault}."


def _of_settings(before: Mapping[str, Any], recipe: Recipe, step: int) -> Iterator[str]:
    changed = differences(_without_places(before), _without_places(recipe.model_dump(mode="json")))
    if any(name in changed for name in _BATCH):
        rows = before["training"]["per_device_train_batch_size"] * before["training"]["gradient_accumulation_steps"]
        if rows != recipe.effective_batch_size:
            yield (f"A step took {rows} rows (per_device_train_batch_size × gradient_accumulation_steps), and would "
                   f"take {recipe.effective_batch_size}.")
        elif recipe.objective == "kto":
            yield ("KTO estimates its KL term within a micro-batch, so with another per_device_train_batch_size it "
                   "would be another training.")
    # One of the last step is gone on from: its worker may have died over saving the result.
    if 0 < recipe.training.max_steps < step:
        yield f"training.max_steps is {recipe.training.max_steps}, and the checkpoint is of step {step}."
    for name, (was, now) in changed.items():
        if not _is_free(name, recipe):
            yield f"{name} was {_words(was)}, and is {_words(now)} now."


def _is_free(name: str, recipe: Recipe) -> bool:
    section = name.partition(".")[0]
    if section in _OBJECTIVES:
        return section != recipe.objective
    if section == "quantization":
        return recipe.tuning != "qlora"
    if section == "lora" and recipe.tuning == "full":
        return True
    if name == "training.max_length":
        return not recipe.training.packing  # whether it leaves the same rows is seen when they are prepared
    return name in _BATCH or any(name == free or name.startswith(f"{free}.") for free in _FREE)


def _without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without where model and data lie, which may change: what they hold is looked at."""
    parts = settings["dataset"]["path"]
    mixed = [{**part, "path": None} for part in parts] if isinstance(parts, list) else None
    return {**settings, "model": None, "dataset": {**settings["dataset"], "path": mixed}}


def _of_content(manifest: Mapping[str, Any], run: RunDirectory, recipe: Recipe) -> Iterator[str]:
    before = manifest["settings"]
    try:
        model = model_identity(resolve_model(recipe.model, run.path))
        fingerprint = content_fingerprint(recipe, run.path)
    except InputError as error:
        yield error.message
        return
    except OSError as error:
        yield f"{error.filename} cannot be read: {error.strerror}."
        return
    known = manifest.get("dataset_fingerprint")
    if known is None or fingerprint is None:
        if known != fingerprint or before["dataset"]["path"] != recipe.model_dump(mode="json")["dataset"]["path"]:
            yield f"The dataset was {_words(before['dataset']['path'])}, and is {recipe.dataset.label} now."
    elif known != fingerprint:
        yield f"The rows of {recipe.dataset.label} are other ones than before."
    then = manifest.get("model")
    if then is None or model is None:
        if before["model"] != recipe.model:
            yield f"The model was {before['model']}, and is {recipe.model} now."
    elif then != model:
        yield f"The weights of {recipe.model} are other ones than before."


def _of_versions(before: Any) -> Iterator[str]:
    for name, now in library_versions().items():
        was = before.get(name) if isinstance(before, dict) else None
        if was and now and _major(was) != _major(now):
            yield f"It was trained with {name} {was}, and {now} is installed."


def _major(version: str) -> str:
    return str(version).partition(".")[0]


def model_identity(source: ModelSource) -> dict[str, str] | None:
    """What tells a model from every other: its configuration and its weights, as digests. None for one that is not on
    this disk. Raises OSError."""
    if source.path is None:
        return None
    weights = xxhash.xxh3_128()
    for folder in (source.path, source.adapter):
        for path in sorted(folder.glob("*.safetensors")) if folder is not None else ():
            size = path.stat().st_size
            weights.update(f"{path.name} {size}".encode())
            hash_content(weights, path, size)
    return {"config": digest_json(source.config), "weights": weights.hexdigest()}


def _words(value: object) -> str:
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
