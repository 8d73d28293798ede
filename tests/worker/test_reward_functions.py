"""What scores answers: the built-in rewards, functions of the user's own and what may be wrong with them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl.trainer.utils import RepeatSampler

from tests.conftest import RunCommand
from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import InputError
from workbench.engine.objective_checks import steps_per_epoch
from workbench.engine.recipe import Recipe
from workbench.worker.callbacks.samples import SamplesCallback, answer
from workbench.worker.callbacks.scores import SHOWN, ScoresCallback, samples_callback
from workbench.worker.callbacks.stopwatch import Stopwatch
from workbench.worker.loading import load_model, load_tokenizer
from workbench.worker.objectives import objective_module, shuffled_if_kept_in_order
from workbench.worker.rewards import LazyReward, scores

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def scored(reference: str, *texts: str, columns: dict[str, list[Any]] | None = None) -> list[float | None]:
    columns = columns or {}
    reward = LazyReward(reference, "name", list(columns), CPU, torch.float32)
    return reward(prompts=[[{"role": "user", "content": "?"}]] * len(texts),
                  completions=[[{"role": "assistant", "content": text}] for text in texts], **columns)


def test_built_in_rewards() -> None:
    assert scored("length:10", "1234567890", "12345", "x" * 25, "") == [1.0, 0.5, 0.0, 0.0]
    assert scored("regex:^Answer: \\d+$", "Answer: 42", "42", " Answer: 7 ") == [1.0, 0.0, 1.0]
    assert scored("json", '{"a": [1]}', "[]", "7", "{a}", '"text"', "[" * 100_000) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert scored("exact-match", " Yes.", "No.", columns={"id": [1, 2], "answer": ["Yes.", "Yes."]}) == [1.0, 0.0]
    assert scored("exact-match", "7", columns={"solution": [7]}) == [1.0]


def test_exact_match_names_the_columns_there_are() -> None:
    with pytest.raises(InputError, match="compares with a column `answer` or `solution`, and the rows have `id`"):
        scored("exact-match", "a", columns={"id": [1]})


FUNCTIONS = """\
def good(completions, answer, **columns):
    return [None if wanted is None else float(wanted in c[0]["content"]) for c, wanted in zip(completions, answer)]
def short(completions, **columns):
    return [1.0]
def words(completions, **columns):
    return ["high"] * len(completions)
def endless(completions, **columns):
    return [float("inf")] * len(completions)
def nothing(completions, **columns):
    pass
def broken(completions, **columns):
    raise KeyError("gone")
def leaving(completions, **columns):
    raise SystemExit(3)
