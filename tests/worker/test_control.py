"""What the worker's callback makes of a stop."""

import shutil

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from workbench.engine.errors import RunError
from workbench.engine.runs.directory import create_run_directory
from workbench.worker.callbacks.control import ControlCallback
from workbench.worker.reporter import Reporter

pytestmark = pytest.mark.slow


def test_the_last_step_is_logged_whether_it_is_planned_or_asked_for() -> None:
    run = create_run_directory("obedient")
    callback = ControlCallback(Reporter(run), sample=lambda: None, save=lambda: None)
    arguments = TrainingArguments(output_dir=str(run.path), use_cpu=True)
    state = TrainerState(max_steps=3, global_step=2)
    going = callback.on_step_end(arguments, state, TrainerControl())
    assert (going.should_training_stop, going.should_log) == (False, False)
    callback.request_stop()
    stopping = callback.on_step_end(arguments, state, TrainerControl())
    assert (stopping.should_training_stop, stopping.should_log) == (True, True)
    callback.stopping, state.global_step = False, 3
    ended = callback.on_step_end(arguments, state, TrainerControl())
    assert (ended.should_training_stop, ended.should_log) == (False, True)


def test_who_lost_its_run_trains_for_nobody() -> None:
    run = create_run_directory("deleted")
    callback = ControlCallback(Reporter(run), sample=lambda: None, save=lambda: None)
    callback.check_before_training()
    shutil.rmtree(run.path)
    with pytest.raises(RunError, match=f"The journal of {run.id} is not in {run.path} any more"):
        callback.on_step_end(TrainingArguments(output_dir="/nowhere", use_cpu=True), TrainerState(max_steps=3),
                             TrainerControl())
    assert not run.path.exists()
