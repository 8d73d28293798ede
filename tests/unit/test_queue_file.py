"""The queue's file: changed by many at once, damaged, full of the dead; and the way of one run through it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.tui.synthetic import supervised
from workbench.engine.atomic import write_json
from workbench.engine.errors import RunError
from workbench.engine.hardware.gpus import Gpu, visible
from workbench.engine.hardware.host import HostSnapshot
from workbench.engine.paths import recipes_dir
from workbench.engine.planning import make_plan
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs import queue_file
from workbench.engine.runs.directory import RunDirectory, create_run_directory
from workbench.engine.runs.liveness import ProcessIdentity, acquire_lock, lock_holder, release_lock
from workbench.engine.runs.queue import CPU, Claim, Device, Entry, Queue, Refusal
from workbench.engine.runs.queue_file import (
    change_queue,
    damaged_files,
    hold_in_queue,
    join_queue,
    move_in_queue,
    read_queue,
)
from workbench.engine.runs.queue_wait import Turn, take_device, wait_in_queue, wants_of

GIB = 1024**3


def gpu(index: int, free: float, total: float = 24) -> Gpu:
    return Gpu(index, f"GPU-{index}{index}", "NVIDIA Test", int(total * GIB), int(free * GIB),
               int((total - free) * GIB), 0, 40, 50.0)


def planned(name: str, need: float | None = 8.0, **hardware: Any) -> RunDirectory:
    """A run with the plan that its launcher wrote."""
    run = create_run_directory(name)
    high = None if need is None else round((need - 0.5) * GIB)
    write_json(run.plan, {"plan": {"tuning": "lora", "gpus": [{"name": "NVIDIA Test"}],
                                   "tunings": {"lora": {"peak_bytes": 1, "high_bytes": high}, "full": {}}},
                          "recipe": {"hardware": hardware}})
    return run


def waiting(queue: Queue) -> list[str]:
    return [RunDirectory(Path(entry.run)).name for entry in queue.entries]


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Supervisors of other runs: enter `supervised(run)`."""
    with ExitStack() as stack:
        yield stack


def test_what_a_run_needs_is_its_plans_high_band_and_the_context(home: Path) -> None:
    wants = wants_of(planned("one", 18.5, gpus=["1", "GPU-22"], use_cpu=False))
    assert (wants.need_bytes, wants.gpus, wants.on_cpu, wants.for_gpu) == (round(18.5 * GIB), ("1", "GPU-22"),
                                                                            False, True)
    assert wants_of(planned("two", None, use_cpu=True)).need_bytes is None
    odd = create_run_directory("odd")
    assert wants_of(odd).need_bytes is None
    odd.plan.write_text('{"plan": [], "recipe": 3}')
    assert not wants_of(odd).for_gpu


def test_the_plan_of_a_real_recipe_says_what_it_needs(home: Path) -> None:
    recipe = load_recipe(recipes_dir() / "demo.yaml")
    plan = make_plan(recipe, None, [gpu(0, 20)], HostSnapshot(1.0, 64 * GIB, 60 * GIB, 0.1, 8))
    assert plan.comparison is not None
    estimate = plan.comparison[recipe.tuning].estimate
    assert estimate is not None
    run = create_run_directory("real")
    write_json(run.plan, {"plan": plan.to_json(), "recipe": recipe.model_dump(mode="json")})
    assert wants_of(run).need_bytes == estimate.high_bytes + GIB // 2
    assert wants_of(run).for_gpu


def test_order_hold_and_release(home: Path, held: ExitStack) -> None:
    runs = [planned(name) for name in ("a", "b", "c")]
    for run in runs:
        held.enter_context(supervised(run))
        join_queue(run)
    join_queue(runs[0])
    assert waiting(read_queue()) == ["a", "b", "c"]
    assert waiting(move_in_queue(runs[2], "first")) == ["c", "a", "b"]
    assert waiting(move_in_queue(runs[2], "down")) == ["a", "c", "b"]
    assert [entry.held for entry in hold_in_queue(runs[2], True).entries] == [False, True, False]
    assert [entry.held for entry in hold_in_queue(runs[2], False).entries] == [False, False, False]
    with pytest.raises(RunError, match="is queued, and not in the queue"):
        move_in_queue(planned("d"), "up")
    assert queue_file.queue_file().stat().st_mode & 0o777 == 0o600


def test_the_dead_and_the_deleted_are_left_out_by_the_next_writer(home: Path, held: ExitStack) -> None:
    dead, living, gone = planned("dead"), planned("living"), "20260101-000000-gone-c0de"
    for run in (dead, living):
        write_json(run.status, {"phase": "waiting"})
    held.enter_context(supervised(living))
    holder = lock_holder(living.lock)
    assert holder is not None
    write_json(home / "queue.json", {
        "entries": [{"run": run, "held": False, "since": 1.0} for run in (dead.id, gone, living.id)],
        "claims": [{"run": dead.id, "gpus": ["GPU-00"], "supervisor": 1},
                   {"run": gone, "gpus": ["GPU-11"], "supervisor": 1},
                   # It had a GPU under an earlier supervisor, and waits now.
                   {"run": living.id, "gpus": ["GPU-22"], "supervisor": holder + 1}]})
    assert change_queue(lambda queue: queue) == Queue((Entry(living.id, False, 1.0),), ())
    assert read_queue().claims == ()


