"""The commands that control runs, without any that trains: what they refuse, what they ask, what they print."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.unit.test_chat_target import make_run
from workbench.cli import app
from workbench.cli_support import last_lines
from workbench.engine.atomic import write_json
from workbench.engine.errors import InputError, RunError
from workbench.engine.runs import going_on, resume
from workbench.engine.runs.control import ControlReader, send_command
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.going_on import ResumeRequest, clear_desk, replace_recipe, saved_steps
from workbench.engine.runs.journal import Journal
from workbench.engine.runs.launcher import start_supervisor
from workbench.engine.runs.liveness import acquire_lock
from workbench.engine.runs.store import RunFollower


def run_command(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=answer)


def ended(home: Path, name: str, outcome: str = "stopped", **fields: object) -> RunDirectory:
    run = make_run(home, name)
    with Journal(run.events) as journal:
        journal.append("started")
        journal.append("ended", outcome=outcome, **fields)
    run.status.write_text("{}")
    return run


def test_deleting_asks_and_takes_no_silence_for_yes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = ended(home, "one"), ended(home, "two")
    refused = run_command("delete", "one").exception
    assert isinstance(refused, InputError)
    assert refused.hint == "Say so: workbench delete --yes"
    monkeypatch.setattr("workbench.cli_runs.is_asked", lambda: True)
    kept = run_command("delete", "one", answer="n\n")
    assert (kept.exit_code, one.path.is_dir()) == (1, True)
    assert "This deletes for good:\n  20260101-120000-one-0a1b  0 MiB" in kept.stdout
    assert "Nothing was deleted." in kept.stdout
    asked = run_command("delete", "one", answer="y\n")
    assert (asked.exit_code, one.path.exists()) == (0, False)
    both = run_command("delete", "--yes", "--json", "two", two.id)
    assert json.loads(both.stdout) == {"deleted": [two.id]}
    assert isinstance(run_command("delete", "two").exception, InputError)
    assert isinstance(run_command("delete", "--json", ended(home, "three").id).exception, InputError)


def test_what_was_deleted_before_an_error_is_said(home: Path) -> None:
    gone, kept = ended(home, "gone"), make_run(home, "kept")
    error = run_command("delete", "--yes", "gone", "kept").exception
    assert isinstance(error, RunError)
    assert error.message == f"{kept.id} has not ended, so it cannot be deleted. Deleted before it: {gone.id}."
    assert error.hint == f"Stop it first: workbench stop {kept.id}"


def test_orders_to_runs_at_rest(home: Path) -> None:
    stopped, finished = ended(home, "stopped"), ended(home, "finished", "finished")
    document = json.loads(run_command("stop", stopped.id, "--json").stdout)
    assert document == {"id": stopped.id, "command": "stop", "words": [f"{stopped.id} is stopped already."],
                        "deadline_seconds": 0.0}
    error = run_command("stop", finished.id).exception
    assert isinstance(error, RunError)
    assert error.message == f"{finished.id} is not running, so it cannot stop."
    paused = make_run(home, "paused")
    with Journal(paused.events) as journal:
        journal.append("paused", step=3, checkpoint=None)
    assert run_command("pause", "paused").stdout.splitlines()[:2] == [
        f"{paused.id} is paused already.", f"Go on: workbench resume {paused.id}"]
    crashed = ended(home, "crashed", "failed")
    with Journal(crashed.events) as journal:
        journal.append("resumed", step=1)
    for command in ("stop", "pause"):
        error = run_command(command, "crashed").exception
        assert isinstance(error, RunError)
        assert error.message == (f"{crashed.id} is not running, so it cannot {command}: its supervisor died, and its "
                                 "worker is gone.")


def test_what_a_failure_suggests_is_applied(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ended(home, "failed", "failed", cause="oom", explanation="Out of memory.", changes={
        "training.per_device_train_batch_size": 2, "training.gradient_accumulation_steps": 8})
    seen: list[ResumeRequest] = []
    monkeypatch.setattr(resume, "_start", lambda run, request, queue: seen.append(request))
    done = run_command("resume", "failed", "--apply", "--set", "training.learning_rate=0.5", "--detach")
    assert done.exit_code == 0, done.exception
    assert done.stderr == (f"{run.id} goes on from its beginning with training.gradient_accumulation_steps = 8, "
                           "training.learning_rate = 0.5, training.per_device_train_batch_size = 2.\n")
    request, = seen
    assert request.changes == {"training.per_device_train_batch_size": 2, "training.gradient_accumulation_steps": 8,
                               "training.learning_rate": 0.5}
    assert request.recipe is not None
    assert request.recipe["training"]["gradient_accumulation_steps"] == 8
    assert request.plan is not None
    nothing = run_command("resume", ended(home, "plain").id, "--apply").exception
    assert isinstance(nothing, RunError)
    assert "suggests no change that could be applied" in nothing.message


def test_a_request_comes_back_as_it_was_written_and_nonsense_does_not(home: Path) -> None:
    run = ended(home, "asked")
    request = ResumeRequest("checkpoints/step-00000012", 12, {"model": "tiny-base"}, {"name": "new"}, None, ("Note.",),
                            7)
    request.write(run, "0a1b")
    assert ResumeRequest.read(run, "0a1b") == request
    assert ResumeRequest.read(run, "0a1c") is None
    assert ResumeRequest.read(run, "../../0a1b") is None
    for nonsense in ({"step": "12"}, {"step": 12, "checkpoint": "checkpoints/step-00000013"},
                     {"step": 12, "checkpoint": "../other/step-00000012"}, {"step": 12, "checkpoint": 5}):
        write_json(run.resume_request("beef"), nonsense)
        assert ResumeRequest.read(run, "beef") is None


def test_a_desk_is_cleared_without_losing_anything(home: Path) -> None:
    run = ended(home, "desk")
    for step in (5, 10, 15):
        (run.checkpoints / f"step-{step:08d}").mkdir(parents=True)
    (run.checkpoints / ".partial-step-00000020").mkdir()
    run.samples.write_text('{"step":0,"prompt":"p","text":"t"}\n{"step":5,"prompt":"p","text":"t"}\n')
    assert clear_desk(run, 10, from_beginning=False) == [15]
    assert saved_steps(run) == [10, 5]
    assert clear_desk(run, 0, from_beginning=True) == [10, 5]
    assert sorted(path.name for path in run.checkpoints.glob("abandoned-*/*")) == [
        "step-00000005", "step-00000010", "step-00000015"]
    follower = RunFollower(run)
    follower.refresh()
    assert follower.samples == []


def test_the_recipe_before_is_kept(home: Path) -> None:
    run = ended(home, "changing")
    write_json(run.plan, {"recipe": {}, "plan": {"steps": 3}, "pipeline": {"id": "x"}})
    recipe = {"model": "tiny-base", "dataset": {"path": "glossary"}, "name": "changed"}
    replace_recipe(run, recipe, {"steps": 4})
    replace_recipe(run, {**recipe, "name": "again"}, None)
    assert "name: changing" in (run.path / "recipe-1.yaml").read_text()
    assert "name: changed" in (run.path / "recipe-2.yaml").read_text()
    assert "name: again" in run.recipe.read_text()
    plan = json.loads(run.plan.read_text())
    assert (plan["recipe"]["name"], plan["plan"], plan["pipeline"]) == ("again", None, {"id": "x"})


def test_commands_that_were_set_aside_are_read_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(home, "ordered")
    monkeypatch.setattr("workbench.engine.runs.control.lock_holder", lambda lock: 1)
    reader = ControlReader(run)
    assert reader.set_aside() == []
    first = send_command(run, "save")
    assert reader.read() == [first]
    unread = send_command(run, "stop")
    assert reader.set_aside() == [unread]
    assert not run.control.exists()
    assert reader.read() == ControlReader(run).read() == []
    later = send_command(run, "sample")
    assert reader.read() == ControlReader(run).read() == [later]


def test_a_supervisor_that_finds_another_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ended(home, "taken")
    lock = acquire_lock(run.lock)
    assert lock is not None
    ResumeRequest(None, 0).write(run, "ab")
    # Asked from this process: it holds the lock itself, and would not see it.
    monkeypatch.setattr("workbench.engine.runs.launcher.lock_holder", lambda lock: 1)
    with pytest.raises(RunError, match=f"{run.id} is already running: somebody else was quicker"):
        start_supervisor(run, token="ab")
    assert run.resume_request("ab").exists(), "it was not for another to take"
    assert going_on.ResumeRequest.read(run, "ab") is not None


def test_the_last_lines_of_a_log_of_any_size(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(f"line {number} " + "x" * 1000 for number in range(3000)))
    assert [line[:9] for line in last_lines(log, 3)] == ["line 2997", "line 2998", "line 2999"]
    assert len(last_lines(log, 5000)) == 3000
    log.write_text("alone")
    assert last_lines(log, 5) == ["alone"]
    log.write_text("")
    assert last_lines(log, 5) == []
