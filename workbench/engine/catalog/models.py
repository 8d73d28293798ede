"""Which models can be picked, and where each one lies: built-in, folder, local Hugging Face cache, or catalogue."""

import difflib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import orjson

from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.errors import InputError
from workbench.engine.paths import assets_dir

ModelKind = Literal["builtin", "folder", "cache", "catalogue", "hub"]

BUILTIN_MODEL = "tiny-base"

# The hub's own rule for repository ids: one or two parts of word characters, dots and dashes.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?", re.ASCII)
# A git revision or branch folder name; keeps refs/main from pointing out of the cache.
_REVISION = re.compile(r"[\w.\-]+", re.ASCII)
_WEIGHT_SUFFIXES = (".safetensors", ".bin")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that was found. `path` is the folder with its files, or None when only its config is known.

    Of a model that is only a name on the Hub ("hub"), `config` is empty until it is downloaded. `adapter` is the
    directory of a LoRA adapter over the model, with which training starts.
    """

    name: str
    kind: ModelKind
    path: Path | None
    config: dict[str, Any]
    adapter: Path | None = None

    @property
    def reference(self) -> str:
        """What names it in any folder."""
        if self.adapter is not None:
            return str(self.adapter)
        return str(self.path) if self.kind == "folder" else self.name

    @property
    def label(self) -> str:
        """Its name in a sentence, with the adapter's: folders by their last part."""
        name = folder_title(self.path) if self.kind == "folder" and self.path is not None else self.name
        return name if self.adapter is None else f"{name} with the adapter {folder_title(self.adapter)}"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One line of a model list. `parameters` is None for an unknown architecture, `size_bytes` without weights."""

    name: str
    source: ModelKind
    parameters: int | None
    path: Path | None
    size_bytes: int | None


def resolve_model(reference: str, base_dir: Path | None = None) -> ModelSource:
    """Find a model: built-in name, existing folder (relative to `base_dir`), local Hugging Face cache, catalogue.

    A folder may hold an adapter: training starts from its base with it. So do `last`, RUN:step, and a run's id or a
    part of it that nothing else is called. An owner/name id that is none of these is taken for a model on the Hub,
    without asking it. Raises InputError when nothing matches, or when a folder cannot be read.
    """
    # Here: what was trained is found through runs, whose recipes name models.
    from workbench.engine.catalog.trained import part_of_a_run, trained_model

    reference = reference.strip()
    found = trained_model(reference, base_dir) if reference != BUILTIN_MODEL else None
    found = found or find_model(reference, base_dir)
    if found is None:
        found = part_of_a_run(reference)
    if found is None:
        raise InputError(f"No model called {reference!r} was found.", hint=nearest_models(reference))
    return found


def find_model(reference: str, base_dir: Path | None = None) -> ModelSource | None:
    """The model of that name, runs and adapters left out; None when there is none. Raises InputError."""
    if reference == BUILTIN_MODEL:
        return _builtin()
    if (folder := _existing_folder(reference, base_dir)) is not None:
        return ModelSource(reference, "folder", folder, read_config(folder))
    if _is_hub_id(reference):
        if (snapshot := _cached_snapshot(hub_cache_dir() / _cache_folder_name(reference))) is not None:
            return ModelSource(reference, "cache", snapshot, read_config(snapshot))
        if (entry := _catalogue().get(reference)) is not None:
            return ModelSource(reference, "catalogue", None, dict(entry["config"]))
        if "/" in reference:
            return ModelSource(reference, "hub", None, {})
    return None


def folder_title(folder: Path) -> str:
    """A folder's last part; a run's result is called `model` whoever it is of, so the run's id for that."""
    return folder.parent.name if folder.name == "model" and folder.parent.name else folder.name


def list_models() -> list[ModelInfo]:
    """Every model that can be named: built-in, the local cache, the catalogue. Broken folders are left out."""
    found = {source.name: source for source in (*_catalogue_sources(), *_cached_sources())}
    with suppress(InputError):
        found[BUILTIN_MODEL] = _builtin()
    rank = {"builtin": 0, "folder": 1, "cache": 1, "catalogue": 2}
    return [_info(s) for s in sorted(found.values(), key=lambda s: (rank[s.kind], s.name.lower()))]


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model folder. Raises InputError when it is missing or no JSON object."""
    path = folder / "config.json"
    try:
        config = orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no JSON object.")
    return config


def hub_cache_dir() -> Path:
    """The local Hugging Face cache: `HF_HUB_CACHE`, else `HF_HOME`/hub, else `~/.cache/huggingface/hub`."""
    if cache_dir := os.environ.get("HF_HUB_CACHE"):
        return Path(cache_dir).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def license_of(name: str) -> str | None:
    """The licence's name, for models of the catalogue."""
    entry = _catalogue().get(name)
    return str(entry["license"]) if entry else None


