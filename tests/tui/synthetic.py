"""Run directories as a supervisor and a worker leave them, written without either."""

import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from workbench.engine.atomic import write_json
from workbench.engine.catalog.models import resolve_model
from workbench.engine.hardware.gpus import Gpu
from workbench.engine.hardware.host import HostSnapshot
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import load_recipe, recipe_to_yaml
from workbench.engine.runs import resume
from workbench.engine.runs.control import Command
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.inquest import ending_of_exception
from workbench.engine.runs.journal import Journal
from workbench.engine.runs.manifest import write_complete
from workbench.engine.runs.postmortem import FINISHED
from workbench.engine.runs.resumable import TRAINING_STATE, facts
from workbench.engine.runs.store import read_json
from workbench.worker.reporter import Reporter

PROMPTS = ["What is a gradient?", "What does LoRA train?"]
ANSWERS = {
    0: ["The the of a a of the.", ""],
    50: ["A gradient is a a direction.", "LoRA trains [bold]all[/bold] weights."],
    100: ["A gradient is the direction of steepest rise.", "LoRA trains two small matrices beside each frozen weight."],
}
GIB = 1024**3
H200 = Gpu(index=0, uuid="GPU-0", name="NVIDIA H200", total_bytes=141 * GIB, free_bytes=128 * GIB,
           used_bytes=13 * GIB, utilization=87, temperature=61, power_watts=412.0)
HOST = HostSnapshot(cpu_percent=43.0, ram_total_bytes=16 * GIB, ram_available_bytes=10 * GIB, load=1.0, cores=8)


def no_gpu() -> tuple[list[Gpu], HostSnapshot]:
    return [], HOST


def one_gpu() -> tuple[list[Gpu], HostSnapshot]:
    return [H200], HOST


class OutOfMemoryError(RuntimeError):
    """As torch's own is called."""

    __module__ = "torch"


def training_step() -> None:
    """As the trainer's own is called."""
    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.99 GiB of "
                           "which 1.12 GiB is free.")


