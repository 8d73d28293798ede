"""Reads what the Watch screen shows of one run. Everything here blocks: it belongs in a thread."""

from dataclasses import dataclass

from workbench.engine.objectives import OBJECTIVES, Objective
from workbench.engine.runs.chain import chain_of, stage_of
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.peaks import MemoryPeaks, estimated_peak, memory_peaks
from workbench.engine.runs.stalling import silent
from workbench.engine.runs.state import ENDED, StateName
from workbench.engine.runs.store import RunFollower, read_json, read_status, summarise
from workbench.engine.runs.worker_process import living_worker
from workbench.tui.run_postmortem import PostMortem, postmortem_of
from workbench.tui.widgets.log_pane import LogTail

_STAGES_EVERY = 8
"""Looks between two looks at the other stages: finding them lists all runs."""


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline: its run, what it trains for, how it stands."""

    run: RunDirectory
    objective: str
    state: StateName


@dataclass(frozen=True)
class Reading:
    """What one look at the run found besides its follower's state."""

    changed: bool
    """Whether the run wrote events or samples, or its state changed, since the last look; True at the first."""
    log: tuple[str, ...]
    supervisor_phase: str
    peaks: MemoryPeaks
    """Peak memory as predicted and as measured."""
    has_model: bool
    objective: Objective
    """What the run trains for: which curves tell how it goes, whether it answers prompts."""
    stages: tuple[Stage, ...]
    """The pipeline that the run is a stage of; empty for a run that stands alone."""
    postmortem: PostMortem | None = None
    """Why it failed; None for a run that did not."""
    silent: str = ""
    """Of a stalled run: who gives no sign of life, its supervisor or its worker."""
    worker_lives: bool = False
    """Of a crashed run: whether its worker still trains."""


class RunReader:
    """One run, read again and again."""

    def __init__(self, run: RunDirectory) -> None:
        self.follower = RunFollower(run)
        self._log = LogTail(run.log)
        self._estimate: int | None = None
        self._first = True
        self._objective = OBJECTIVES["sft"]
        self._stages: tuple[Stage, ...] = ()
        self._reads = self._attempts = 0
        self._postmortem: PostMortem | None = None
        self._told: tuple[object, ...] = ()

    def read(self) -> Reading:
        """Take in what is new. Raises FileNotFoundError when the run was deleted, OSError when it cannot be read."""
        follower = self.follower
        changed = follower.refresh() or self._first
        attempts = len(follower.state.attempts)
        if self._first or attempts != self._attempts:
            # Its recipe may change where it goes on.
            self._first, self._attempts = False, attempts
            self._estimate = estimated_peak(follower.run)
            self._objective = objective_of(follower.run)
        if self._reads % _STAGES_EVERY == 0:
            self._stages = stages_of(follower.run)
        self._reads += 1
        phase = "" if follower.ended else str(read_status(follower.run).get("phase", ""))
        log, lives = self._log.read(), follower.name == "crashed" and worker_lives(follower.run)
        return Reading(changed, log, phase, memory_peaks(follower.state, self._estimate),
                       has_model=follower.ended and follower.run.model.is_dir(), objective=self._objective,
                       stages=self._stages, postmortem=self._why(log, lives, changed), worker_lives=lives,
                       silent=silent(follower.run) if follower.name == "stalled" else "")

    def _why(self, log: tuple[str, ...], lives: bool, changed: bool) -> PostMortem | None:
        """The post-mortem; gathered anew only when something of it may be another."""
        told = (log, lives, self.follower.name)
        if changed or told != self._told:
            self._told, self._postmortem = told, postmortem_of(self.follower, log, lives)
        return self._postmortem


def worker_lives(run: RunDirectory) -> bool:
    """Whether a worker trains, supervised or not."""
    return living_worker(run) is not None


def stages_of(run: RunDirectory) -> tuple[Stage, ...]:
    """The stages of the pipeline that a run belongs to, in their order; empty for a run that stands alone."""
    place = stage_of(run)
    if place is None:
        return ()
    # Of a stage that was started again the newest run counts, except for the one that is looked at.
    runs = [run if (at := stage_of(other)) and at.stage == place.stage else other for other in chain_of(place.id)]
    return tuple(Stage(one, objective_of(one).id, summarise(one).state) for one in runs)


def resumable(stages: tuple[Stage, ...]) -> bool:
    """Whether a pipeline has ended before all of it was finished."""
    states = {stage.state for stage in stages}
    return states <= ENDED and states != {"finished"} and bool(states)


def objective_of(run: RunDirectory) -> Objective:
    """The objective of a run's recipe; supervised fine-tuning where its plan does not say."""
    recipe = read_json(run.plan).get("recipe") or {}
    return OBJECTIVES.get(recipe.get("objective", ""), OBJECTIVES["sft"])
