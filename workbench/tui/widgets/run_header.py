"""The head of the Watch screen: a run's state, progress and latest figures, and what the user should know."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.widgets import Static

from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.series import MetricSeries
from workbench.engine.runs.stalling import stall_words
from workbench.engine.runs.state import RunState
from workbench.engine.runs.store import RunFollower
from workbench.engine.text import one_line, sanitise
from workbench.tui.format import STATE_STYLES, count, duration, gib, number
from workbench.tui.run_reader import Reading, Stage
from workbench.tui.widgets.lines import Lines, bar
from workbench.tui.widgets.postmortem import attempt_words

_MUTED = "$foreground 55%"
_GAP = 2
_NAME_WIDTH = 28
_RATE_POINTS = 50
_STOPPING = {"stopping": "stopping…", "terminating": "stopping… (SIGTERM)", "killing": "stopping… (SIGKILL)",
             "pausing": "pausing after this step…"}


@dataclass(frozen=True)
class Figure:
    """One labelled figure. Its column is `width` wide; where there is no room, the highest `rank` goes first."""

    label: str
    value: str
    width: int
    rank: int


class RunHeader(Lines):
    """Three lines: what and how far, then labels, then figures."""

    DEFAULT_CSS = "RunHeader { height: 3; }"

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._follower: RunFollower | None = None
        self._predicted_peak: int | None = None
        self._words = ("", "")

    def show(self, follower: RunFollower, predicted_peak: int | None, words: tuple[str, str]) -> None:
        """Show a run's present state; `predicted_peak` in bytes, `words` from `state_words`."""
        self._follower, self._predicted_peak, self._words = follower, predicted_peak, words
        self.redraw()

    def compose_lines(self, width: int) -> list[Content]:
        """Progress, labels, values."""
        follower = self._follower
        if follower is None:
            return [Content("")] * 3
        shown = fitting(figures(follower, self._predicted_peak), width)
        labels = (" " * _GAP).join(f"{figure.label:>{figure.width}}" for figure in shown)
        values = [Content.styled(f"{figure.value:>{figure.width}}", "$error" if figure.value == "NaN" else "")
                  for figure in shown]
        return [self._progress(follower, width), Content.styled(labels, _MUTED), Content(" " * _GAP).join(values)]

    def _progress(self, follower: RunFollower, width: int) -> Content:
        state = follower.state
        words, style = self._words
        head = Content.assemble((one_line(follower.run.name, _NAME_WIDTH), "bold"), "  ",
                                (f"{'*' if self.ascii else '●'} {words}", style), "  ")
        total = state.total_steps
        if not total:
            return Content.assemble(head, f"step {state.step}" if state.step else "")
        steps = f"step {state.step:>{len(str(total))}}/{total}  "
        percent = f" {state.step / total:>4.0%}"
        room = width - head.cell_length - len(steps) - len(percent)
        return Content.assemble(head, steps, bar(state.step / total, room, style, self.ascii), percent)


def state_words(follower: RunFollower, reading: Reading) -> tuple[str, str]:
    """The state of a run with what it is about to do, in words, and their style."""
    state, name, style = follower.state, follower.name, STATE_STYLES[follower.name]
    if not follower.ended and reading.supervisor_phase in _STOPPING:
        return _STOPPING[reading.supervisor_phase], "$warning"
    if name == "stalled":
        return f"stalled · its {reading.silent or 'supervisor'} is silent", style
    if name == "crashed" and reading.worker_lives:
        return "crashed · it still trains", style
    if name == "queued" and state.attempts:
        attempt = state.attempts[-1]
        of = f" · {attempt.number} of {attempt.of}" if attempt.number and attempt.of else ""
        return (f"restarting{of}…", "$warning") if attempt.cause else ("resuming…", "$primary")
    if state.phase and not follower.ended:
        # While no step is known there is room for all of it: why a run waits may be long.
        return f"{name} · {one_line(state.phase, 40 if state.total_steps else 160)}…", style
    return name, style


class StageLine(Lines):
    """A pipeline with the stage that is looked at in brackets; nothing for a run that stands alone."""

    DEFAULT_CSS = "StageLine { height: auto; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__()
        self._run: RunDirectory | None = None
        self._stages: Sequence[Stage] = ()

    def show(self, run: RunDirectory, stages: Sequence[Stage]) -> None:
        """Show the stages of a run's pipeline."""
        self._run, self._stages = run, stages
        self.display = bool(stages)
        self.redraw()

    def compose_lines(self, width: int) -> list[Content]:
        """The line."""
        if self._run is None or not self._stages:
            return []
        whole, short = (stage_content(self._run, self._stages, self.ascii, short) for short in (False, True))
        return [whole if whole.cell_length <= width else short]


def stage_content(run: RunDirectory, stages: Sequence[Stage], ascii: bool, short: bool = False) -> Content:
    """Where a run stands in its pipeline: `stage 2 of 3 · sft finished → [dpo running]`, and the keys to its
    neighbours; in short, of what is finished only the name."""
    place = next((index for index, stage in enumerate(stages) if stage.run == run), 0)
    parts = [Content.styled(f"stage {place + 1} of {len(stages)}", "bold")]
    for index, stage in enumerate(stages):
        words = stage.objective if short and stage.state == "finished" else f"{stage.objective} {stage.state}"
        parts += [Content.styled(" - " if ascii else " · ", _MUTED) if index == 0 else
                  Content.styled(" > " if ascii else " → ", _MUTED),
                  Content.styled(f"[{words}]" if index == place else words, STATE_STYLES[stage.state])]
    keys = [*(["< before"] if place else []), *(["> after"] if place + 1 < len(stages) else [])]
    return Content.assemble(*parts, ("   " + ", ".join(keys), _MUTED))