def test_a_worker_that_lost_its_supervisor_keeps_its_gpu(home: Path) -> None:
    run = planned("orphan")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as worker:
        identity = ProcessIdentity.of(worker.pid)
        assert identity is not None
        write_json(run.status, {"worker": identity.to_json()})
        claim = Claim(run.id, ("GPU-00",), 1)
        assert change_queue(lambda queue: queue.claimed(claim)).claims == (claim,)
        assert change_queue(lambda queue: queue).claims == (claim,)
        worker.kill()
        worker.wait()
        assert change_queue(lambda queue: queue).claims == ()


@pytest.mark.parametrize("damage", [
    b"", b"{", b"[]", b"\xff\x00", b'{"entries": 3}', b'{"entries": [{"run": "../../etc", "held": false}]}',
    b'{"entries": [{"run": "20260101-000000-x-c0de", "held": "no"}], "claims": [null]}'])
def test_a_damaged_file_is_set_aside_and_claims_come_from_the_runs(home: Path, held: ExitStack, damage: bytes) -> None:
    busy = planned("busy")
    held.enter_context(supervised(busy))
    pid = lock_holder(busy.lock)
    assert pid is not None
    identity = ProcessIdentity.of(pid)
    assert identity is not None
    write_json(busy.status, {"supervisor": identity.to_json(), "gpus": ["GPU-00"]})
    (home / "queue.json").write_bytes(damage)
    me = planned("me")
    found = Turn(me, gpus=lambda: [gpu(0, 24)]).look()
    assert isinstance(found, Refusal)
    assert found.words == "GPU 0 is taken by busy"
    assert [path.read_bytes() for path in damaged_files()] == [damage]
    assert waiting(read_queue()) == ["me"]
    assert read_queue().claims == (Claim(busy.id, ("GPU-00",), pid),)


def test_who_waits_through_a_damage_says_so_and_stays_held(home: Path) -> None:
    run = planned("me")
    join_queue(run)
    hold_in_queue(run, True)
    events: list[tuple[str, dict[str, Any]]] = []

    def attend() -> bool:
        if len(events) == 1:
            (home / "queue.json").write_bytes(b"\0\0")
            return True
        return len(events) < 2

    found = wait_in_queue(Turn(run, gpus=lambda: [gpu(0, 24)]), lambda type_, **fields: events.append((type_, fields)),
                          attend)
    assert found is None
    assert [type_ for type_, _ in events] == ["waiting", "alert"]
    assert events[0][1] == {"reason": "held"}
    assert damaged_files()[0].name in events[1][1]["message"]
    assert read_queue() == Queue()


def test_reasons_are_told_when_they_change_and_figures_once_a_minute(home: Path) -> None:
    run, now, free, told = planned("me", 20), [0.0], iter([10.0, 11.0, 12.0, 13.0, 24.0]), []
    turn = Turn(run, gpus=lambda: [gpu(0, next(free))], clock=lambda: now[0])

    def attend() -> bool:
        now[0] += 25
        return True

    found = wait_in_queue(turn, lambda type_, **fields: told.append(fields["reason"]), attend, clock=lambda: now[0])
    assert isinstance(found, Device)
    assert told == ["GPU 0 has 10.0 GiB free and it needs 20.0 GiB", "GPU 0 has 13.0 GiB free and it needs 20.0 GiB",
                    "its turn has come: starting on GPU 0"]
    assert read_queue() == Queue((), (Claim(run.id, ("GPU-00",), os.getpid()),))


def test_a_run_that_does_not_queue_claims_a_gpu_of_its_choice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [gpu(0, 10), gpu(1, 24), gpu(2, 23)]
    lock = acquire_lock((first := planned("first")).lock)
    assert lock is not None
    assert Turn(first, gpus=lambda: cards).take() == Device("GPU-11", 1, 24 * GIB, 24 * GIB)
    second = Turn(planned("second"), gpus=lambda: cards).take()
    assert isinstance(second, Device)
    assert second.index == 2
    assert isinstance(Turn(planned("third", gpus=["7"]), gpus=lambda: cards).take(), Refusal)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    only = Turn(planned("fourth"), gpus=lambda: cards).take()
    assert isinstance(only, Device)
    assert only.index == 0
    release_lock(first.lock, lock)


