"""Obeys the run's control file between steps: stop, pause, save, sample."""

from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.engine.runs.control import Command, ControlReader
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.journal import JournalReader
from workbench.worker.progress import ends_epoch
from workbench.worker.reporter import Reporter
from workbench.worker.stopping import PauseRequestedError, StopRequestedError


def _nothing() -> None:
    """Where nobody wants to know."""


class ControlCallback(TrainerCallback):
    """Reads commands after each step, acknowledges each, and hands the work to the callbacks that come after it."""

    def __init__(self, reporter: Reporter, sample: Callable[[], None], save: Callable[[Command], None],
                 before_a_log: Callable[[], None] = _nothing, on_pause: Callable[[], None] = _nothing) -> None:
        """`save` acknowledges its command itself; `before_a_log` is called before a log that is made only since
        training stops, `on_pause` when it will pause after this step."""
        self._reporter = reporter
        self._reader = ControlReader(reporter.run, acknowledged(reporter.run))
        self._sample = sample
        self._save = save
        self._before_a_log = before_a_log
        self._on_pause = on_pause
        self.stopping = False
        self.pausing = False

    def request_stop(self) -> None:
        """Stop after the current step (from a signal handler: only a flag is set)."""
        self.stopping = True

    def check_before_training(self) -> None:
        """Raise StopRequestedError or PauseRequestedError when the run was told so while it loaded."""
        self._obey()
        if self.stopping:
            raise StopRequestedError
        if self.pausing:
            raise PauseRequestedError

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                    **kwargs: Any) -> TrainerControl:
        """Obey what came in during the step."""
        self._obey()
        last = state.global_step >= state.max_steps
        # Who stops wants no more of it; after the last step nothing is left to pause.
        self.pausing &= not self.stopping and not last
        if self.pausing:
            self._on_pause()
        control.should_training_stop |= self.stopping or self.pausing
        # The last step is logged too: it is rarely one of every `logging_steps`.
        if (self.stopping or last) and not control.should_log:
            self._before_a_log()
            control.should_log = True
        return control

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                     **kwargs: Any) -> TrainerControl:
        """Who stops in the middle of an epoch waits for no evaluation of it: transformers takes it for the end."""
        if (self.stopping or self.pausing) and not ends_epoch(state):
            control.should_evaluate = False
        return control

    def _obey(self) -> None:
        self._reporter.refuse_lost_run()
        for command in self._reader.read():
            if command.name == "save":
                self._save(command)
            else:
                self._reporter.command(command, self._carry_out(command))

    def _carry_out(self, command: Command) -> str:
        if command.name == "stop":
            self.stopping = True
            return "stopping after this step"
        if command.name == "pause":
            self.pausing = True
            return "pausing after this step"
        self._sample()
        return "sampling"


def acknowledged(run: RunDirectory) -> Callable[[Mapping[str, Any]], bool]:
    """Tells of a line of the control file whether a worker before this one answered it. By its id: clocks are set."""
    known: set[str] = set()
    if run.control.exists():
        events = JournalReader(run.events).read()
        known.update(str(event.get("id")) for event in events if event.get("type") == "command")
    return lambda line: str(line.get("id")) in known
