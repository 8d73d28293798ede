"""Light workers for tests of the supervisor: real processes that keep the protocol, without a model."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from workbench.engine.atomic import write_json
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.planning import Plan, make_plan
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import parse_recipe, recipe_to_yaml
from workbench.engine.runs import launcher
from workbench.engine.runs.chain import StageOf
from workbench.engine.runs.directory import RunDirectory, create_run_directory
from workbench.engine.runs.liveness import ProcessIdentity
from workbench.engine.runs.store import RunFollower, read_status

ROOT = Path(__file__).resolve().parents[2]

# A supervisor as the launcher starts it, over a worker that does what the test says instead of training. In a session
# of its own, and waited for by nobody: when it is killed its worker goes to init, as a user's does.
SUPERVISOR = """\
import sys
from workbench.engine.runs import escalation
from workbench.engine.runs.chain import StageOf
from workbench.engine.runs.directory import find_run
from workbench.engine.runs.supervisor import Supervisor
escalation.STOP_TO_TERM_SECONDS, escalation.TERM_TO_KILL_SECONDS = 2.0, 1.0
token = sys.argv[3] if len(sys.argv) > 3 else None
sys.exit(Supervisor(find_run(sys.argv[1]), [sys.executable, "-c", sys.argv[2]], token=token).main())
"""

# What every stand-in begins with: the worker's lock, its sign of life, its journal; `step(n)` trains a step, `save(n)`
# writes a checkpoint that verifies.
WORKER = """\
import os, signal, sys, threading, time
from pathlib import Path
from workbench.engine.catalog.models import resolve_model
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.control import ControlReader
from workbench.engine.runs.chain import StageOf
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.journal import Journal
from workbench.engine.runs.liveness import acquire_lock
from workbench.engine.runs.manifest import write_complete
from workbench.engine.runs.resumable import TRAINING_STATE, facts
run = RunDirectory(Path.cwd())
lock = acquire_lock(run.worker_lock)
if lock is None:
    sys.exit("there is a worker already")
about = facts(load_recipe(run.recipe), resolve_model("tiny-base"), run.path)
begin = int(sys.argv[sys.argv.index("--from") + 1][-8:]) if "--from" in sys.argv else 0
def beat():
    while True:
        run.beat.write_text(str(time.monotonic()))
        time.sleep(0.2)
threading.Thread(target=beat, daemon=True).start()
journal = Journal(run.events)
journal.append("started", pid=os.getpid())
control = ControlReader(run)
def step(number):
    journal.append("step", step=number, epoch=0.0, total_steps=1000, metrics={"train/loss": 1 / number})
def save(number):
    path = run.checkpoints / f"step-{number:08d}"
    path.parent.mkdir(exist_ok=True)
    fill = lambda partial: [(partial / name).write_text(str(number)) for name in ("weights", *TRAINING_STATE)]
    write_complete(path, fill, {**about, "step": number})
    journal.append("checkpoint", step=number, path=f"checkpoints/step-{number:08d}", verified=True)
def end(outcome, **fields):
    journal.append("ended", outcome=outcome, **fields)
    sys.exit(outcome == "failed")
"""
TRAINS = WORKER + """
for number in range(begin + 1, 1000):
    step(number)
    if number % 5 == 0:
        save(number)
    for command in control.read():
        journal.append("command", id=command.id, command=command.name, result="ok")
        if command.name == "stop":
            end("stopped", explanation="Stopped on request.")
        if command.name == "pause":
            save(number)
            journal.append("paused", step=number, checkpoint=f"checkpoints/step-{number:08d}")
            sys.exit(0)
    time.sleep(0.05)
"""
FINISHES = WORKER + """
step(begin + 1)
end("finished")
"""


def new_run(name: str = "stand-in", after: RunDirectory | None = None, pipeline: StageOf | None = None,
            **on_failure: Any) -> RunDirectory:
    """A run directory as the launcher makes it, with what its recipe says of failures."""
    run = create_run_directory(name, after)
    recipe = parse_recipe("model: tiny-base\ndataset: glossary\n")
    recipe = recipe.model_copy(update={"name": name, "on_failure": recipe.on_failure.model_copy(update=on_failure)})
    run.recipe.write_text(recipe_to_yaml(recipe, full=True))
    write_json(run.plan, {"recipe": recipe.model_dump(mode="json"), "plan": None,
                          "pipeline": pipeline.to_json() if pipeline else None})
    return run


def new_chain(length: int) -> list[RunDirectory]:
    """The runs of a pipeline."""
    runs: list[RunDirectory] = []
    for number in range(1, length + 1):
        before = runs[-1] if runs else None
        place = StageOf("20260101-120000-chain-1-0a1b", "chain", number, length, before.id if before else None)
        runs.append(new_run(f"chain-{number}", before, place))
    return runs


def supervise(run: RunDirectory, work: str, token: str | None = None) -> "subprocess.Popen[bytes]":
    """Start a supervisor over a stand-in; its words go to the run's supervisor.log, as the launcher's do."""
    with run.supervisor_log.open("ab") as log:
        return subprocess.Popen(supervisor_command(run, work, token), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                                stderr=log, start_new_session=True)


def supervisor_command(run: RunDirectory, work: str, token: str | None = None) -> list[str]:
    """As the launcher's, over a stand-in."""
    return [sys.executable, "-c", SUPERVISOR, run.id, work, *([token] if token else [])]


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def look(run: RunDirectory) -> RunFollower:
    """The run as it is now."""
    follower = RunFollower(run)
    follower.refresh()
    return follower


def identity(run: RunDirectory, role: str) -> ProcessIdentity:
    found = ProcessIdentity.from_json(read_status(run).get(role))
    assert found is not None
    return found


def trained(run: RunDirectory, steps: int) -> Callable[[], bool]:
    return lambda: look(run).state.step >= steps


def events(run: RunDirectory, type_: str) -> list[dict[str, object]]:
    return [event for line in run.events.read_text().splitlines() if (event := json.loads(line))["type"] == type_]


def any_plan(recipe: Recipe) -> Plan:
    return make_plan(recipe, None, [], host_snapshot())


def token_in(arguments: Sequence[str]) -> str | None:
    """The token of the request that a supervisor is started with; None for one that begins."""
    return arguments[arguments.index("--resume") + 1] if "--resume" in arguments else None


StandIn = Callable[[str], None]


def use_stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Makes supervisors that the engine starts itself get this work instead of training."""
    def use(work: str) -> None:
        monkeypatch.setattr(launcher, "supervisor_command",
                            lambda run, arguments: supervisor_command(run, work, token_in(arguments)))

    return use
