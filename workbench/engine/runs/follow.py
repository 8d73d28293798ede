"""A run as plain lines, for pipes, logs and terminals that show no screens."""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from workbench.engine.errors import WorkbenchError
from workbench.engine.figures import count, duration, gib, number
from workbench.engine.recipe_diff import applied, value_words
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.chain import neighbours, stage_of
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.document import kept_checkpoints, last_good_checkpoint
from workbench.engine.runs.peaks import estimated_peak, memory_peaks, peaks_line
from workbench.engine.runs.series import MetricSeries
from workbench.engine.runs.state import CheckpointInfo, Sample
from workbench.engine.runs.store import RunFollower
from workbench.engine.runs.worker_process import living_worker
from workbench.engine.text import one_line, sanitise

POLL_SECONDS = 0.25
# Beside the loss: what tells whether an objective other than likelihood gets anywhere.
_BESIDE_LOSS = (("train/reward", "reward"), ("train/rewards/margins", "margin"), ("train/margin", "margin"),
                ("train/log_odds", "log-odds"), ("train/grad_norm", "grad"), ("train/learning_rate", "lr"))


def follow_lines(follower: RunFollower, sleep: Callable[[float], None] = time.sleep,
                 resumed: bool = False) -> Iterator[str]:
    """Lines as they come, until the run has ended; of one that was just `resumed` without those from before.

    Raises FileNotFoundError when the run is deleted.
    """
    trained, evaluated, samples, printed_alerts, phase, probed = -1, -1, 0, 0, "", False
    if resumed:
        follower.refresh()
        trained = evaluated = -1 if follower.state.resumed_from is None else follower.state.resumed_from
        samples, printed_alerts = len(follower.samples), len(follower.state.alerts)
    while True:
        follower.refresh()
        state = follower.state
        if state.phase and state.phase != phase:
            yield f"{state.phase}…"
        phase = state.phase
        for alert in state.alerts[printed_alerts:]:
            yield f"{alert.level}: {sanitise(alert.message)}"
        printed_alerts = len(state.alerts)
        if state.probed is not None and not probed:
            yield peaks_line(memory_peaks(state, estimated_peak(follower.run)), state)
            probed = True
        # Those that came together in the order of their steps: a step, its evaluation, its samples.
        loss, held_out = state.metrics.get("train/loss"), state.metrics.get("eval/loss")
        lines = [(step, 0, step_line(follower, index))
                 for index, step in enumerate(loss.steps if loss else ()) if step > trained]
        lines += [(step, 1, evaluation_line(follower, index))
                  for index, step in enumerate(held_out.steps if held_out else ()) if step > evaluated]
        lines += [(sample.step, 2, sample_line(sample)) for sample in follower.samples[samples:]]
        trained, evaluated = (series.steps[-1] if series else -1 for series in (loss, held_out))
        samples = len(follower.samples)
        yield from (line for _, _, line in sorted(lines, key=lambda entry: entry[:2]))
        if follower.ended:
            yield from ending_lines(follower)
            return
        sleep(POLL_SECONDS)


def step_line(follower: RunFollower, index: int) -> str:
    """The line of one logged step, by its index in the loss series."""
    state = follower.state
    loss = state.metrics["train/loss"]
    step = loss.steps[index]
    total = state.total_steps or 0
    parts = [f"step {step:>{len(str(total))}}/{total or '?'}", f"loss {number(loss.values[index])}"]
    for name, label in _BESIDE_LOSS:
        series = state.metrics.get(name)
        if series and index < len(series) and series.steps[index] == step:
            parts.append(f"{label} {number(series.values[index], 3)}")
    speed = state.metrics.get("perf/tokens_per_second")
    if speed and index < len(speed):
        parts.append(f"{count(speed.values[index])} tok/s")
    if total > step and not follower.ended:
        rate = _seconds_per_step(loss, index, state.resumed_from or 0)
        parts += [f"eta {duration(rate * (total - step))}"] if rate is not None else []
    return "  ".join(parts)