constant = 3
"""


def test_a_function_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    answers = {"answer": ["LoRA", None, "x"]}
    assert scored(f"{tmp_path}/mine.py:good", "LoRA it is", "b", "c", columns=answers) == [1.0, None, 0.0]


def test_a_module_has_what_a_module_has(tmp_path: Path) -> None:
    (tmp_path / "wanted_length.py").write_text("LENGTH = 3\n")
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\nfrom wanted_length import LENGTH\n\n"
        "@dataclass\nclass Rule:\n    length: int\n\n"
        "def good(completions, **_):\n"
        "    return [float(len(c[0]['content']) == Rule(LENGTH).length) for c in completions]\n")
    assert scored(f"{tmp_path}/mine.py:good", "abc", "abcd") == [1.0, 0.0]


def test_plain_texts_are_scored_as_they_were_learned(tmp_path: Path) -> None:
    source = resolve_model("tiny-base")
    tokenizer, _ = load_tokenizer(source)
    model = load_model(source, dtype=torch.float32, device=CPU, rewards=True)
    model.config.pad_token_id = tokenizer.pad_token_id
    recipe = Recipe.model_validate({"model": "tiny-base", "dataset": "glossary", "objective": "reward",
                                    "tuning": "full"})
    texts = {"chosen": "LoRA trains two small matrices.", "rejected": "No."}
    trainer = objective_module("reward").build_trainer(recipe, model, tokenizer, Dataset.from_list([texts]), None, CPU,
                                                       str(tmp_path), [])
    batch = trainer.data_collator([trainer.train_dataset[0]])
    with torch.inference_mode():
        wanted = model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
    assert scores(model, tokenizer, list(texts.values())) == pytest.approx(wanted.tolist(), abs=1e-5)


@pytest.mark.parametrize(("name", "words"), [
    ("short", "returned 1 rewards for 2 completions"), ("words", "returned 'high' as a reward"),
    ("endless", "returned inf as a reward"), ("nothing", "returned NoneType, not a list"),
    ("broken", "failed: KeyError: 'gone'"),
    ("leaving", "failed: SystemExit: 3"), ("constant", "has no function constant"),
    ("absent", "has no function absent")])
def test_what_is_wrong_with_a_function_is_one_sentence(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    with pytest.raises(InputError, match=words) as error:
        scored(f"{tmp_path}/mine.py:{name}", "a", "b")
    assert str(tmp_path / "mine.py") in error.value.message
    assert name != "absent" or error.value.hint == "It has: good, short, words, endless, nothing, broken, leaving."


def test_a_module_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import no_such_module\n")
    with pytest.raises(InputError, match=r"mine\.py cannot be loaded: ModuleNotFoundError: .*no_such_module"):
        scored(f"{tmp_path}/mine.py:good", "a")


def test_a_broken_reward_ends_the_run_before_its_first_step(workbench: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise ValueError('no licence')\n")
    recipe = tmp_path / "rlhf.yaml"
    recipe.write_text("model: tiny-base\ndataset: {path: glossary, max_rows: 8}\nobjective: rlhf\n"
                      "rlhf: {reward: mine:score, algorithm: rloo}\ntraining: {max_steps: 1}\n")
    shown = json.loads(workbench("train", str(recipe), "--json").stdout)
    assert (shown["state"], shown["step"], shown["losses"]) == ("failed", 0, [])
    assert shown["explanation"] == f"{tmp_path}/mine.py cannot be loaded: ValueError: no licence"


def test_rloo_with_a_kl_term(workbench: RunCommand, tmp_path: Path) -> None:
    recipe = tmp_path / "rlhf.yaml"
    recipe.write_text("model: tiny-base\ndataset: {path: glossary, max_rows: 8}\nobjective: rlhf\n"
                      "rlhf: {reward: [length:20, 'regex:LoRA'], reward_weights: [1, 0.5], algorithm: rloo, beta: 0.1,"
                      " num_generations: 2, max_completion_length: 6}\n"
                      "training: {max_steps: 2, per_device_train_batch_size: 2, gradient_accumulation_steps: 2,"
                      " logging_steps: 1}\n")
    shown = json.loads(workbench("train", str(recipe), "--json").stdout)
    assert shown["state"] == "finished", shown["explanation"]
    metrics = {name: [value for _, value in points] for name, points in shown["metrics"].items()}
    assert len(metrics["train/kl"]) == 2
    for total, length, pattern in zip(metrics["train/reward"], metrics["train/rewards/length/mean"],
                                      metrics["train/rewards/regex/mean"], strict=True):
        assert total == pytest.approx(length + 0.5 * pattern, abs=1e-5)


class Sampled:
    """Takes samples in place of a run's journal."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, list[str], list[str]]] = []

    def samples(self, step: int, prompts: list[str], texts: list[str]) -> None:
        self.taken.append((step, prompts, texts))


def recipe_of(objective: str) -> Recipe:
    return Recipe.model_validate({"model": "tiny-base", "dataset": "glossary", "objective": objective,
                                  "samples": {"prompts": ["What is LoRA?"], "max_new_tokens": 5}})


@pytest.mark.parametrize(("objective", "kind", "start"), [
    ("sft", SamplesCallback, "<|user|>What is LoRA?<|end|><|assistant|>"), ("cpt", SamplesCallback, "What is LoRA?"),
    ("rt", SamplesCallback, "What is LoRA?"), ("reward", ScoresCallback, None)])
