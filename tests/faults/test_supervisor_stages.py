"""Pipelines over light workers: a stage is resumed in place, those after it wait again, and none hangs."""

import signal
import sys
import time

import pytest

from tests.faults.stand_ins import (
    FINISHES,
    TRAINS,
    StandIn,
    any_plan,
    events,
    identity,
    look,
    new_chain,
    supervise,
    supervisor_command,
    token_in,
    trained,
    use_stand_in,
    wait_for,
)
from workbench.engine.errors import RunError
from workbench.engine.recipe_file import parse_recipe
from workbench.engine.runs import launcher
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.liveness import lock_holder
from workbench.engine.runs.orders import pause_run, stop_run
from workbench.engine.runs.resume import prepare_resume
from workbench.engine.runs.store import list_runs, summarise

pytestmark = pytest.mark.slow


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return use_stand_in(monkeypatch)


def states(runs: list[RunDirectory]) -> list[str]:
    return [summarise(run).state for run in runs]


def test_a_crashed_stage_goes_on_in_place_and_the_others_wait_again(home: object, stand_in: StandIn) -> None:
    runs = first, second, third = new_chain(3)
    stand_in(FINISHES)
    supervise(first, TRAINS)
    wait_for(trained(first, 6))
    for run in (second, third):
        supervise(run, FINISHES)
    wait_for(lambda: states(runs)[1:] == ["waiting", "waiting"])
    for role in ("supervisor", "worker"):
        identity(first, role).signal(signal.SIGKILL)
    wait_for(lambda: summarise(first).state == "crashed")
    # At once: the stages that wait have not noticed yet, and must not end after the first goes on.
    resumption = prepare_resume(third, any_plan)
    assert resumption.run == first
    assert resumption.later == (second, third)
    assert resumption.start() == runs
    wait_for(lambda: states(runs) == ["finished"] * 3)
    assert [summary.id for summary in list_runs()] == [run.id for run in reversed(runs)], "no new runs were made"
    assert [event["checkpoint"] for event in events(first, "resumed")] != [None]
    assert [event["checkpoint"] for event in events(second, "resumed")] == [None]
    assert look(second).state.explanation is None
    with pytest.raises(RunError, match="All 3 stages of chain are finished"):
        prepare_resume(first, any_plan)


def test_those_after_a_paused_stage_go_on_waiting(home: object, stand_in: StandIn) -> None:
    runs = first, second, third = new_chain(3)
    stand_in(FINISHES)
    supervise(first, TRAINS)
    for run in (second, third):
        supervise(run, FINISHES)
    wait_for(lambda: look(first).state.step > 2 and states(runs)[1:] == ["waiting", "waiting"])
    pause_run(first)
    # One of those that wait is paused as well: it does not start when its turn comes.
    assert "it does not start until it is resumed" in pause_run(third).words[0]
    wait_for(lambda: states(runs) == ["paused", "waiting", "paused"] and lock_holder(first.lock) is None)
    time.sleep(1)
    assert states(runs) == ["paused", "waiting", "paused"]
    assert prepare_resume(second, any_plan).start() == [first]
    wait_for(lambda: states(runs) == ["finished", "finished", "paused"])
    wait_for(lambda: lock_holder(third.lock) is None)
    assert prepare_resume(first, any_plan).start() == [third]
    wait_for(lambda: states(runs) == ["finished"] * 3)


def test_a_stage_without_supervisor_does_not_hang_the_chain(home: object, stand_in: StandIn,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    runs = first, second, third = new_chain(3)
    supervise(first, TRAINS)
    for run in (second, third):
        supervise(run, FINISHES)
    wait_for(lambda: look(first).state.step > 2 and states(runs)[1:] == ["waiting", "waiting"])
    stop_run(first)
    wait_for(lambda: states(runs) == ["stopped"] * 3 and all(lock_holder(run.lock) is None for run in runs))

    def broken(run: RunDirectory, arguments: list[str]) -> list[str]:
        if run == second:
            return [sys.executable, "-c", "import sys; sys.exit('no memory for it')"]
        return supervisor_command(run, FINISHES, token_in(arguments))

    monkeypatch.setattr(launcher, "supervisor_command", broken)
    with pytest.raises(RunError) as error:
        prepare_resume(first, any_plan).start()
    assert error.value.message == (f"{first.id} goes on, but what comes after it does not wait: The supervisor of "
                                   f"{second.id} did not start: no memory for it.")
    assert error.value.hint == (f"Once it has finished, go on with {second.id}, {third.id}: workbench resume "
                                f"{second.id}")
    wait_for(lambda: states(runs) == ["finished", "stopped", "stopped"])
    assert not list(second.path.glob("resume-*.json"))
    stand_in(FINISHES)
    assert prepare_resume(third, any_plan).start() == [second, third]
    wait_for(lambda: states(runs) == ["finished"] * 3)


def test_a_launch_whose_later_stage_fails_to_start_says_so(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run: RunDirectory, arguments: list[str]) -> list[str]:
        if run.name == "chain-2-dpo":
            return [sys.executable, "-c", "import sys; sys.exit('no memory for it')"]
        return supervisor_command(run, FINISHES, token_in(arguments))

    monkeypatch.setattr(launcher, "supervisor_command", broken)
    recipe = parse_recipe("""\
name: chain
model: tiny-base
stages:
  - {dataset: glossary}
  - {objective: dpo, dataset: glossary-pairs}
  - {objective: dpo, dataset: glossary-pairs}
""")
    with pytest.raises(RunError, match=r"trains, but what comes after it does not wait: .* no memory for it"):
        launcher.launch(recipe, any_plan(recipe))
    first, second, third = reversed([summary.run for summary in list_runs()])
    wait_for(lambda: states([first, second, third]) == ["finished", "stopped", "stopped"])
    assert (look(third).state.explanation or "").startswith("Not started: The supervisor of ")
