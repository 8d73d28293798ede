"""A supervisor that meets what it cannot go on after says so, and ends nobody else's work with it."""

import subprocess
import sys
import time

import pytest

from tests.faults.stand_ins import ROOT, SUPERVISOR, TRAINS, WORKER, look, new_run, supervise, trained, wait_for
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.heartbeat import meanwhile
from workbench.engine.runs.journal import find_ending
from workbench.engine.runs.orders import pause_run, stop_run
from workbench.engine.runs.store import heartbeat_age
from workbench.engine.runs.supervisor import Supervisor

pytestmark = pytest.mark.slow

# Between the pause's checkpoint and the worker's end: when a large model is saved there are minutes for it.
PAUSES_SLOWLY = TRAINS.replace("            sys.exit(0)", "            time.sleep(3)\n            sys.exit(0)")


FAILS = """\
import sys
from workbench.engine.runs import aftermath
def cannot(*_):
    raise ValueError("a recipe of another age")
aftermath.prepare_restart = cannot
""" + SUPERVISOR


def test_a_stop_during_a_pause_is_not_lost(home: object) -> None:
    assert PAUSES_SLOWLY != TRAINS
    run = new_run()
    process = supervise(run, PAUSES_SLOWLY)
    wait_for(trained(run, 3))
    pause_run(run)
    wait_for(lambda: "pause" in run.events.read_text() and '"type":"paused"' in run.events.read_text())
    run.control.open("a").write('{"id":"00000001","command":"stop","time":0}\n')
    assert process.wait(20) == 0
    assert look(run).name == "stopped"
    assert stop_run(run).words == (f"{run.id} is stopped already.",)


def test_what_a_supervisor_cannot_go_on_after_is_an_end(home: object) -> None:
    run = new_run(resume=2)
    found = subprocess.run([sys.executable, "-c", FAILS, run.id, WORKER + "step(1)\nos.kill(os.getpid(), 9)"], cwd=ROOT,
                           capture_output=True, text=True, timeout=60)
    assert found.returncode == 1, found.stderr
    assert "Traceback" in found.stderr
    ending = find_ending(run.events)
    assert ending is not None
    assert (ending["outcome"], ending["cause"]) == ("failed", "error")
    assert ending["explanation"] == "Its supervisor could not go on. ValueError: a recipe of another age"
    assert f"workbench resume {run.id}" in ending["suggestion"]


def test_reading_a_large_checkpoint_is_no_stall(home: object) -> None:
    run: RunDirectory = new_run()
    minder = Supervisor(run, ["true"])
    with meanwhile(minder._write_status):
        time.sleep(2.5)
        age = heartbeat_age(run)
    run.status.unlink()  # it names this very process as one to be ended
    assert age is not None
    assert age < 2
