"""Which runs make up a pipeline: what each one's plan says of it, and where the chain stands."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.engine.runs.directory import RunDirectory, list_run_directories


@dataclass(frozen=True, slots=True)
class StageOf:
    """A run's place in a pipeline: `stage` counts from 1; `previous` is the run that must finish before it."""

    id: str
    name: str
    stage: int
    of: int
    previous: str | None

    def to_json(self) -> dict[str, Any]:
        """As the run's plan.json holds it."""
        return asdict(self)

    @property
    def words(self) -> str:
        """Its place in a few words: `stage 2 of 3`."""
        return f"stage {self.stage} of {self.of}"


def stage_of(run: RunDirectory) -> StageOf | None:
    """The run's place in a pipeline; None for a run that stands alone."""
    known = str(run.path)
    if known not in _STAGES:
        if not run.plan.is_file():
            return None  # it is just being made: not to be remembered as alone
        _STAGES[known] = _stage_in(run.plan)
    return _STAGES[known]


_STAGES: dict[str, StageOf | None] = {}
"""What the plans of this process's runs said. A place in a pipeline stays, whatever else of a plan changes."""


def _stage_in(plan: Path) -> StageOf | None:
    from workbench.engine.runs.store import read_json  # which lists runs with their stages

    data: Any = read_json(plan).get("pipeline")
    try:
        previous = data["previous"]
        return StageOf(str(data["id"]), str(data["name"]), int(data["stage"]), int(data["of"]),
                       None if previous is None else str(previous))
    except (KeyError, TypeError, ValueError):
        return None


def chain_of(pipeline_id: str) -> list[RunDirectory]:
    """The runs of a pipeline in the order of its stages; of a stage that was started again, the newest."""
    newest: dict[int, RunDirectory] = {}
    for run in list_run_directories():
        place = stage_of(run)
        if place is not None and place.id == pipeline_id:
            newest.setdefault(place.stage, run)
    return [newest[stage] for stage in sorted(newest)]


def chain_from(run: RunDirectory) -> list[RunDirectory]:
    """The run and the stages of its pipeline after it; a run that stands alone is its own chain."""
    place = stage_of(run)
    if place is None:
        return [run]
    later = [other for other in chain_of(place.id) if (at := stage_of(other)) is not None and at.stage > place.stage]
    return [run, *later]


def neighbours(run: RunDirectory) -> tuple[RunDirectory | None, RunDirectory | None]:
    """The stages just before and just after a run."""
    place = stage_of(run)
    if place is None:
        return None, None
    at = {stage.stage: other for other in chain_of(place.id) if (stage := stage_of(other)) is not None}
    before = next((other for other in list_run_directories() if other.id == place.previous), None)
    return before, at.get(place.stage + 1)


def by_chain(runs: Sequence[Any]) -> list[Any]:
    """Run summaries, newest first, with those of one pipeline side by side in the order of its stages."""
    groups: dict[str, list[Any]] = {}
    for summary in runs:
        groups.setdefault(summary.pipeline.id if summary.pipeline else summary.id, []).append(summary)
    return [summary for group in groups.values()
            for summary in sorted(group, key=lambda one: (one.pipeline.stage if one.pipeline else 0, one.id))]
