"""Who may start where: the queue's decision, by example and by its invariants."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.engine.runs.queue import (
    CPU,
    Device,
    Entry,
    Move,
    Queue,
    Refusal,
    Wants,
    decide,
    environment_of,
    pick,
    wanted_devices,
)

GIB = 1024**3
HOST = Device(CPU, None)


def gpu(index: int, free: float | None, total: float | None = 24.0) -> Device:
    return Device(f"GPU-{index}", index, None if total is None else round(total * GIB),
                  None if free is None else round(free * GIB))


def wants(run: str = "me", need: float | None = 8.0, *gpus: str, held: bool = False, on_cpu: bool = False) -> Wants:
    return Wants(run, gpus, on_cpu, True, None if need is None else round(need * GIB), held)


def reason(found: Device | Refusal) -> str:
    assert isinstance(found, Refusal)
    return found.words


def test_it_takes_the_gpu_with_the_most_free_memory_that_nobody_has() -> None:
    devices = (gpu(0, 20), gpu(1, 23), gpu(2, 24), HOST)
    assert decide(wants(), (), devices, {"GPU-2": "other"}) == devices[1]
    assert decide(wants("me", 8, "0", "GPU-2"), (), devices, {"GPU-2": "other"}) == devices[0]


@pytest.mark.parametrize(("candidate", "before", "taken", "words"), [
    (wants(held=True), (), {}, "held"),
    (wants(), (wants("a"), wants("b")), {}, "2 before it on GPU 0 and 1"),
    (wants("me", 8, "0"), (wants("a", 8, "0"), wants("b", 8, "1")), {}, "1 before it on GPU 0"),
    (wants("me", 8, "0"), (), {"GPU-0": "support-bot"}, "GPU 0 is taken by support-bot"),
    (wants(), (), {"GPU-0": "a", "GPU-1": "b"}, "GPU 0 and 1 are taken"),
    (wants("me", 18.4, "0"), (), {}, "GPU 0 has 12.1 GiB free and it needs 18.4 GiB"),
    (wants("me", 18.4), (), {}, "it needs 18.4 GiB and GPU 0 and 1 have 15.0 GiB free at most"),
    (wants("me", 13), (wants("a", 13, "0"),), {"GPU-1": "b"}, "1 before it on GPU 0; GPU 1 is taken by b"),
    (wants("me", 80), (), {}, "it needs 80.0 GiB and no GPU that it may use offers more than 23.6 GiB"),
    (wants("me", 8, "3", "GPU-f00"), (), {}, "GPU 3 and GPU-f00 are not there"),
    (wants("me", None, "0"), (), {}, "how much it needs is not known, and GPU 0 is not idle"),
    (wants(on_cpu=True), (wants("a", on_cpu=True),), {}, "1 before it on the CPU"),
    (wants(on_cpu=True), (), {CPU: "demo"}, "the CPU is taken by demo"),
])
def test_the_reason_is_said_in_plain_words(candidate: Wants, before: tuple[Wants, ...], taken: Mapping[str, str],
                                           words: str) -> None:
    assert reason(decide(candidate, before, (gpu(0, 12.1), gpu(1, 15), HOST), taken)) == words


def test_figures_alone_make_no_other_reason() -> None:
    one, other = (decide(wants("me", 18), (), (gpu(0, free), HOST), {}) for free in (3, 4))
    assert isinstance(one, Refusal)
    assert isinstance(other, Refusal)
    assert one.kind == other.kind
    assert one.words != other.words


def test_an_unknown_need_takes_an_idle_gpu_and_silent_drivers_are_believed() -> None:
    assert decide(wants(need=None), (), (gpu(0, 23.5), HOST), {}) == gpu(0, 23.5)
    silent = gpu(0, None, None)
    assert decide(wants(), (), (silent, HOST), {}) == silent
    assert decide(wants(need=None), (), (silent, HOST), {}) == silent


def test_those_who_are_held_or_can_never_run_there_let_others_pass() -> None:
    devices = (gpu(0, 24), HOST)
    assert decide(wants(), (wants("held", held=True), wants("huge", 80), wants("elsewhere", 8, "7"),
                            wants("host", on_cpu=True)), devices, {}) == devices[0]


def test_a_run_that_was_planned_for_a_gpu_waits_for_one() -> None:
    assert reason(decide(wants(), (), (HOST,), {})) == "no GPU is there now, and it was planned for one"
    assert decide(Wants("me"), (), (HOST,), {}) == HOST


def test_who_does_not_queue_takes_a_free_gpu_first_and_a_taken_one_rather_than_none() -> None:
    devices = (gpu(0, 10), gpu(1, 24), HOST)
    assert pick(wants(), devices, {"GPU-1": "other"}) == devices[0]
    assert pick(wants("me", 12), devices, {"GPU-1": "other"}) == devices[1]
    assert pick(wants("me", 12), (devices[0], HOST), {}) == devices[0]
    assert pick(wants(), (HOST,), {}) == HOST
    assert pick(wants(), devices, {"GPU-0": "a", "GPU-1": "b"}) == devices[1]
    assert pick(wants(on_cpu=True), devices, {CPU: "other"}) == HOST
    assert reason(pick(wants("me", 8, "5"), devices, {})) == "GPU 5 is not there"


def test_a_worker_is_kept_on_its_device() -> None:
    assert environment_of("GPU-1f0c") == {"CUDA_VISIBLE_DEVICES": "GPU-1f0c"}
    assert environment_of("index-1") == {"CUDA_VISIBLE_DEVICES": "1"}
    assert environment_of(CPU) == {}


MOVES: dict[Move, list[str]] = {"up": ["b", "a", "c"], "down": ["a", "c", "b"], "first": ["b", "a", "c"],
                                "last": ["a", "c", "b"]}


@pytest.mark.parametrize("move", MOVES)
def test_moves(move: Move) -> None:
    queue = Queue(tuple(Entry(name, False, number) for number, name in enumerate("abc")))
    assert [entry.run for entry in queue.moved("b", move).entries] == MOVES[move]
    at_the_end = {"up": "a", "first": "a", "down": "c", "last": "c"}[move]
    assert queue.moved(at_the_end, move) == queue
    assert queue.moved("nobody", move) == queue


def test_a_lost_entry_comes_back_behind_those_that_waited_longer_and_stays_held() -> None:
    queue = Queue((Entry("late", False, 3.0), Entry("early", False, 1.0), Entry("last", False, 9.0)))
    back = queue.rejoined(Entry("mine", True, 2.0))
    assert [entry.run for entry in back.entries] == ["late", "early", "mine", "last"]
    assert back.entry("mine") == Entry("mine", True, 2.0)
    assert back.rejoined(Entry("mine", False, 5.0)) == back


DEVICES = st.lists(st.sampled_from([8.0, 24.0, 80.0]), min_size=0, max_size=4).map(
    lambda sizes: tuple(gpu(number, size, size) for number, size in enumerate(sizes)))
RUNS = st.lists(st.builds(
    lambda need, names, on_cpu, held: Wants("", tuple(names), on_cpu, False, need and round(need * GIB), held),
    st.sampled_from([None, 1.0, 7.0, 8.0, 20.0, 79.0, 200.0]), st.sets(st.sampled_from("0123")).map(sorted),
    st.booleans(), st.booleans()), max_size=8).map(
    lambda runs: [Wants(f"run-{number}", *(getattr(run, name) for name in (
        "gpus", "on_cpu", "for_gpu", "need_bytes", "held"))) for number, run in enumerate(runs)])


def could_run(run: Wants, devices: tuple[Device, ...]) -> bool:
    return any(device.could_hold(run) for device in wanted_devices(run, devices))


@given(gpus=DEVICES, runs=RUNS, data=st.data())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_whatever_happens_nobody_shares_jumps_the_queue_or_waits_for_ever(
        gpus: tuple[Device, ...], runs: list[Wants], data: st.DataObject) -> None:
    """A whole life of a queue: in every state any run may look, or any running one end, in any order."""
    waiting, running = list(runs), dict[str, str]()  # device id → run
    started: list[str] = []
    order = [run.run for run in runs]
    for _ in range(1000):
        # What has begun uses its whole device: the hardest case for those behind.
        devices = (*(Device(d.id, d.index, d.total_bytes, 0 if d.id in running else d.total_bytes) for d in gpus), HOST)
        able = [run for run in waiting if isinstance(decide(run, ahead(run, waiting), devices, running), Device)]
        choices = [("look", run.run) for run in waiting] + [("end", device) for device in running]
        if not able and not running:
            break
        kind, name = data.draw(st.sampled_from(choices))
        if kind == "end":
            del running[name]
            continue
        run = next(run for run in waiting if run.run == name)
        found = decide(run, ahead(run, waiting), devices, running)
        if isinstance(found, Device):
            assert found.id not in running
            assert found in wanted_devices(run, devices)
            assert not run.held
            assert run.need_bytes is None or found.free_bytes is None or run.need_bytes <= found.free_bytes
            assert not [other for other in ahead(run, waiting) if not other.held and could_run(other, (found,))
                        and found in wanted_devices(other, devices)]
            running[found.id] = name
            waiting.remove(run)
            started.append(name)
        elif data.draw(st.booleans()):
            waiting = shuffled(waiting, data)
    else:
        pytest.fail("the queue did not come to rest")
    everything = (*gpus, HOST)
    assert set(started) == {run.run for run in runs if not run.held and could_run(run, everything)}
    assert set(order) == set(started) | {run.run for run in waiting}


def ahead(run: Wants, waiting: list[Wants]) -> list[Wants]:
    return waiting[:waiting.index(run)]


def shuffled(waiting: list[Wants], data: st.DataObject) -> list[Wants]:
    """The user moves one run."""
    queue = Queue(tuple(Entry(run.run, run.held, 0.0) for run in waiting))
    moved = queue.moved(data.draw(st.sampled_from(waiting)).run, data.draw(st.sampled_from(list(MOVES))))
    by_name = {run.run: run for run in waiting}
    return [by_name[entry.run] for entry in moved.entries]
