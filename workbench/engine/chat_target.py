"""What to chat with: from a word on the command line to the base, the adapter or the model that must be loaded."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from workbench.engine.catalog.models import BUILTIN_MODEL, ModelSource, find_model, folder_title, read_config
from workbench.engine.catalog.trained import is_reward_folder, origin_of, source_of
from workbench.engine.errors import InputError
from workbench.engine.recipe import QuantizationSettings, Recipe
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.artefacts import (
    ADAPTER_CONFIG,
    checkpoint_of,
    names_part_of_a_run,
    result_of,
    run_of,
    step_of,
)
from workbench.engine.runs.directory import RUN_ID, RunDirectory, find_run
from workbench.engine.runs.manifest import MANIFEST
from workbench.engine.runs.store import RunSummary
from workbench.engine.text import one_line
from workbench.engine.tuning import TUNINGS, TuningId

_MODEL_FILES = ("config.json", ADAPTER_CONFIG)
# A home may hold thousands of runs; a picker shows the newest.
_RUNS_LOOKED_AT = 200


@dataclass(frozen=True)
class ChatTarget:
    """Something to chat with. Neither `adapter` nor `model`: the base alone; never both."""

    title: str
    """As a screen shows it: `demo · step 120`, `tiny-base`."""
    base: str
    """The model that the training began with: a Hub id, an absolute folder, or `tiny-base`."""
    base_title: str
    adapter: Path | None = None
    """The directory of a LoRA adapter over the base."""
    model: Path | None = None
    """The directory of a fully trained model."""
    tuning: TuningId | None = None
    quantization: QuantizationSettings | None = None
    """How the base is held; None: not quantised."""
    verified_by_manifest: bool = False
    """Whether the workbench wrote the directory: then its manifest must be there, and agree."""

    @property
    def trained(self) -> Path | None:
        """The directory of what was trained; None for a base alone."""
        return self.adapter or self.model

    @property
    def description(self) -> str:
        """The title and what it stands on: `demo · step 120 (LoRA on tiny-base)`."""
        if self.adapter is not None:
            return f"{self.title} ({TUNINGS[self.tuning or 'lora'].title} on {self.base_title})"
        return f"{self.title} (full, from {self.base_title})" if self.model is not None else self.title

    def to_json(self) -> dict[str, Any]:
        """As the worker takes it."""
        document = asdict(self)
        for key in ("adapter", "model"):
            document[key] = None if document[key] is None else str(document[key])
        document["quantization"] = self.quantization.model_dump() if self.quantization else None
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "ChatTarget":
        """The target that `to_json` wrote."""
        return cls(**{
            **document,
            "adapter": Path(document["adapter"]) if document["adapter"] else None,
            "model": Path(document["model"]) if document["model"] else None,
            "quantization": QuantizationSettings(**document["quantization"]) if document["quantization"] else None,
        })


def resolve_chat_target(reference: str) -> ChatTarget:
    """The target that `reference` names; it reads whole checkpoints to verify them, so keep it off an event loop.

    In this order: `tiny-base`, a folder, `last`, RUN:step, a run's whole id, a model on this disk, a part of a run's
    id, a model of the catalogue. Raises InputError.
    """
    reference = reference.strip()
    if not reference:
        raise InputError("Say what to chat with.", "A run, RUN:step, a folder, a model id, or tiny-base.")
    if reference != BUILTIN_MODEL and (folder := _folder(reference)) is not None:
        return _folder_target(folder)
    name, colon, step = reference.rpartition(":")
    if colon:
        run = find_run(name)
        return _trained_target(checkpoint_of(run, step), run)
    if reference == "last" or RUN_ID.fullmatch(reference):
        return _run_target(find_run(reference))
    source = _model(reference)
    if source is not None and source.path is not None:
        return _base_target(source)
    if names_part_of_a_run(reference):
        return _run_target(find_run(reference))
    if source is not None:
        return _base_target(source)
    raise InputError(f"Neither a run nor a model is called {reference!r}.",
                     "List them: workbench runs, workbench models.")


def chat_runs(runs: Iterable[RunSummary], limit: int = 30) -> list[RunSummary]:
    """The runs, in the given order, that have a model or a checkpoint to chat with."""
    found = []
    for _, summary in zip(range(_RUNS_LOOKED_AT), runs, strict=False):
        saved = next((path for path in (summary.run.model, *summary.run.checkpoints.glob("step-*")) if path.is_dir()),
                     None)
        if saved is not None and not is_reward_folder(saved):
            found.append(summary)
            if len(found) == limit:
                break
    return found


def _run_target(run: RunDirectory) -> ChatTarget:
    return _trained_target(result_of(run, "chat with"), run)


def _folder_target(folder: Path) -> ChatTarget:
    run = run_of(folder)
    if run is not None:
        return _run_target(run) if folder == run.path else _trained_target(folder, run)
    if (folder / ADAPTER_CONFIG).is_file():
        return _foreign_adapter(folder)
    if (folder / "config.json").is_file():
        return _base_target(ModelSource(str(folder), "folder", folder, read_config(folder)))
    raise InputError(f"{folder} is neither a model nor an adapter: it has no config.json and no {ADAPTER_CONFIG}.")


def _trained_target(directory: Path, run: RunDirectory) -> ChatTarget:
    """A run's model or checkpoint."""
    recipe: Recipe = load_recipe(run.recipe)
    is_adapter = (directory / ADAPTER_CONFIG).is_file()
    if not is_adapter and not (directory / "config.json").is_file():
        raise InputError(f"{directory} holds no model.", "Chat with the run, its `model` directory or a checkpoint.")
    if recipe.objective == "reward":
        raise InputError(f"{run.id} is a reward model: it scores answers and cannot write any.")
    step = step_of(directory)
    base = _base_name(directory, run, recipe.model)
    return ChatTarget(
        title=run.name if step is None else f"{run.name} · step {step}", base=base, base_title=_short(base),
        adapter=directory if is_adapter else None, model=None if is_adapter else directory, tuning=recipe.tuning,
        quantization=recipe.quantization if recipe.tuning == "qlora" else None, verified_by_manifest=True)


def _base_name(directory: Path, run: RunDirectory, named: str) -> str:
    """The model under an adapter, or what full training goes back to; by its name where it is gone."""
    try:
        source = source_of(directory) if (directory / ADAPTER_CONFIG).is_file() else origin_of(run)
    except InputError:
        return named
    return replace(source, adapter=None).reference


def _foreign_adapter(folder: Path) -> ChatTarget:
    base = replace(source_of(folder), adapter=None).reference
    return ChatTarget(title=_short(str(folder)), base=base, base_title=_short(base), adapter=folder, tuning="lora",
                      verified_by_manifest=(folder / MANIFEST).is_file())


def _base_target(source: ModelSource) -> ChatTarget:
    return ChatTarget(title=_short(source.reference), base=source.reference, base_title=_short(source.reference))


def _model(reference: str) -> ModelSource | None:
    try:
        return find_model(reference)
    except InputError:
        return None


def _folder(reference: str) -> Path | None:
    """The folder meant; a bare word means one only if a model is in it, for it may as well name a run."""
    try:
        path = Path(reference).expanduser().resolve()
        meant = path.is_dir() and ("/" in reference or any((path / name).is_file() for name in _MODEL_FILES))
        return path if meant else None
    except (OSError, RuntimeError, ValueError):
        return None


def _short(model: str) -> str:
    """A folder by its last part; a Hub id as it is."""
    return one_line(folder_title(Path(model)) if Path(model).is_absolute() else model, 60)