def test_a_queue_that_cannot_be_written_keeps_nobody_from_training(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(queue_file, "write_json", full)
    told: list[str] = []
    assert isinstance(take_device(Turn(planned("at-once"), gpus=lambda: [gpu(0, 24)]),
                                  lambda type_, **fields: told.append(fields["message"])), Device)
    assert "No space left on device" in told[0]
    assert wait_in_queue(Turn(planned("queued")), lambda type_, **fields: told.append(fields["reason"]),
                         lambda: False) is None
    assert told[1] == "the queue cannot be written: No space left on device"
    with pytest.raises(RunError, match="No space left"):
        join_queue(planned("later"))


def test_a_lock_that_is_kept_is_named_after_a_while(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_file, "_LOCK_SECONDS", 0.1)
    me = planned("me")
    (home / "lock").symlink_to("queue.lock")  # what `supervised` locks in a directory
    with supervised(RunDirectory(home)):
        keeper = lock_holder(home / "queue.lock")
        with pytest.raises(RunError, match=f"locked by process {keeper} for"):
            join_queue(me)
    join_queue(me)
    assert waiting(read_queue()) == ["me"]


def test_a_process_that_asks_for_its_own_lock_keeps_it(home: Path) -> None:
    run = planned("me")
    lock = acquire_lock(run.lock)
    assert lock is not None
    assert lock_holder(run.lock) == os.getpid()
    ask = ("import sys; from pathlib import Path; from workbench.engine.runs.liveness import lock_holder; "
           "print(lock_holder(Path(sys.argv[1])))")
    asked = subprocess.check_output([sys.executable, "-c", ask, str(run.lock)], text=True)
    assert asked.strip() == str(os.getpid())
    release_lock(run.lock, lock)
    assert lock_holder(run.lock) is None


def test_many_who_change_the_queue_at_once_lose_nothing(home: Path) -> None:
    """Ten processes, ten edits each: every one of the hundred entries is there at the end."""
    runs = [planned(f"r{number}") for number in range(10)]
    code = ("import sys\nfrom workbench.engine.runs import queue_file\nfrom workbench.engine.runs.queue import Entry\n"
            "queue_file.alive = lambda queue: queue\n"
            "for n in range(10):\n"
            "    queue_file.change_queue(lambda q: q.joined(Entry(sys.argv[1][:-4] + f'{n:04x}', False, 1.0)))")
    writers = [subprocess.Popen([sys.executable, "-c", code, run.id]) for run in runs]
    assert [writer.wait(60) for writer in writers] == [0] * 10
    entries = orjson.loads((home / "queue.json").read_bytes())["entries"]
    assert len({entry["run"] for entry in entries}) == 100


def test_a_gpu_that_is_not_there_is_a_problem_of_its_field(home: Path) -> None:
    host = HostSnapshot(1.0, 64 * GIB, 60 * GIB, 0.1, 8)

    def problems(cards: list[Gpu], *settings: str) -> list[tuple[str, str, str | None]]:
        recipe = load_recipe(recipes_dir() / "demo.yaml", settings)
        return [(p.field, p.message, p.hint) for p in make_plan(recipe, None, cards, host).problems]

    assert problems([gpu(0, 20)], "hardware.gpus=[3, GPU-00]") == [
        ("hardware.gpus", "This machine has no GPU 3.", "There are: 0 (NVIDIA Test).")]
    assert problems([], "hardware.gpus=0") == [
        ("hardware.gpus", "This machine has no GPU 0.", "Leave hardware.gpus out, and it trains on the CPU.")]
    assert problems([gpu(0, 20)], "hardware.gpus=[0]") == []
    assert problems([], "hardware.gpus=0", "hardware.use_cpu=true") == []


def test_what_a_cluster_leaves_visible() -> None:
    cards = [gpu(0, 24), gpu(1, 24), gpu(2, 24)]
    assert [card.index for card in visible(cards, {})] == [0, 1, 2]
    assert [card.index for card in visible(cards, {"CUDA_VISIBLE_DEVICES": "2, GPU-00"})] == [0, 2]
    assert visible(cards, {"CUDA_VISIBLE_DEVICES": ""}) == []
    part, = visible(cards, {"CUDA_VISIBLE_DEVICES": "MIG-1f"})
    assert (part.uuid, part.free_bytes) == ("MIG-1f", None)


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize(("mask", "device"), [("", CPU), ("-1", CPU), ("MIG-1f", "MIG-1f"), ("1", "GPU-11")])
def test_what_is_hidden_from_a_run_is_not_taken(home: Path, monkeypatch: pytest.MonkeyPatch, mask: str, device: str,
                                                queued: bool) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    turn = Turn(planned("me"), gpus=lambda: [gpu(0, 24), gpu(1, 20)])
    found = turn.look() if queued else turn.take()
    assert isinstance(found, Device)
    assert found.id == device


def test_a_run_that_shall_train_on_the_cpu_takes_no_gpu(home: Path) -> None:
    found = Turn(planned("cpu", use_cpu=True), gpus=lambda: [gpu(0, 24)]).take()
    assert isinstance(found, Device)
    assert found.id == CPU