def _seconds_per_step(losses: MetricSeries, index: int, resumed_from: int) -> float | None:
    """The pace up to a point since the run began or went on; loading again is no part of it. None at the first."""
    first = bisect_right(losses.steps, resumed_from)
    if first >= index:
        return None
    return (losses.elapsed[index] - losses.elapsed[first]) / (losses.steps[index] - losses.steps[first])


def sample_line(sample: Sample) -> str:
    """The line of what the model answered to one prompt."""
    return f"  step {sample.step} · {one_line(sample.prompt, 60)} → {one_line(sample.text, 160)}"


def pipeline_line(run: RunDirectory) -> str:
    """A run's place in its pipeline, with the stages beside it; empty for a run that stands alone."""
    place = stage_of(run)
    if place is None:
        return ""
    before, after = neighbours(run)
    parts = [f"{place.name}: {place.words}"]
    parts += [f"after {before.id}"] if before is not None else []
    parts += [f"before {after.id}"] if after is not None else []
    return ", ".join(parts)


def evaluation_line(follower: RunFollower, index: int) -> str:
    """The line of one evaluation, by its index in the series of its loss."""
    metrics = follower.state.metrics
    loss, perplexity = metrics["eval/loss"], metrics.get("eval/perplexity")
    words = f"  perplexity {number(perplexity.values[index])}" if perplexity and index < len(perplexity) else ""
    return f"  step {loss.steps[index]} · held-out loss {number(loss.values[index])}{words}"


def _way_on(follower: RunFollower) -> Iterator[str]:
    """Of a run that did not come to its end: from where it goes on, with what changes, by which command."""
    if follower.name not in ("failed", "crashed", "paused"):
        return
    run, changes = follower.run, follower.state.changes
    good = last_good_checkpoint(run, follower.state)
    yield f"last good checkpoint: {f'step {good.step}' if good else 'none, so it would begin anew'}"
    if changes:
        yield from (f"change: {words}" for words in changes_words(run, changes))
        yield f"apply and go on: workbench resume {run.id} --apply"
    yield f"go on {'unchanged' if changes else 'with it'}: workbench resume {run.id}"


def _way_to_take_over(run: RunDirectory) -> Iterator[str]:
    """Of a run whose worker trains without a supervisor: what gives it one."""
    yield f"take it over: workbench resume {run.id}"
    yield f"stop it: workbench stop {run.id}"


def changes_words(run: RunDirectory, changes: Mapping[str, Any]) -> tuple[str, ...]:
    """What dotted settings would change of a run's recipe, a line each."""
    try:
        return tuple(change.words for change in applied(load_recipe(run.recipe), changes))
    except WorkbenchError:
        return tuple(f"{setting}: {value_words(value)}" for setting, value in changes.items())


def checkpoint_words(checkpoint: CheckpointInfo) -> str:
    """A checkpoint in a list: its step, and by what value it is the best."""
    best = f" (best: {number(checkpoint.metric)})" if checkpoint.best else ""
    return f"step {checkpoint.step}{best}"


def ending_lines(follower: RunFollower) -> Iterator[str]:
    """How the run ended, why, and what to do."""
    state = follower.state
    # Not the difference of two times: clocks are set, and a run that was resumed did nothing in between.
    yield f"{follower.name} at step {state.step} after {duration(state.elapsed)}"
    worker = living_worker(follower.run) if follower.name == "crashed" else None
    if worker is not None:
        yield f"Its supervisor died without a word, but its worker still trains, as process {worker.pid}."
    elif follower.name == "crashed":
        yield "Its supervisor died without a word; what was saved is in its directory."
    if state.explanation:
        yield sanitise(state.explanation)
    yield from (f"  | {sanitise(line)}" for line in state.evidence)
    if kept := kept_checkpoints(follower.run, state):
        yield f"checkpoints: {', '.join(map(checkpoint_words, kept))}"
    if state.suggestion:
        yield f"hint: {sanitise(state.suggestion)}"
    yield from _way_on(follower) if worker is None else _way_to_take_over(follower.run)
    peak = state.last("memory/peak_allocated")
    if peak is not None:
        yield f"peak memory {gib(peak, 2)} allocated, {gib(state.last('memory/peak_reserved'), 2)} reserved"
