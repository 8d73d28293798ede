"""What was trained, as something to start from: adapters over their base, fully trained models, runs by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import ModelSource, cached_snapshot, find_model, read_config, resolve_model
from workbench.engine.errors import InputError
from workbench.engine.recipe import LoraSettings, Recipe
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.artefacts import ADAPTER_CONFIG, named_artefact, names_part_of_a_run, result_of, run_of
from workbench.engine.runs.directory import RunDirectory, find_run
from workbench.engine.runs.store import read_json

_DEEPEST = 50  # an adapter on a model on an adapter …: further down, folders name each other in a circle


def trained_model(reference: str, base_dir: Path | None = None, depth: int = 0) -> ModelSource | None:
    """What a run, RUN:step, or an adapter in a folder or in the Hub's cache stands for; None for any other word.

    Raises InputError.
    """
    directory = _folder(reference, base_dir)
    if directory is None:
        directory = named_artefact(reference) or cached_snapshot(reference, ADAPTER_CONFIG)
    return None if directory is None else source_of(directory, depth)


def part_of_a_run(reference: str) -> ModelSource | None:
    """The result of the run whose id contains the word, if there is one. Raises InputError for several."""
    return source_of(result_of(find_run(reference))) if names_part_of_a_run(reference) else None


def source_of(directory: Path, depth: int = 0) -> ModelSource:
    """A run's model or checkpoint, or a foreign adapter, as a source. Raises InputError."""
    run = run_of(directory)
    if run is not None and directory == run.path:
        directory = result_of(run)
    if (directory / ADAPTER_CONFIG).is_file():
        if depth > _DEEPEST:
            raise InputError(f"{directory} is an adapter whose base leads back to itself.")
        return replace(_base_of(directory, run, depth), adapter=directory)
    return ModelSource(str(directory), "folder", directory, read_config(directory))


def origin_of(run: RunDirectory, depth: int = 0) -> ModelSource:
    """The model that a run's training goes back to, through all the runs it started from. Raises InputError."""
    source = resolve_model(load_recipe(run.recipe).model)
    if source.adapter is None and source.path is not None and depth < _DEEPEST \
            and (earlier := run_of(source.path)) is not None:
        return origin_of(earlier, depth + 1)
    return replace(source, adapter=None)


def is_reward_model(source: ModelSource) -> bool:
    """Whether it scores answers and cannot write any."""
    return is_reward_folder(source.adapter) if source.adapter is not None else _scores(source.config)


def is_reward_folder(folder: Path) -> bool:
    """The same of a folder with an adapter or a model."""
    adapter = read_json(folder / ADAPTER_CONFIG)
    return adapter.get("task_type") == "SEQ_CLS" if adapter else _scores(read_json(folder / "config.json"))


def _scores(config: dict[str, Any]) -> bool:
    names = config.get("architectures")
    return isinstance(names, list) and any(str(name).endswith("ForSequenceClassification") for name in names)


def start_faults(source: ModelSource, recipe: Recipe) -> list[tuple[str, str, str | None]]:
    """(field, sentence, hint) of what keeps a recipe from starting with this model."""
    if is_reward_model(source) and recipe.objective != "reward":
        return [("model", f"{recipe.model} is a reward model: it scores answers and cannot write any.",
                 "Name the model it was trained to judge; a reward model belongs into rlhf.reward.")]
    if source.adapter is None or recipe.tuning == "full":
        return []
    given = adapter_settings(source.adapter)
    targets: object = given["target_modules"]
    if recipe.lora.target_modules == "all-linear" and targets == _all_linear(source):
        given["target_modules"] = "all-linear"
    return lora_faults(recipe.lora, given)


def adapter_settings(adapter: Path) -> dict[str, Any]:
    """An adapter's settings, as `LoraSettings` names them. Raises InputError for an adapter that is not LoRA."""
    config = read_json(adapter / ADAPTER_CONFIG)
    if config.get("peft_type") != "LORA":
        raise InputError(f"{adapter} is a {config.get('peft_type')} adapter; only LoRA adapters can be loaded.")
    targets = config.get("target_modules")
    return {"lora_r": config.get("r"), "lora_alpha": config.get("lora_alpha"),
            "target_modules": sorted(map(str, targets)) if isinstance(targets, list) else targets,
            "use_rslora": bool(config.get("use_rslora", False))}


def adapter_shape(lora: LoraSettings) -> dict[str, Any]:
    """The same of an adapter that these settings will make."""
    targets = sorted(lora.target_modules) if isinstance(lora.target_modules, tuple) else lora.target_modules
    return {"lora_r": lora.lora_r, "lora_alpha": lora.lora_alpha, "target_modules": targets,
            "use_rslora": lora.use_rslora}


def lora_faults(lora: LoraSettings, given: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """Where the settings differ from those of the adapter that is to go on being trained."""
    faults: list[tuple[str, str, str | None]] = []
    for name, theirs in given.items():
        ours = getattr(lora, name)
        ours = sorted(ours) if isinstance(ours, tuple) else ours
        if ours != theirs:
            faults.append((f"lora.{name}", f"lora.{name} is {_words(ours)}, and {_words(theirs)} in the adapter that "
                           "training starts from, which keeps its shape.",
                           f"Set lora.{name} to {_words(theirs)}; or tuning: full, which merges the adapter first."))
    return faults


def _words(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value).lower()


def _all_linear(source: ModelSource) -> list[str] | None:
    """The names that peft's `all-linear` stands for in a model; None where its layers are not known."""
    try:
        targets = architecture_from_config(source.config).targets("all-linear")
    except InputError:
        return None
    return sorted({layer.name for layer, _ in targets})


def _base_of(adapter: Path, run: RunDirectory | None, depth: int) -> ModelSource:
    """The model under an adapter: as its run's recipe names it, else as peft wrote it down. Raises InputError."""
    named = read_json(adapter / ADAPTER_CONFIG).get("base_model_name_or_path")
    references = ([load_recipe(run.recipe).model] if run is not None else []) + [named]
    for reference in references:
        if not isinstance(reference, str) or not reference:
            continue
        try:
            source = find_model(reference, None) or trained_model(reference, None, depth + 1)
        except InputError:
            # Of a chain of runs an earlier one may be gone; the adapter knows its base as well.
            if reference == named:
                raise
            continue
        if source is not None:
            return source
    if not isinstance(named, str) or not named:
        raise InputError(f"{adapter / ADAPTER_CONFIG} does not say which model the adapter belongs to.")
    raise InputError(f"The base of the adapter {adapter}, {named}, was not found.")


def _folder(reference: str, base_dir: Path | None) -> Path | None:
    """The folder that a reference names, where it is a run's or holds an adapter."""
    if not reference or "\0" in reference:
        return None
    try:
        folder = ((base_dir or Path.cwd()) / Path(reference).expanduser()).resolve()
        if not folder.is_dir():
            return None
    except (OSError, RuntimeError):
        return None
    is_run = (run := run_of(folder)) is not None and folder == run.path
    return folder if is_run or (folder / ADAPTER_CONFIG).is_file() else None
