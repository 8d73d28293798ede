"""Stages: merged over the recipe, checked like recipes, planned each, linked to what they go on from."""

from pathlib import Path

import pytest

from tests.unit.test_chat_target import make_run
from workbench import cli_runs
from workbench.engine.atomic import write_json
from workbench.engine.errors import InputError, RunError
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.pipeline import Links, stage_links, stage_recipes
from workbench.engine.planning import Plan, make_plan
from workbench.engine.recipe_file import RecipeError, parse_recipe, recipe_to_yaml, update_yaml
from workbench.engine.runs import control, orders, store
from workbench.engine.runs.chain import StageOf, chain_from, chain_of, neighbours, stage_of
from workbench.engine.runs.control import ControlReader
from workbench.engine.runs.deletion import delete_run
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.journal import Journal
from workbench.engine.runs.resume import resume
from workbench.engine.runs.store import list_runs
from workbench.engine.runs.waiting import ending_without, outcome_of

RECIPE = """\
model: tiny-base
lora: {lora_r: 8}
training: {max_steps: 5, max_length: 64}
stages:
  - dataset: {path: glossary, eval_path: glossary-held-out}
  - objective: sft
    dataset: glossary
    training: {learning_rate: 1e-4}
"""


def planned(text: str) -> Plan:
    return make_plan(parse_recipe(text), None, [], host_snapshot())


def test_a_stage_is_the_recipe_with_its_own_settings_over_it() -> None:
    first, second = stage_recipes(parse_recipe(RECIPE))
    assert (first.name, second.name) == ("tiny-base-lora-1-sft", "tiny-base-lora-2-sft")
    assert (first.dataset.path, first.dataset.eval_path) == ("glossary", "glossary-held-out")
    assert second.dataset.eval_path is None, "rows to evaluate on belong to their dataset"
    assert (second.training.max_steps, second.training.max_length, second.learning_rate) == (5, 64, 1e-4)
    assert (first.learning_rate, first.lora.lora_r, second.lora.lora_r) == (2e-4, 8, 8)
    assert first.stages == second.stages == ()


def test_a_long_name_keeps_its_stage_number() -> None:
    stages = stage_recipes(parse_recipe(f"name: {'very-' * 12}long\n" + RECIPE))
    assert [stage.name[-6:] for stage in stages] == ["-1-sft", "-2-sft"]
    assert all(len(stage.name) <= 40 for stage in stages)