@cache
def _catalogue() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = orjson.loads((assets_dir() / "catalogue.json").read_bytes())
    return entries


def _catalogue_sources() -> Iterator[ModelSource]:
    for name, entry in _catalogue().items():
        yield ModelSource(name, "catalogue", None, dict(entry["config"]))


def _cached_sources() -> Iterator[ModelSource]:
    try:
        folders = sorted(hub_cache_dir().glob("models--*"))
    except OSError:
        return
    for folder in folders:
        name = folder.name.removeprefix("models--").replace("--", "/")
        try:
            if _is_hub_id(name) and (snapshot := _cached_snapshot(folder)) is not None:
                yield ModelSource(name, "cache", snapshot, read_config(snapshot))
        except (InputError, OSError):
            continue


def _builtin() -> ModelSource:
    folder = assets_dir() / "tiny_base"
    return ModelSource(BUILTIN_MODEL, "builtin", folder, read_config(folder))


def _existing_folder(reference: str, base_dir: Path | None) -> Path | None:
    """The folder a reference names, if it holds a config.json. A path may be anywhere: the user typed it."""
    if not reference or "\0" in reference:
        return None
    try:
        folder = (base_dir or Path.cwd()) / Path(reference).expanduser()
        return folder.resolve() if (folder / "config.json").is_file() else None
    except (OSError, RuntimeError):
        return None


def _is_hub_id(name: str) -> bool:
    return len(name) <= 96 and _HUB_ID.fullmatch(name) is not None and ".." not in name and "--" not in name


def _cache_folder_name(hub_id: str) -> str:
    return "models--" + hub_id.replace("/", "--")


def cached_snapshot(hub_id: str, holding: str) -> Path | None:
    """The snapshot of a Hub id in the local cache, where it has a file of that name."""
    return _cached_snapshot(hub_cache_dir() / _cache_folder_name(hub_id), holding) if _is_hub_id(hub_id) else None


def _cached_snapshot(folder: Path, holding: str = "config.json") -> Path | None:
    """The snapshot of `refs/main`, else the newest one, that has the file."""
    snapshots = folder / "snapshots"
    try:
        revision = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        revision = ""
    named = _REVISION.fullmatch(revision) and revision not in (".", "..")
    if named and (snapshots / revision / holding).is_file():
        return snapshots / revision
    try:
        others = [p for p in snapshots.iterdir() if (p / holding).is_file()]
        return max(others, key=lambda p: p.stat().st_mtime, default=None)
    except OSError:
        return None


def _info(source: ModelSource) -> ModelInfo:
    try:
        parameters = architecture_from_config(source.config).parameters
    except InputError:
        parameters = None
    return ModelInfo(source.name, source.kind, parameters, source.path, _weights_bytes(source.path))


def _weights_bytes(folder: Path | None) -> int | None:
    """Bytes of the weight files in a folder; None when it has none."""
    if folder is None:
        return None
    try:
        sizes = [p.stat().st_size for p in folder.iterdir() if p.suffix in _WEIGHT_SUFFIXES]
    except OSError:
        return None
    return sum(sizes) or None


def nearest_models(reference: str) -> str:
    """A sentence with the known names that are nearest to one that is not known, or with what can be named."""
    names = {name.lower(): name for name in (*_catalogue(), BUILTIN_MODEL)}
    # Typing the part behind the slash is common: compare with both forms.
    short = {name.rpartition("/")[2].lower(): name for name in names.values()}
    close = [
        *(names[match] for match in difflib.get_close_matches(reference.lower(), names, n=3, cutoff=0.5)),
        *(short[match] for match in difflib.get_close_matches(reference.lower(), short, n=3, cutoff=0.5)),
    ]
    if close:
        return f"Did you mean {' or '.join(list(dict.fromkeys(close))[:3])}?"
    return "Give a folder that holds a config.json, a model in the Hugging Face cache, or a name from the catalogue."