def test_samples_are_what_the_objective_learns(objective: str, kind: type, start: str | None,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    source = resolve_model("tiny-base")
    tokenizer, _ = load_tokenizer(source)
    model = load_model(source, dtype=torch.float32, device=CPU, rewards=objective == "reward")
    model.config.pad_token_id = tokenizer.pad_token_id
    sampled, seen = Sampled(), []
    callback = samples_callback(recipe_of(objective), tokenizer, sampled, Stopwatch())  # type: ignore[arg-type]
    assert type(callback) is kind
    pair = {"chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "Good."}],
            "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "Bad."}]}
    callback.rows = [pair] * (SHOWN + 3)
    if start is not None:
        own = model.generate
        monkeypatch.setattr(model, "generate", lambda **inputs: seen.append(inputs["input_ids"]) or own(**inputs))
    callback.on_train_begin(None, type("State", (), {"global_step": 0}), None, model=model)  # type: ignore[arg-type]
    (step, prompts, texts), = sampled.taken
    assert step == 0
    if start is not None:
        assert prompts == ["What is LoRA?"]
        assert tokenizer.decode(seen[0][0]) == start
    else:
        assert prompts == ["Q\nGood.", "Q\nBad."] * SHOWN
        assert [text.split()[-1] for text in texts[:2]] == ["(chosen)", "(rejected)"]
        assert all(float(text.split()[0]) or True for text in texts)


def test_prompts_of_different_lengths_continue_as_they_would_alone() -> None:
    source = resolve_model("tiny-base")
    tokenizer, _ = load_tokenizer(source)
    model = load_model(source, dtype=torch.float32, device=CPU)
    prompts = ["LoRA", "A tokenizer cuts text into"]
    together = answer(model, tokenizer, prompts, max_new_tokens=8, temperature=0, seed=0, chat=False)
    alone = [answer(model, tokenizer, [prompt], max_new_tokens=8, temperature=0, seed=0, chat=False)[0]
             for prompt in prompts]
    assert together == alone


def test_labelled_answers_are_shuffled_since_trl_takes_them_in_order() -> None:
    rows = Dataset.from_dict({"label": [True] * 50 + [False] * 50})
    labels = shuffled_if_kept_in_order(recipe_of("kto"), rows)["label"]
    assert 10 < sum(labels[:50]) < 40
    assert shuffled_if_kept_in_order(recipe_of("sft"), rows) is rows


def test_labels_of_one_kind_after_the_other(workbench: RunCommand, tmp_path: Path) -> None:
    def labelled(good: int, bad: int) -> str:
        return "\n".join(json.dumps({"prompt": f"Question {number}?", "completion": f"Answer {number}.",
                                     "label": number < good}) for number in range(good + bad))

    (tmp_path / "train.jsonl").write_text(labelled(20, 4))
    (tmp_path / "held-out.jsonl").write_text(labelled(16, 16).replace("Question", "Ask"))
    recipe = tmp_path / "kto.yaml"
    recipe.write_text("model: tiny-base\ndataset: {path: train.jsonl, eval_path: held-out.jsonl}\nobjective: kto\n"
                      "hardware: {probe: false}\ntraining: {max_steps: 2, per_device_train_batch_size: 4,"
                      " gradient_accumulation_steps: 1, per_device_eval_batch_size: 8}\n")
    shown = json.loads(workbench("train", str(recipe), "--json").stdout)
    assert shown["state"] == "finished", shown["explanation"]
    assert "20 good answers count 20, 4 bad ones 4: kto.undesirable_weight: 5 would balance them." in [
        alert["message"] for alert in shown["alerts"]]
    assert [step for step, _ in shown["metrics"]["eval/rewards/margins"]] == [0, 2]


@pytest.mark.parametrize(("rows", "batch", "accumulation", "generations"), [
    (10, 16, 1, 4), (10, 4, 2, 4), (11, 8, 2, 8), (4, 2, 2, 2)])
def test_an_epoch_has_as_many_steps_as_trl_takes(rows: int, batch: int, accumulation: int, generations: int) -> None:
    recipe = Recipe.model_validate({
        "model": "tiny-base", "dataset": "glossary", "objective": "rlhf", "rlhf": {"num_generations": generations},
        "training": {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}})
    answers = batch * accumulation
    # Each group of prompts is read once for every micro-batch of it.
    read = len(RepeatSampler(range(rows), generations, batch_size=answers // generations, repeat_count=accumulation))
    assert steps_per_epoch(recipe, rows) == read // answers // accumulation
