"""Every objective with every tuning, from the shipped recipe through the real command line to a model that is used."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tests.conftest import RunCommand
from workbench.engine.catalog.models import resolve_model
from workbench.engine.chat_target import resolve_chat_target
from workbench.engine.objectives import OBJECTIVES
from workbench.engine.paths import assets_dir, recipes_dir
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.manifest import verify
from workbench.engine.tuning import TUNINGS
from workbench.worker.chat import ChatModel
from workbench.worker.loading import load_model
from workbench.worker.rewards import RewardModel

pytestmark = pytest.mark.slow

BASE = assets_dir() / "tiny_base" / "model.safetensors"
BASE_TENSORS = 38
SHORT = ("training.max_steps=3", "training.logging_steps=1", "training.per_device_train_batch_size=4",
         "training.eval_steps=null", "dataset.eval_path=null", "dataset.max_rows=16", "samples.max_new_tokens=4")


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def events(shown: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    lines = (Path(shown["directory"]) / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["type"] == kind]


@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_trains_moves_what_it_should_and_is_used_again(objective: str, tuning: str, workbench: RunCommand) -> None:
    recipe = recipes_dir() / "tiny" / f"{objective}_{tuning}.yaml"
    result = workbench("train", str(recipe), "--json", *(word for setting in SHORT for word in ("--set", setting)))
    assert result.returncode == 0, result.stdout + result.stderr
    shown = json.loads(result.stdout)
    assert (shown["state"], shown["step"]) == ("finished", 3), shown["explanation"]
    losses = [loss for _, loss in shown["losses"]]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)
    assert shown["tokens_per_second"] > 0
    # Reinforcement learning has a KL term only where rlhf.beta asks for one.
    absent = {"train/kl"} if objective == "rlhf" else set()
    assert set(OBJECTIVES[objective].charts) - shown["metrics"].keys() == absent
    assert [event["message"] for event in events(shown, "alert") if event["level"] != "info"] == []

    model = Path(shown["directory"]) / "model"
    assert verify(model) is None
    if tuning == "full":
        check_every_weight_moved(model, rewards=objective == "reward")
    else:
        check_adapter(model, shown, rewards=objective == "reward")
    if objective == "reward":
        question, answer = {"role": "user", "content": "What is LoRA?"}, {"role": "assistant", "content": "Small."}
        scores = RewardModel(model, torch.device("cpu"), torch.float32)(prompts=[[question]] * 2,
                                                                        completions=[[answer], [question]])
        assert all(isinstance(score, float) and math.isfinite(score) for score in scores)
        assert scores[0] != scores[1]
    else:
        chat = ChatModel(resolve_chat_target(shown["id"]), lambda words: None)
        reply = chat.reply([{"role": "user", "content": "What is LoRA?"}], "tuned", max_new_tokens=6, temperature=0.0,
                           top_p=None, seed=0, on_text=lambda text: None, cancelled=lambda: False)
        assert 1 <= reply.tokens <= 6


def check_every_weight_moved(model: Path, rewards: bool) -> None:
    """Every tensor of the base has other values; a reward model has a head in place of none."""
    before, after = tensors(BASE), tensors(model / "model.safetensors")
    assert len(before) == BASE_TENSORS
    assert set(after) - set(before) == ({"score.weight"} if rewards else set())
    assert set(before) <= set(after)
    assert [name for name, value in before.items() if torch.equal(value.float(), after[name].float())] == []


def check_adapter(model: Path, shown: dict[str, Any], rewards: bool) -> None:
    """Each B has left zero, no weight of the base is among what was saved, and the frozen ones have the bits they had:
    the guard's checksums at both ends of the training (tests/worker/test_guards.py shows that one bit is seen)."""
    saved = tensors(model / "adapter_model.safetensors")
    pairs = {name for name in saved if "lora_A" in name or "lora_B" in name}
    assert len(pairs) == 2 * 28
    assert [name for name in pairs if "lora_B" in name and not saved[name].any()] == []
    assert {value.dtype for value in saved.values()} == {torch.float32}
    assert saved.keys() - pairs == ({"base_model.model.score.weight"} if rewards else set())
    # Beside the base's, a reward model holds a frozen copy of its head as it began.
    frozen = BASE_TENSORS + rewards
    assert [(event["check"], event["tensors"]) for event in events(shown, "guarded")] == [
        ("moved", 2 * 28 + rewards), ("frozen", frozen)]


def test_the_base_that_was_quantised_is_the_same_file_and_the_same_codes() -> None:
    """Quantising is a function of the file: what QLoRA trained on is what it is reloaded on."""
    recipe = load_recipe(recipes_dir() / "tiny" / "sft_qlora.yaml")
    first, second = (load_model(resolve_model("tiny-base"), dtype=torch.float32, device=torch.device("cpu"),
                                quantization=recipe.quantization) for _ in range(2))
    for (name, one), (_, other) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(one.detach(), other.detach()), name
