"""What past runs of this home measured: read from their journals, newest first, and only where something changed."""

import math
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any

from workbench.engine.paths import runs_dir
from workbench.engine.runs.directory import RunDirectory, list_run_directories
from workbench.engine.runs.journal import read_ends
from workbench.engine.runs.state import ENDED, RunState
from workbench.engine.runs.store import is_supervised, read_json

# The newest runs are of the libraries that the next one will use, and reading them takes a fraction of a second
# however many there are.
NEWEST = 400
# A run that trains is looked at again after this many seconds: its end changes no directory.
_LOOK_AGAIN_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class PastRun:
    """What one run measured. `device` is a GPU's name or `cpu`; `error` is measured / estimated peak of one batch.

    `tokens_per_second` leaves out samples, evaluations and the first interval, `tokens_per_row` is without padding.
    """

    id: str
    device: str
    likeness: tuple[Any, ...] | None
    error: float | None
    tokens_per_second: float | None
    tokens_per_row: float | None


History = tuple[PastRun, ...]


def likeness(recipe: dict[str, Any], parameters: int | None,
             dataset_fingerprint: str | None) -> tuple[Any, ...] | None:
    """What two recipes must share for their tokens a second to be the same; None for a recipe of another version.

    Left out: what decides how long to train, at what rate, and how often to log. The dataset is in it since short rows
    are padded to the longest of their batch; packed rows have no padding. A model in a folder goes by the folder's name
    and its parameters: its path is another on the next day.
    """
    try:
        training, lora, tuning = recipe["training"], recipe["lora"], recipe["tuning"]
        names = ("per_device_train_batch_size", "max_length", "packing", "gradient_checkpointing", "dtype", "bf16",
                 "attn_implementation", "optim")
        adapters = (lora["lora_r"], str(lora["target_modules"]), lora["lora_dropout"] > 0) if tuning != "full" else ()
        quantization = tuple(sorted(recipe["quantization"].items())) if tuning == "qlora" else ()
        data = None if training["packing"] else dataset_fingerprint or recipe["dataset"]["path"]
        model = recipe["model"].rstrip("/").rsplit("/", 1)[-1]
        return (model, parameters, recipe["objective"], tuning, *(training[name] for name in names), adapters,
                quantization, data)
    except (KeyError, TypeError, AttributeError):
        return None


def past_run(run: RunDirectory) -> tuple[PastRun | None, bool]:
    """(what a run taught, whether it has ended). None where it taught nothing, or not yet."""
    state = RunState()
    for event in read_ends(run.events):
        state.apply(event)
    ended = state.journal_state in ENDED or not is_supervised(run)
    if not state.device_name:
        return None, ended
    launched = read_json(run.plan)
    found = launched.get("recipe")
    recipe: dict[str, Any] = found if isinstance(found, dict) else {}
    like = likeness(recipe, state.parameters, launched.get("dataset_fingerprint"))
    return PastRun(run.id, state.device_name, like, _error(state), *_pace(state, recipe)), ended


def _error(state: RunState) -> float | None:
    """Measured over estimated. Only the probe knows which batch was tried, so a run without one has no say."""
    probed = state.probed
    if probed is None or not probed.allocated or not probed.estimated:
        return None
    trained = state.last("memory/peak_allocated") or 0.0
    largest = max(float(probed.allocated), trained if math.isfinite(trained) else 0.0)
    return largest / probed.estimated


def _pace(state: RunState, recipe: dict[str, Any]) -> tuple[float | None, float | None]:
    """(tokens a second, tokens a row)."""
    rates, counts = state.metrics.get("perf/tokens_per_second"), state.metrics.get("train/num_tokens")
    try:
        rows_a_step = (recipe["training"]["per_device_train_batch_size"]
                       * recipe["training"]["gradient_accumulation_steps"])
    except (KeyError, TypeError):
        return None, None
    if not rates or len(rates) < 2 or not counts or not counts.steps[-1]:
        return None, None
    # The first interval holds the warm-up of kernels and caches.
    return median(rates.values[1:]), counts.values[-1] / (counts.steps[-1] * rows_a_step)


class _Reader:
    """The history of one home, read again only where something may have changed. Mutable: it remembers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, PastRun | None] = {}
        self._open: dict[str, PastRun | None] = {}
        self._changed = -1
        self._read = 0.0
        self._history: History = ()

    def history(self, changed: int) -> History:
        with self._lock:
            stale = self._open and time.monotonic() - self._read > _LOOK_AGAIN_SECONDS
            if changed != self._changed or stale:
                self._refresh()
                self._changed, self._read = changed, time.monotonic()
            return self._history

    def _refresh(self) -> None:
        newest = list_run_directories()[:NEWEST]
        self._open.clear()
        for run in newest:
            if run.id not in self._known:
                found, ended = past_run(run)
                (self._known if ended else self._open)[run.id] = found
        known = self._known | self._open
        self._history = tuple(found for run in newest if (found := known[run.id]) is not None)


_reader = lru_cache(maxsize=4)(lambda home: _Reader())


def read_history() -> History:
    """What the newest runs of this home taught, newest first. Costs one `stat` while no run begins or ends."""
    runs = runs_dir()
    try:
        changed = runs.stat().st_mtime_ns
    except OSError:
        return ()
    reader: _Reader = _reader(str(runs))
    return reader.history(changed)