class SyntheticRun:
    """A run of 300 steps, written step by step through the worker's own reporter."""

    def __init__(self, home: Path, name: str, *, hour: int = 10, tail: str = "c0de") -> None:
        path = home / "runs" / f"20260101-{hour:02}0000-{name}-{tail}"
        path.mkdir(parents=True)
        self.run = RunDirectory(path)
        self.reporter = Reporter(self.run)
        self.random = random.Random(name)
        self.recipe()
        # A run without a status is taken for one that is about to start.
        self.beat("running")

    def beat(self, phase: str) -> None:
        """The supervisor's heartbeat."""
        write_json(self.run.status, {"phase": phase, "heartbeat_monotonic": time.monotonic()}, durable=False)

    def start(self, total_steps: int = 300) -> "SyntheticRun":
        """Up to the first step."""
        self.reporter.started()
        self.reporter.phase("loading libraries")
        self.reporter.loaded(parameters=9_000_000, trainable_parameters=150_000, total_steps=total_steps,
                             device="cpu", dtype="float32")
        self.log("loading the model", "\x1b[31mred\x1b[0m words", "  0%|    | 0/300\r 10%|#   | 30/300")
        return self

    def predict(self, estimate: float, rehearsed: float, probed: float, for_rows: float) -> "SyntheticRun":
        """What is known of the peak on a GPU before the first step, in bytes; `for_rows` of 312 tokens."""
        write_json(self.run.plan, {"plan": {"tuning": "lora", "tunings": {"lora": {"peak_bytes": round(estimate)}}}})
        with Journal(self.run.events) as journal:
            journal.append("rehearsed", peak_bytes=round(rehearsed))
        self.reporter.probed(device="cuda", peak_allocated=round(probed), peak_reserved=round(probed * 1.1),
                             peak_resident=None, by_phase={}, rows=8, tokens=312, rows_looked_at=None,
                             estimated=round(for_rows), seconds=2.1)
        return self

    def trains_for(self, objective: str, stage: int = 0, of: int = 0, previous: str | None = None) -> "SyntheticRun":
        """What its plan says: the objective, and its place in a pipeline called `chain` when `stage` is given."""
        place = {"id": "chain-id", "name": "chain", "stage": stage, "of": of, "previous": previous} if stage else None
        write_json(self.run.plan, {"recipe": {"objective": objective}, "pipeline": place})
        return self

    def steps(self, first: int, last: int, total_steps: int = 300, **more: float) -> "SyntheticRun":
        """Steps with a falling, noisy loss, samples and evaluations on the way."""
        for step in range(first, last + 1):
            loss = 0.5 + 2.5 * math.exp(-step / 60) + self.random.gauss(0, 0.08)
            metrics = {"train/loss": loss, "train/grad_norm": 0.6 + self.random.random() / 5,
                       "train/learning_rate": 2e-4 * (1 - step / total_steps),
                       "perf/tokens_per_second": 4200 + self.random.random() * 300,
                       "train/num_tokens": step * 512.0, "memory/resident": 0.9 * GIB, **more}
            self.reporter.step(step, step / 100, total_steps, metrics)
            if step % 50 == 0:
                self.reporter.eval(step, {"eval/loss": loss + 0.1, "eval/runtime": 0.4})
                self.sample(step)
        return self

    def sample(self, step: int) -> "SyntheticRun":
        """The answers at a step."""
        self.reporter.samples(step, PROMPTS, ANSWERS.get(step, ANSWERS[100]))
        return self

    def log(self, *lines: str) -> None:
        """What the worker prints."""
        with self.run.log.open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def finish(self) -> "SyntheticRun":
        """The end of a good run."""
        self.run.model.mkdir()
        self.reporter.ended(FINISHED)
        return self

    def recipe(self, **more: Any) -> "SyntheticRun":
        """The resolved recipe it was launched with: `more` are sections."""
        made = Recipe.model_validate({"model": "tiny-base", "dataset": "glossary", "name": self.run.name, **more})
        self.run.recipe.write_text(recipe_to_yaml(made, full=True))
        return self

    def checkpoint(self, step: int) -> "SyntheticRun":
        """A checkpoint that verifies."""
        def fill(directory: Path) -> None:
            for name in TRAINING_STATE:
                (directory / name).write_bytes(b"state")

        path = f"checkpoints/step-{step:08}"
        about = facts(load_recipe(self.run.recipe), resolve_model("tiny-base"), self.run.path)
        write_complete(self.run.path / path, fill, {"step": step, **about})
        self.reporter.checkpoint(step, path, [])
        return self

    def fail(self) -> "SyntheticRun":
        """The end of a run that needed too much."""
        self.checkpoint(100)
        try:
            training_step()
        except OutOfMemoryError as error:
            self.reporter.ended(ending_of_exception(self.run, error))
        return self

    def event(self, type_: str, **fields: Any) -> "SyntheticRun":
        """An event of the supervisor, while no worker writes."""
        with Journal(self.run.events) as journal:
            journal.append(type_, **fields)
        self.reporter = Reporter(self.run)
        return self

    def acknowledge(self, command: dict[str, Any], result: str) -> None:
        """The worker's answer to a command."""
        self.reporter.command(Command(command["id"], command["command"]), result)


@contextmanager
def supervised(run: RunDirectory, lock: str = "lock") -> Iterator[None]:
    """Another process holds the run's lock, as a supervisor does; its `worker.lock` as a worker."""
    code = ("import sys; from pathlib import Path; from workbench.engine.runs.liveness import acquire_lock; "
            "assert acquire_lock(Path(sys.argv[1])) is not None; print('held', flush=True); sys.stdin.read()")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen([sys.executable, "-c", code, str(run.path / lock)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.kill()


def watch_starts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """No supervisor is started to go on with a run: what each would have been asked for is listed, with its run."""
    asked: list[dict[str, Any]] = []

    def start(run: RunDirectory, token: str | None = None) -> None:
        asked.append({"run": run.id, **read_json(run.resume_request(token))} if token else {"run": run.id})

    monkeypatch.setattr(resume, "start_supervisor", start)
    return asked


def append_damage(run: RunDirectory) -> None:
    """A complete line that is no event."""
    with run.events.open("ab") as file:
        file.write(b"{broken\n")


