"""A journal as a day of training leaves it: steps, evaluations, checkpoints, branches given up, damage, a cut end."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from workbench.engine.runs.store import RunFollower

EVAL_EVERY, SAVE_EVERY, DAMAGE_EVERY, KEPT = 1000, 500, 10_000, 3
GARBAGE = (b"{broken", b"\xff\xfe\x00\x00binary", b"null", b"\x00" * 64, b'[1, 2]', b'{"type": "step", "step":')


@dataclass(frozen=True)
class Written:
    """What was written: bytes, lines that are damage, and the step up to which nothing was cut off."""

    size: int
    damaged: int
    last_step: int


def loss_at(step: int, attempt: int) -> float:
    """A loss that tells which attempt it is of."""
    return 3.0 / (1 + step / 1000) + attempt / 1024


def resumes(steps: int) -> tuple[tuple[int, int], ...]:
    """(step at which the worker died, checkpoint from which it went on), twice."""
    first, second = steps // 3, 2 * steps // 3
    return (first + 137, first - first % SAVE_EVERY), (second + 61, second - second % SAVE_EVERY)


def attempt_of(step: int, steps: int) -> int:
    """Which attempt the folded state has a step from."""
    return sum(step > back for _, back in resumes(steps))


def write_long_journal(path: Path, steps: int) -> Written:
    """Write it; the last line is cut in its middle."""
    damaged = 0
    with path.open("wb") as file:
        for number, line in enumerate(_lines(steps)):
            file.write(line)
            if number % DAMAGE_EVERY == DAMAGE_EVERY - 1:
                file.write(GARBAGE[damaged % len(GARBAGE)] + b"\n")
                damaged += 1
        size = file.tell() - 40
        file.truncate(size)
    # Where a checkpoint falls on the last step, it is its event that is cut.
    return Written(size, damaged, steps - (steps % SAVE_EVERY > 0))


def _lines(steps: int) -> Iterator[bytes]:
    seq = 0
    elapsed = 0.0

    def line(type_: str, fields: bytes) -> bytes:
        nonlocal seq, elapsed
        seq, elapsed = seq + 1, elapsed + 0.0864
        return b'{"v":1,"seq":%d,"time":%.3f,"elapsed":%.3f,"type":"%b",%b}\n' % (
            seq - 1, 1.8e9 + elapsed, elapsed, type_.encode(), fields)

    yield line("started", b'"pid":1')
    yield line("loaded", b'"parameters":9000000,"trainable_parameters":150000,"total_steps":%d,"device":"cpu"' % steps)
    step = 0
    for attempt, (died, back) in enumerate((*resumes(steps), (steps, 0))):
        while step < died:
            step += 1
            yield line("step", b'"step":%d,"epoch":%.4f,"total_steps":%d,"metrics":%b' % (
                step, step / steps, steps, orjson.dumps({
                    "train/loss": loss_at(step, attempt), "train/grad_norm": 0.5 + step % 7 / 10,
                    "train/learning_rate": 2e-4 * (1 - step / steps), "perf/tokens_per_second": 4200.0 + step % 100,
                    "memory/peak_allocated": 9e9})))
            if step % EVAL_EVERY == 0:
                yield line("eval", b'"step":%d,"metrics":{"eval/loss":%.6f}' % (step, loss_at(step, attempt)))
            if step % SAVE_EVERY == 0:
                old = step - KEPT * SAVE_EVERY
                removed = b'"checkpoints/step-%08d"' % old if old > 0 else b""
                yield line("checkpoint", b'"step":%d,"path":"checkpoints/step-%08d","verified":true,"removed":[%b]' % (
                    step, step, removed))
        if back:
            yield line("resumed", b'"step":%d,"checkpoint":"checkpoints/step-%08d","changes":{},"attempt":%d' % (
                back, back, attempt + 1))
            yield line("started", b'"pid":1')
            step = back


def assert_folded(follower: "RunFollower", written: Written, steps: int) -> None:
    """The state is that of the branch that lasted, with exact values, in no more bytes than they need."""
    state, last = follower.state, written.last_step
    assert (state.journal_state, state.step, state.total_steps) == ("running", last, steps)
    assert state.resumed_from == resumes(steps)[1][1]
    assert (follower.corrupt, state.unknown, state.repeated) == (written.damaged, 0, 0)
    losses = state.metrics["train/loss"]
    assert losses.steps == array("q", range(1, last + 1))
    assert losses.values == array("d", (loss_at(step, attempt_of(step, steps)) for step in range(1, last + 1)))
    assert all(later > earlier for earlier, later in pairwise(losses.elapsed[::1000]))
    assert len(state.metrics) == 6
    evaluations = state.metrics["eval/loss"]
    assert list(evaluations.steps) == list(range(EVAL_EVERY, last + 1, EVAL_EVERY))
    # The last checkpoint's event is the line that was cut.
    newest = (last - 1) // SAVE_EVERY * SAVE_EVERY
    assert [checkpoint.step for checkpoint in state.checkpoints][-2:] == [newest - SAVE_EVERY, newest]
    assert len(state.checkpoints) <= KEPT + 1
    columns = {id(column): len(column) * column.itemsize for series in state.metrics.values()
               for column in (series.steps, series.elapsed, series.values)}
    assert sum(columns.values()) == 8 * (7 * last + 3 * len(evaluations))


def write_many_runs(home: Path, runs: int) -> None:
    """So many ended runs of sixty steps each."""
    for number in range(runs):
        path = home / "runs" / f"{20250101 + number % 28}-{number:06}-many-{number % 65536:04x}"
        path.mkdir(parents=True)
        (path / "status.json").write_bytes(b"{}")
        with (path / "events.jsonl").open("wb") as file:
            for step in range(1, 61):
                event = {"v": 1, "seq": step, "time": 1.8e9 + step, "elapsed": float(step), "type": "step", "step": step,
                         "total_steps": 60, "metrics": {"train/loss": loss_at(step, 0)}}
                file.write(orjson.dumps(event) + b"\n")
            file.write(b'{"v":1,"seq":61,"time":1.8e9,"elapsed":61.0,"type":"ended","outcome":"finished"}\n')
