"""The run directory: its name, its files, where it is (the protocol between screen, supervisor and worker)."""

import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from workbench.engine.errors import InputError
from workbench.engine.paths import runs_dir
from workbench.engine.text import slug

_STAMP = "%Y%m%d-%H%M%S"
RUN_ID = re.compile(r"(\d{8}-\d{6})-([a-z0-9][a-z0-9._-]{0,39})-([0-9a-f]{4})")


@dataclass(frozen=True)
class RunDirectory:
    """One run's directory. Each file has one writer; see the property's words."""

    path: Path

    @property
    def id(self) -> str:
        """The run's id, which is the directory's name."""
        return self.path.name

    @property
    def name(self) -> str:
        """The run's name as it stands in the id."""
        match = RUN_ID.fullmatch(self.id)
        return match.group(2) if match else self.id

    @property
    def recipe(self) -> Path:
        """The resolved recipe; the launcher, and who goes on with another one: the old one becomes recipe-<n>.yaml."""
        return self.path / "recipe.yaml"

    @property
    def plan(self) -> Path:
        """What was known at launch: estimate, versions, dataset fingerprint, GPUs; written as the recipe is."""
        return self.path / "plan.json"

    @property
    def events(self) -> Path:
        """The journal: supervisor before and after the worker, the worker while it lives."""
        return self.path / "events.jsonl"

    @property
    def status(self) -> Path:
        """The supervisor's heartbeat and identities. A cache: the truth is the journal and the lock."""
        return self.path / "status.json"

    @property
    def control(self) -> Path:
        """Commands to the run; appended by screens and the command line."""
        return self.path / "control.jsonl"

    @property
    def log(self) -> Path:
        """The worker's stdout and stderr."""
        return self.path / "worker.log"

    @property
    def supervisor_log(self) -> Path:
        """The supervisor's stdout and stderr; empty when all is well."""
        return self.path / "supervisor.log"

    @property
    def lock(self) -> Path:
        """Held by the supervisor for its life."""
        return self.path / "lock"

    @property
    def worker_lock(self) -> Path:
        """Held by the worker for its life: a run has one, also when its supervisor is gone."""
        return self.path / "worker.lock"

    @property
    def beat(self) -> Path:
        """The worker's sign of life: the monotonic clock's seconds as text, written anew every second."""
        return self.path / "beat"

    @property
    def reserve(self) -> Path:
        """Room for the last word on a full disk; the supervisor."""
        return self.path / ".reserve"

    def resume_request(self, token: str) -> Path:
        """What a new supervisor shall go on with; written by who starts it, taken away by it."""
        return self.path / f"resume-{token}.json"

    @property
    def samples(self) -> Path:
        """Generations by step; the worker."""
        return self.path / "samples.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One directory per verified checkpoint; the worker."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The final adapter or model; the worker."""
        return self.path / "model"


def create_run_directory(name: str, after: RunDirectory | None = None) -> RunDirectory:
    """A new, empty run directory (mode 0700) for a run of that name. Raises InputError where none can be made.

    Its id sorts behind that of `after`, though both may be made in the same second.
    """
    earliest = time.mktime(time.strptime(after.id[:15], _STAMP)) + 1 if after is not None else 0.0
    try:
        runs_dir().mkdir(parents=True, exist_ok=True, mode=0o700)
        for _ in range(100):
            stamp = time.strftime(_STAMP, time.localtime(max(time.time(), earliest)))
            run_id = f"{stamp}-{slug(name)}-{secrets.token_hex(2)}"
            try:
                (runs_dir() / run_id).mkdir(mode=0o700)
            except FileExistsError:
                continue
            return RunDirectory(runs_dir() / run_id)
    except OSError as error:
        raise InputError(f"Cannot create a run in {runs_dir()}: {error.strerror}.",
                         "Point WORKBENCH_HOME to a directory you can write to.") from None
    raise InputError(f"Cannot find a free run id in {runs_dir()}.")


def numbered(folder: Path, pattern: str) -> Path:
    """The first path of a pattern (`recipe-{}.yaml`) that is free, counted from 1."""
    number = 1
    while (path := folder / pattern.format(number)).exists():
        number += 1
    return path


def list_run_directories() -> list[RunDirectory]:
    """Every run in the home, newest first."""
    try:
        names = [entry.name for entry in runs_dir().iterdir() if RUN_ID.fullmatch(entry.name)]
    except FileNotFoundError:
        return []
    return [RunDirectory(runs_dir() / name) for name in sorted(names, reverse=True)]


def find_run(reference: str) -> RunDirectory:
    """The run that `reference` names: an id, a name, a unique part of an id, or `last`. Raises InputError."""
    runs = list_run_directories()
    if not runs:
        raise InputError("There are no runs yet.", "Start one: workbench demo")
    if reference == "last":
        return runs[0]
    found = [run for run in runs if run.id == reference] or [run for run in runs if run.name == reference] \
        or [run for run in runs if reference and reference in run.id]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"No run is called {reference!r}.", "List them: workbench runs")
    some = ", ".join(run.id for run in found[:3])
    raise InputError(f"{reference!r} fits {len(found)} runs: {some}{'…' if len(found) > 3 else ''}.",
                     "Give more of the id.")
