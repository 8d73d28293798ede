"""What `rlhf.reward` may say, and what objectives ask of a recipe before anything is loaded."""

import json
from pathlib import Path

import pytest

from workbench.engine.errors import InputError
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.objective_checks import answer_length, generations, label_imbalance, objective_problems
from workbench.engine.objectives import OBJECTIVES
from workbench.engine.paths import assets_dir
from workbench.engine.planning import make_plan, memory_case
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import parse_recipe
from workbench.engine.rewards import reward_names, reward_source
from workbench.engine.runs.launcher import resolve_recipe
from workbench.engine.tuning import TUNINGS, default_learning_rate


def rlhf(text: str = "", **training: int) -> Recipe:
    settings = "".join(f"  {name}: {value}\n" for name, value in training.items())
    return parse_recipe("model: tiny-base\ndataset: glossary\nobjective: rlhf\n" + text
                        + (f"training:\n{settings}" if settings else ""))


def fields(recipe: Recipe, base_dir: Path | None = None) -> list[str]:
    return [field for field, _, _ in objective_problems(recipe, base_dir)]


@pytest.mark.parametrize(("reference", "kind", "value"), [
    ("exact-match", "exact-match", ""), ("json", "json", ""), ("length:80", "length", "80"),
    ("regex:Answer: .+", "regex", "Answer: .+"), ("regex:a:b", "regex", "a:b")])
def test_built_in_rewards(reference: str, kind: str, value: str) -> None:
    found = reward_source(reference)
    assert (found.kind, found.value, found.path, found.reference) == (kind, value, None, reference)


def test_a_function_is_found_beside_the_recipe_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rewards.py").write_text("raise SystemExit('run')\n")
    found = reward_source("mine.rewards:score", tmp_path)
    assert (found.kind, found.value, found.path) == ("function", "score", tmp_path / "mine" / "rewards.py")
    assert reward_source(found.reference) == found
    resolved = resolve_recipe(rlhf("rlhf: {reward: [mine.rewards:score, json]}\n"), tmp_path)
    assert resolved.rlhf.reward == (f"{tmp_path}/mine/rewards.py:score", "json")


def reward_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForSequenceClassification"]}))
    return folder


def test_a_reward_model_is_a_folder(tmp_path: Path) -> None:
    folder = reward_model(tmp_path / "judge")
    assert reward_source("judge", tmp_path).path == folder
    assert reward_source("judge", tmp_path).reference == str(folder)


@pytest.mark.parametrize(("reference", "words"), [
    ("length:", "a length is a number of characters"), ("length:0", "a length is a number of characters"),
    ("regex:(", "is not a regular expression"), ("regex:", "needs a pattern"),
    ("json:x", "takes nothing after a colon"),
    ("rewards:score", "rewards.py, which does not exist"), ("nothing like it", "is no reward"),
    ("tiny-base", "writes text and gives no scores"), ("", "is no reward")])