@pytest.mark.parametrize(("instead", "field", "line", "words"), [
    ("    training: {learning_rat: 1e-4}", "stages.1.training.learning_rat", 8, "did you mean learning_rate?"),
    ("    training: {max_steps: many}", "stages.1.training.max_steps", 8, "valid integer"),
    ("    trainin: {}", "stages.1.trainin", 8, "did you mean training?"),
    ("    lora: 3", "stages.1.lora", 8, "is 3"),
    ("    stages: []", "stages.1.stages", 8, "no stages of its own"),
])
def test_a_bad_stage_is_refused_with_field_and_line(instead: str, field: str, line: int, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(RECIPE.replace("    training: {learning_rate: 1e-4}", instead))
    problem = caught.value.problems[0]
    assert (problem.field, problem.line) == (field, line)
    assert words in problem.message


def test_overrides_reach_into_a_stage() -> None:
    recipe = parse_recipe(RECIPE, overrides=["stages.1.training.max_steps=2", "training.max_length=32"])
    assert [stage.training.max_steps for stage in stage_recipes(recipe)] == [5, 2]
    assert [stage.training.max_length for stage in stage_recipes(recipe)] == [32, 32]
    with pytest.raises(InputError, match="there is no 2 in a list of 2"):
        parse_recipe(RECIPE, overrides=["stages.2.name=x"])


def test_what_is_written_reads_back_the_same() -> None:
    recipe = parse_recipe("# mine\n" + RECIPE)
    assert stage_recipes(parse_recipe(recipe_to_yaml(recipe))) == stage_recipes(recipe)
    assert update_yaml("# mine\n" + RECIPE, recipe) .count("glossary") == RECIPE.count("glossary")


def test_each_stage_goes_on_from_the_last_that_can_write() -> None:
    text = """\
model: tiny-base
dataset: glossary
stages:
  - {objective: sft}
  - {objective: reward}
  - {objective: rlhf}
  - {objective: rlhf, rlhf: {reward: json}}
  - {objective: sft, model: tiny-base}
"""
    assert stage_links(parse_recipe(text)) == (
        Links(None, None), Links(0, None), Links(0, 1), Links(2, None), Links(None, None))


def test_every_stage_is_planned_and_the_largest_peak_counts() -> None:
    plan = planned(RECIPE.replace("{learning_rate: 1e-4}", "{max_length: 512}"))
    document = plan.to_json()
    assert plan.problems == ()
    assert [stage["name"] for stage in document["stages"]] == ["tiny-base-lora-1-sft", "tiny-base-lora-2-sft"]
    peaks = [stage["peak_bytes"] for stage in document["stages"]]
    assert peaks[1] > peaks[0]
    assert document["peak_bytes"] == peaks[1]
    assert document["tunings"] == document["stages"][0]["tunings"]


def test_problems_name_the_stage_they_concern() -> None:
    plan = planned(RECIPE.replace("{learning_rate: 1e-4}", "{early_stopping_patience: 2}\n    lora: {lora_r: 4}"))
    assert [problem.field for problem in plan.problems] == ["stages.1.training.early_stopping_patience",
                                                            "stages.1.lora.lora_r"]
    assert plan.problems[1].message.startswith("Stage 2 (sft): lora.lora_r is 4, and 8 in the adapter")
    shared = planned(RECIPE.replace("tiny-base", "tiny-bose"))
    assert [problem.field for problem in shared.problems] == ["model"], "what they share is said once"


def stage(home: Path, number: int, minute: int, outcome: str | None, previous: RunDirectory | None) -> RunDirectory:
    run = make_run(home, f"chain-{number}", time=f"20260101-12{minute:02}00")
    place = StageOf("20260101-120000-chain-1-0a1b", "chain", number, 3, previous.id if previous else None)
    write_json(run.plan, {"pipeline": place.to_json()})
    with Journal(run.events) as journal:
        journal.append("queued")
        if outcome is not None:
            journal.append("ended", outcome=outcome)
    run.status.write_text("{}")
    return run


def test_a_chain_is_its_newest_runs_in_order(home: Path) -> None:
    first = stage(home, 1, 0, "finished", None)
    failed = stage(home, 2, 1, "failed", first)
    never = stage(home, 3, 2, "stopped", failed)
    second = stage(home, 2, 3, "finished", first)
    third = stage(home, 3, 4, None, second)
    alone = make_run(home, "alone", time="20260101-130000")
    assert chain_of(first.id) == [first, second, third]
    assert chain_from(second) == [second, third]
    assert chain_from(alone) == [alone]
    assert neighbours(second) == (first, third)
    assert neighbours(never) == (failed, None)
    assert [outcome_of(run) for run in (first, failed, third)] == ["finished", "failed", "crashed"]
    summaries = {summary.id: summary for summary in list_runs()}
    assert summaries[third.id].pipeline == stage_of(third)
    assert summaries[third.id].to_json()["pipeline"]["previous"] == second.id
    assert summaries[alone.id].to_json()["pipeline"] is None
    delete_run(second)
    assert outcome_of(second) == "deleted"


def test_the_last_run_is_the_stage_at_work(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = stage(home, 1, 0, None, None)
    second = stage(home, 2, 1, None, first)
    for run, event in ((first, "started"), (second, "waiting")):
        with Journal(run.events) as journal:
            journal.append(event)
    for module in (store, control, orders):
        monkeypatch.setattr(module, "lock_holder", lambda lock: 1)
    cli_runs.stop("last")
    assert [command.name for command in ControlReader(first).read()] == ["stop"]
    assert list(ControlReader(second).read()) == []
    cli_runs.stop(second.id)
    assert [command.name for command in ControlReader(second).read()] == ["stop"]


def test_what_cannot_be_resumed_says_why(home: Path) -> None:
    def never_planned(recipe: object) -> Plan:
        raise AssertionError("nothing is to be started")

    alone = make_run(home, "alone")
    with Journal(alone.events) as journal:
        journal.append("ended", outcome="finished")
    with pytest.raises(RunError, match="alone-0a1b is finished; there is nothing to resume"):
        resume(alone, never_planned)
    first = stage(home, 1, 0, "finished", None)
    second = stage(home, 2, 1, "failed", first)
    with pytest.raises(RunError, match="Stage 3 of chain was deleted"):
        resume(first, never_planned)
    third = stage(home, 3, 2, "stopped", second)
    delete_run(first)
    with pytest.raises(RunError, match="Stage 1 of chain was deleted"):
        resume(third, never_planned)


def test_a_resumed_stage_keeps_the_shape_that_later_ones_go_on_with(home: Path) -> None:
    first = stage(home, 1, 0, "failed", None)
    second = stage(home, 2, 1, "stopped", first)
    third = stage(home, 3, 2, "stopped", second)
    third.recipe.write_text(third.recipe.read_text().replace("tiny-base", str(first.model)))
    before = sorted(run.id for run in (first, second, third))
    with pytest.raises(InputError, match=r"chain-3: lora\.lora_r is 16, and 4 in the adapter") as error:
        resume(first, lambda recipe: make_plan(recipe, None, [], host_snapshot()), ["lora.lora_r=4"])
    assert error.value.hint == "Resume with the shape it had, or train the recipe again."
    assert sorted(summary.id for summary in list_runs()) == before


@pytest.mark.parametrize(("outcome", "words"), [("failed", "failed"), ("stopped", "was stopped"),
                                                ("crashed", "crashed"), ("deleted", "was deleted")])
def test_a_stage_that_never_came_names_the_one_before(home: Path, outcome: str, words: str) -> None:
    first = stage(home, 1, 0, None, None)
    second = stage(home, 2, 1, None, first)
    place = stage_of(second)
    assert place is not None
    ending = ending_without(place, first, outcome, second.id)
    assert ending.outcome == "stopped"
    assert ending.explanation == f"Not started: stage 1, {first.id}, {words}."
