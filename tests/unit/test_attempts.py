"""When a failed run is started again by itself, and when not."""

import pytest

from workbench.engine.runs.attempts import Attempts, Failure, NoRestart, Restart, decide, hung_minutes


def recipe(batch: int = 4, **allowed: object) -> dict[str, object]:
    return {"on_failure": allowed, "training": {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 3}}


@pytest.mark.parametrize("cause", ["killed", "hang", "error"])
def test_what_may_be_gone_the_next_time_is_tried_again(cause: str) -> None:
    assert decide(Failure(cause), recipe(resume=2), Attempts()) == Restart(1, 2)
    assert decide(Failure(cause), recipe(resume=2), Attempts(used=1)) == Restart(2, 2)
    assert decide(Failure(cause), recipe(), Attempts()) == NoRestart()
    spent = decide(Failure(cause), recipe(resume=1), Attempts(used=1))
    assert spent == NoRestart("It was started again 1 time, as often as on_failure.resume allows.")


@pytest.mark.parametrize("cause", ["data", "nan", "disk", "hub", None])
def test_what_needs_a_hand_is_not(cause: str | None) -> None:
    assert decide(Failure(cause), recipe(resume=9, halve_batch=True), Attempts()) == NoRestart()


def test_memory_of_the_gpu_needs_a_smaller_batch_and_that_of_the_host_may_be_free_again() -> None:
    halved = Restart(None, None, {"training.per_device_train_batch_size": 2, "training.gradient_accumulation_steps": 6})
    for by_signal in (False, True):
        assert decide(Failure("oom", by_signal), recipe(halve_batch=True), Attempts()) == halved
    assert halved.words == "with a batch of 2 and 6 accumulation steps: the effective batch stays the same"
    assert decide(Failure("oom"), recipe(resume=3), Attempts()) == NoRestart()
    assert decide(Failure("oom", by_signal=True), recipe(resume=3), Attempts()) == Restart(1, 3)
    # Halving is no restart that counts, and goes on after those are used up.
    assert decide(Failure("oom"), recipe(resume=1, halve_batch=True), Attempts(used=1, moved=False)) == halved
    for batch in (1, 3):
        assert decide(Failure("oom"), recipe(batch, halve_batch=True, resume=1), Attempts()) \
            == NoRestart(f"Its batch of {batch} cannot be halved any more.")
        assert decide(Failure("oom", by_signal=True), recipe(batch, halve_batch=True, resume=1), Attempts()) \
            == Restart(1, 1)
    pairs = {**recipe(2, halve_batch=True), "objective": "kto"}
    assert decide(Failure("oom"), pairs, Attempts()) == NoRestart("KTO with half the batch would be another training.")


def test_a_failure_without_a_step_in_between_ends_it() -> None:
    journal = [{"type": "started"}, {"type": "restarted", "attempt": 1}, {"type": "started"}]
    again = decide(Failure("error"), recipe(resume=5), Attempts.read(journal))
    assert again == NoRestart("It failed again before it had made a step, so it was not started again.")
    moved = Attempts.read([*journal, {"type": "step"}])
    assert decide(Failure("error"), recipe(resume=5), moved) == Restart(2, 5)
    # Somebody looked at it and said: go on.
    assert decide(Failure("error"), recipe(resume=5), Attempts.read([*journal, {"type": "resumed"}])) == Restart(1, 5)


def test_a_recipe_that_says_nothing_or_nonsense_restarts_nothing() -> None:
    for odd in ({}, {"on_failure": None}, {"on_failure": {"resume": "often"}}, {"on_failure": {"resume": -1}}):
        assert decide(Failure("killed"), odd, Attempts()) == NoRestart()
        assert hung_minutes(odd) is None
    assert decide(Failure("oom"), {"on_failure": {"halve_batch": True}}, Attempts()) \
        == NoRestart("Its batch of None cannot be halved any more.")
    assert hung_minutes(recipe(resume=1)) == 30
    assert hung_minutes(recipe(resume=1, hang_minutes=5)) == 5
    assert hung_minutes(recipe(resume=0, hang_minutes=5)) is None