def test_what_is_no_reward(reference: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        reward_source(reference, tmp_path)


def test_metrics_are_called_by_what_scores() -> None:
    assert reward_names(["json", "regex:a", "regex:b", "my.module:good", "/x/y.py:good", "runs/judge", "last"]) == [
        "json", "regex", "regex#2", "good", "good#2", "reward-model", "reward-model#2"]


def test_what_reinforcement_learning_needs() -> None:
    assert fields(rlhf()) == ["rlhf.reward"]
    assert fields(rlhf("rlhf: {reward: json}\n")) == []
    assert fields(rlhf("rlhf: {reward: [json, nothing:here]}\n")) == ["rlhf.reward"]
    assert fields(rlhf("rlhf: {reward: json, reward_weights: [1, 2]}\n")) == ["rlhf.reward_weights"]
    assert fields(rlhf("rlhf: {reward: json, num_generations: 3}\n")) == ["rlhf.num_generations"]
    assert fields(rlhf("rlhf: {reward: json}\n", per_device_train_batch_size=1, gradient_accumulation_steps=1)) == [
        "rlhf.num_generations"]
    assert fields(rlhf("rlhf: {reward: json, max_completion_length: 64}\n", max_length=64)) == [
        "rlhf.max_completion_length"]


def test_defaults_of_rollouts_reach_the_estimate() -> None:
    recipe = rlhf("rlhf: {reward: json}\n", per_device_train_batch_size=3, gradient_accumulation_steps=4)
    assert (generations(recipe), answer_length(recipe)) == (6, 256)
    assert answer_length(rlhf(max_length=100)) == 50
    case = memory_case(rlhf("rlhf: {algorithm: rloo, beta: 0.1, num_generations: 4, max_completion_length: 33}\n"))
    assert (case.algorithm, case.beta, case.num_generations, case.max_completion_length) == ("rloo", 0.1, 4, 33)


def test_a_reward_model_takes_memory_beside_the_trained_one(tmp_path: Path) -> None:
    folder = tmp_path / "judge"
    folder.mkdir()
    config = json.loads((assets_dir() / "tiny_base" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaForSequenceClassification"]}))
    recipe = rlhf("rlhf: {reward: [judge, json]}\n")
    assert memory_case(recipe, base_dir=tmp_path).reward_parameters == 3_737_856
    assert memory_case(recipe).reward_parameters == 0


def test_what_pairs_and_labels_need() -> None:
    text = "model: tiny-base\ndataset: glossary-pairs\n"
    assert fields(parse_recipe(text + "objective: kto\ntraining: {per_device_train_batch_size: 1}\n")) == [
        "training.per_device_train_batch_size"]
    for objective in ("dpo", "rt"):
        smoothed = f"objective: {objective}\n{objective}: {{label_smoothing: 0.1"
        assert fields(parse_recipe(text + smoothed + "}\n")) == [f"{objective}.label_smoothing"]
        assert fields(parse_recipe(text + smoothed + ", loss_type: robust}\n")) == []


def test_adapters_want_ten_times_the_rate_of_full_training() -> None:
    assert {objective: default_learning_rate(objective, "full") for objective in OBJECTIVES} == {
        "sft": 2e-5, "cpt": 2e-5, "rt": 1e-6, "dpo": 1e-6, "orpo": 1e-6, "kto": 1e-6, "reward": 1e-4, "rlhf": 1e-6}
    for objective in OBJECTIVES:
        assert default_learning_rate(objective, "lora") == pytest.approx(10 * default_learning_rate(objective, "full"))
    assert parse_recipe("model: tiny-base\ndataset: a\nobjective: dpo\n").learning_rate == 1e-5
    assert list(TUNINGS) == ["full", "lora", "qlora"]


@pytest.mark.parametrize(("good", "bad", "weights", "words"), [
    (60, 60, {}, None), (80, 60, {}, None), (60, 5, {}, "kto.undesirable_weight: 12 would balance them"),
    (60, 5, {"undesirable_weight": 12.0}, None), (10, 40, {}, "kto.desirable_weight: 4 would balance them"),
    (8, 0, {}, "All 8 answers are good ones"), (0, 8, {}, "All 8 answers are bad ones"),
    (60, 60, {"desirable_weight": 0.0}, "a weight of zero leaves one kind out"),
])
def test_labels_out_of_balance_are_told(good: int, bad: int, weights: dict[str, float], words: str | None) -> None:
    recipe = Recipe.model_validate({"model": "tiny-base", "dataset": "glossary", "objective": "kto", "kto": weights})
    told = label_imbalance(recipe, good, bad)
    assert told is None if words is None else told is not None and words in told


def test_fewer_prompts_than_a_step_asks_are_refused() -> None:
    settings = "  max_rows: 3\nobjective: rlhf\nrlhf: {reward: json, num_generations: 4}\n"
    text = "model: tiny-base\ndataset:\n  path: glossary\n" + settings + "training: {per_device_train_batch_size: "
    problems = make_plan(parse_recipe(text + "16, gradient_accumulation_steps: 1}"), None, [], host_snapshot()).problems
    assert [problem.message for problem in problems] \
        == ["A step asks 4 prompts (16 answers, 4 to each), and there are 3."]
    plan = make_plan(parse_recipe(text + "4, gradient_accumulation_steps: 2}"), None, [], host_snapshot())
    assert (plan.problems, plan.steps) == ((), 3), "of three epochs"
