"""Obeys the run's control file between steps: stop, save, sample."""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.engine.runs.control import Command, ControlReader
from workbench.worker.reporter import Reporter
from workbench.worker.stopping import StopRequestedError


class ControlCallback(TrainerCallback):
    """Reads commands after each step, acknowledges each, and hands the work to the callbacks that come after it."""

    def __init__(self, reporter: Reporter, sample: Callable[[], None], save: Callable[[], None]) -> None:
        self._reporter = reporter
        self._reader = ControlReader(reporter.run)
        self._sample = sample
        self._save = save
        self.stopping = False

    def request_stop(self) -> None:
        """Stop after the current step (from a signal handler: only a flag is set)."""
        self.stopping = True

    def check_before_training(self) -> None:
        """Raise StopRequestedError when the run was told to stop while it loaded."""
        self._obey()
        if self.stopping:
            raise StopRequestedError

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                    **kwargs: Any) -> TrainerControl:
        """Obey what came in during the step."""
        self._obey()
        if self.stopping:
            control.should_training_stop = True
        # The last step is logged too: it is rarely one of every `logging_steps`.
        control.should_log |= self.stopping or state.global_step >= state.max_steps
        return control

    def _obey(self) -> None:
        for command in self._reader.read():
            self._reporter.command(command, self._carry_out(command))

    def _carry_out(self, command: Command) -> str:
        if command.name == "stop":
            self.stopping = True
            return "stopping after this step"
        if command.name == "save":
            self._save()
            return "saving"
        self._sample()
        return "sampling"
