"""What the worker's callback makes of a stop."""

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from workbench.engine.runs.directory import create_run_directory
from workbench.worker.callbacks.control import ControlCallback
from workbench.worker.reporter import Reporter

pytestmark = pytest.mark.slow


def test_the_step_at_which_a_run_is_stopped_is_logged() -> None:
    run = create_run_directory("obedient")
    callback = ControlCallback(Reporter(run), sample=lambda: None, save=lambda: None)
    arguments, state = TrainingArguments(output_dir=str(run.path), use_cpu=True), TrainerState()
    going = callback.on_step_end(arguments, state, TrainerControl())
    assert (going.should_training_stop, going.should_log) == (False, False)
    callback.request_stop()
    stopping = callback.on_step_end(arguments, state, TrainerControl())
    assert (stopping.should_training_stop, stopping.should_log) == (True, True)