class Notice(Static):
    """How a run ended and what to do about it, its last warning, damaged lines; not there when there is nothing."""

    DEFAULT_CSS = "Notice { height: auto; max-height: 6; }"

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, markup=False, expand=True)
        self._shown = Content("")

    def show(self, follower: RunFollower, reading: Reading, told: bool) -> None:
        """Say what there is to say; `told` when the post-mortem says why it ended."""
        fresh = Content("\n").join(notices(follower, reading, told))
        self.display = bool(fresh)
        if not fresh.is_same(self._shown):
            self._shown = fresh
            self.update(fresh)


def figures(follower: RunFollower, predicted_peak: int | None) -> list[Figure]:
    """The latest figures of a run, in the order they are shown; those that it never logs are left out."""
    state, last = follower.state, follower.state.last
    allocated, resident = last("memory/peak_allocated"), last("memory/resident")
    remaining = None if follower.ended else eta_seconds(state)
    epoch = "–" if state.epoch is None else f"{state.epoch:.2f}"
    wanted = [
        Figure("loss", number(last("train/loss")), 7, 0),
        Figure("eval loss", number(last("eval/loss")), 9, 4) if "eval/loss" in state.metrics else None,
        Figure("learning rate", number(last("train/learning_rate"), 3), 13, 3),
        Figure("grad norm", number(last("train/grad_norm"), 3), 9, 8) if "train/grad_norm" in state.metrics else None,
        Figure("best", _best(state), 14, 5) if any(kept.best for kept in state.checkpoints) else None,
        Figure("tokens/s", count(last("perf/tokens_per_second")), 8, 5),
        Figure("epoch", epoch, 5, 6),
        Figure("GPU peak", gib(allocated), 9, 2) if allocated is not None else Figure("RAM", gib(resident), 9, 2),
        Figure("predicted", gib(predicted_peak), 9, 7) if allocated is not None and predicted_peak else None,
        Figure("elapsed", duration(follower.elapsed), 7, 3),
        Figure("ETA", duration(remaining), 7, 1) if not follower.ended else None,
    ]
    return [figure for figure in wanted if figure is not None]


def _best(state: RunState) -> str:
    best = next(checkpoint for checkpoint in state.checkpoints if checkpoint.best)
    return f"{number(best.metric)} at {best.step}"


def fitting(wanted: list[Figure], width: int) -> list[Figure]:
    """The most important of the figures that have room in `width` cells, in their own order."""
    kept: list[Figure] = []
    room = width + _GAP
    for figure in sorted(wanted, key=lambda figure: figure.rank):
        if figure.width + _GAP > room:
            break
        room -= figure.width + _GAP
        kept.append(figure)
    return [figure for figure in wanted if figure in kept]


def eta_seconds(state: RunState) -> float | None:
    """Seconds the remaining steps will take at the pace of the last ones; None while the pace is not known."""
    losses = state.metrics.get("train/loss")
    pace = seconds_per_step(losses) if losses else None
    if pace is None or not state.total_steps:
        return None
    return pace * max(state.total_steps - state.step, 0)


def seconds_per_step(series: MetricSeries) -> float | None:
    """The pace over the last points; None with fewer than two since the worker was last started."""
    steps, elapsed = series.steps[-_RATE_POINTS:], series.elapsed[-_RATE_POINTS:]
    first = last = min(len(steps), len(elapsed)) - 1
    # A restarted worker counts its seconds from zero again.
    while first > 0 and elapsed[first - 1] <= elapsed[first]:
        first -= 1
    return (elapsed[last] - elapsed[first]) / (steps[last] - steps[first]) if last > first >= 0 else None


def notices(follower: RunFollower, reading: Reading, told: bool) -> list[Content]:
    """What the user should know beyond the figures, a line each, the gravest first; `told` when the post-mortem says
    why it ended."""
    state = follower.state
    lines = [] if told else _ending(follower, reading)
    others: list[Content] = []
    warnings = [alert for alert in state.alerts if alert.level != "info"]
    if warnings:
        more = f" (and {len(warnings) - 1} more below)" if len(warnings) > 1 else ""
        others.append(Content.assemble(("! ", "$warning"), f"step {warnings[-1].step}: ",
                                       one_line(warnings[-1].message, 200), (more, _MUTED)))
    if follower.corrupt:
        plural = "s" if follower.corrupt > 1 else ""
        others.append(Content.styled(f"{follower.corrupt} damaged line{plural} skipped", "$warning"))
    if not follower.ended and state.attempts and state.attempts[-1].cause:
        others.append(Content.styled(attempt_words(state.attempts[-1]), "$warning"))
    if others:
        lines.append(Content.styled(" · ", _MUTED).join(others))
    return lines


def _ending(follower: RunFollower, reading: Reading) -> list[Content]:
    state, name, why = follower.state, follower.name, reading.postmortem
    explanation, suggestion = state.explanation, state.suggestion
    if why is not None:
        explanation, suggestion = why.explanation, "f shows why, and how it can go on."
    elif name == "stalled":
        explanation, suggestion = stall_words(reading.silent)
    elif name == "paused":
        explanation = f"Paused at step {state.step}: nothing of it runs. Press r to go on where it was."
    elif name == "finished":
        can_talk = reading.has_model and reading.objective.generates
        explanation = "Finished." + (" Press c to talk to the model." if can_talk else "")
    if not explanation:
        return []
    grave = why is not None or name == "stalled"
    lines = [Content.styled(sanitise(explanation), "bold $error" if grave else _MUTED)]
    if suggestion:
        lines.append(Content.assemble(("What to do: ", "$primary"), sanitise(suggestion)))
    return lines
