"""The worker's voice: everything it has to say goes through here, into the run's journal and samples file."""

import mmap
import os
from collections.abc import Mapping
from typing import Any

import orjson

from workbench.engine.errors import RunError
from workbench.engine.redaction import redact
from workbench.engine.runs.control import Command
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.journal import Journal
from workbench.engine.runs.postmortem import Ending
from workbench.engine.text import sanitise


class Reporter:
    """Typed events of one run. The one writer of its journal while the worker lives."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._journal = Journal(run.events)

    def started(self) -> None:
        """The worker runs."""
        self._journal.append("started", pid=os.getpid())

    def resumed(self, step: int) -> None:
        """The samples after this step, and what follows them, belong to an abandoned branch; -1: all that there are."""
        if self.run.samples.exists():
            with self.run.samples.open("ab") as file:
                # On a line of its own, also after a writer that was killed in the middle of one.
                file.write(b"\n" + orjson.dumps({"resumed": step}) + b"\n")

    def said(self, words: str) -> bool:
        """Whether the journal holds these words, of which it may have a million lines."""
        with self.run.events.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as journal:
            return journal.find(words.encode()) >= 0

    def refuse_lost_run(self) -> None:
        """Raise RunError where the run's directory was deleted or moved: nobody would see what comes, or could stop
        it, and a checkpoint would make half a run of it."""
        if not self._journal.in_place:
            raise RunError(f"The journal of {self.run.id} is not in {self.run.path} any more, so training ends.")

    def phase(self, phase: str) -> None:
        """What happens before the first step, in words for the header."""
        self._journal.append("phase", phase=phase)

    def loaded(self, *, parameters: int, trainable_parameters: int, total_steps: int, device: str,
               dtype: str, device_name: str = "cpu") -> None:
        """Model and data are ready; `device_name` is what the driver calls the GPU."""
        self._journal.append("loaded", parameters=parameters, trainable_parameters=trainable_parameters,
                             total_steps=total_steps, device=device, dtype=dtype, device_name=device_name)

    def probed(self, **fields: Any) -> None:
        """What the memory probe measured; the fields of `worker.probe.Probe.to_event` and its seconds."""
        self._journal.append("probed", **fields)

    def step(self, step: int, epoch: float | None, total_steps: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a training step, by their full names (`train/loss`)."""
        self._journal.append("step", step=step, epoch=epoch, total_steps=total_steps, metrics=dict(metrics))

    def eval(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of an evaluation."""
        self._journal.append("eval", step=step, metrics=dict(metrics))

    def samples(self, step: int, prompts: list[str], texts: list[str]) -> None:
        """What the model answered to each prompt at a step."""
        lines = b"".join(orjson.dumps({"step": step, "prompt": redact(sanitise(prompt)),
                                      "text": redact(sanitise(text))}) + b"\n"
                         for prompt, text in zip(prompts, texts, strict=True))
        with self.run.samples.open("ab") as file:
            file.write(lines)
        self._journal.append("sample", step=step, count=len(texts))

    def checkpoint(self, step: int, path: str, removed: list[str], best: float | None = None) -> None:
        """A checkpoint is complete and verified; older ones were deleted. `best`: the metric that makes it the best."""
        chosen = {} if best is None else {"best": True, "metric": best}
        self._journal.append("checkpoint", durable=True, step=step, path=path, verified=True, removed=removed, **chosen)

    def command(self, command: Command, result: str) -> None:
        """A command was obeyed, or why not."""
        self._journal.append("command", id=command.id, command=command.name, result=result)

    def alert(self, message: str, level: str = "warning", step: int = 0) -> None:
        """Something the user should know."""
        self._journal.append("alert", level=level, message=message, step=step)

    def guarded(self, check: str, *, step: int, tensors: int) -> None:
        """A guard looked and found all well: `moved` (every trained tensor it could ask for moved), or `frozen` (every
        frozen one has the bits it had)."""
        self._journal.append("guarded", check=check, step=step, tensors=tensors)

    def paused(self, step: int, checkpoint: str | None) -> None:
        """The last word for now: training goes on from this checkpoint, or from the beginning."""
        self._journal.append("paused", durable=True, step=step, checkpoint=checkpoint)

    def ended(self, ending: Ending, **fields: Any) -> None:
        """The last word."""
        self._journal.append("ended", durable=True, **ending.to_event(), **fields)
