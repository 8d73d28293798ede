"""A run that starts from another's adapter really goes on from there: same weights, same loss, one adapter saved."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import load_file

from tests.conftest import RunCommand
from workbench.engine.catalog.models import resolve_model
from workbench.engine.catalog.trained import start_faults
from workbench.engine.chat_target import resolve_chat_target
from workbench.engine.errors import InputError, RunError
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import parse_recipe
from workbench.engine.runs.directory import find_run
from workbench.worker import adapters, loading
from workbench.worker.checkpoints import save_model
from workbench.worker.objectives import objective_module

pytestmark = pytest.mark.slow

RECIPE = """\
name: first
model: tiny-base
dataset: {path: glossary, eval_path: glossary-held-out, max_rows: 32}
lora: {lora_r: 4, lora_alpha: 8}
training:
  max_steps: 6
  per_device_train_batch_size: 4
  per_device_eval_batch_size: 16
  gradient_accumulation_steps: 1
  gradient_checkpointing: false
  learning_rate: 5e-3
  max_length: 96
  logging_steps: 1
  eval_steps: 6
  save_steps: 3
hardware: {probe: false}
"""
MESSAGES = {"prompt": [{"role": "user", "content": "What is LoRA?"}],
            "chosen": [{"role": "assistant", "content": "Two small matrices beside each weight."}],
            "rejected": [{"role": "assistant", "content": "A radio."}]}
ROWS: dict[str, dict[str, Any]] = {
    "sft": {"messages": MESSAGES["prompt"] + MESSAGES["chosen"]}, "dpo": MESSAGES, "orpo": MESSAGES,
    "kto": {"prompt": MESSAGES["prompt"], "completion": MESSAGES["chosen"], "label": True},
    "rlhf": {"prompt": MESSAGES["prompt"]},
    "reward": {side: MESSAGES["prompt"] + MESSAGES[side] for side in ("chosen", "rejected")},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A finished LoRA run, in a home of its own."""
    place = tmp_path_factory.mktemp("first")
    (place / "first.yaml").write_text(RECIPE)
    result = subprocess.run([sys.executable, "-m", "workbench", "train", str(place / "first.yaml"), "--json"],
                            capture_output=True, text=True, timeout=120,
                            env={**os.environ, "WORKBENCH_HOME": str(place)})
    assert result.returncode == 0, result.stderr
    shown: dict[str, Any] = json.loads(result.stdout)
    return shown


@pytest.fixture
def first(trained: dict[str, Any], home: Path) -> dict[str, Any]:
    """That run, as if it had been trained in the test's home."""
    directory = home / "runs" / trained["id"]
    shutil.copytree(trained["directory"], directory)
    return {**trained, "directory": str(directory)}


def evaluated(shown: dict[str, Any]) -> dict[int, float]:
    return dict(shown["metrics"]["eval/loss"])


def begin(objective: str, tuning: str, model: str, output_dir: Path) -> tuple[Any, Recipe]:
    """A trainer as the worker builds it, before its first step."""
    recipe = parse_recipe(RECIPE, overrides=[f"model={model}", f"tuning={tuning}", f"objective={objective}",
                                             "rlhf.reward=length:30", "rlhf.beta=0.1"])
    source = resolve_model(recipe.model)
    device = torch.device("cpu")
    tokenizer, _ = loading.load_tokenizer(source)
    base = loading.load_model(source, dtype=torch.float32, device=device,
                              rewards=objective == "reward",
                              quantization=recipe.quantization if tuning == "qlora" else None)
    start = adapters.start_from(base, source, recipe)
    beginning = adapters.Beginning(start, source)
    rows = Dataset.from_list([ROWS[objective]] * 8)
    trainer = objective_module(objective).build_trainer(recipe, start, tokenizer, rows, None, device,
                                                        str(output_dir), [])
    beginning.restore(trainer)
    return trainer, recipe


def test_runs_go_on_from_a_run(first: dict[str, Any], workbench: RunCommand, tmp_path: Path) -> None:
    starting = RECIPE.replace("name: first\nmodel: tiny-base", f"name: next\nmodel: {first['id']}")
    (tmp_path / "next.yaml").write_text(starting)
    refused = workbench("train", str(tmp_path / "next.yaml"), "--set", "lora.lora_r=16")
    assert refused.returncode == 2
    assert "lora.lora_r is 16, and 4 in the adapter that training starts from" in refused.stderr
    assert "Set lora.lora_r to 4; or tuning: full" in refused.stderr

    adapter = load_file(find_run("first").model / "adapter_model.safetensors")
    for tuning, tolerance in (("lora", 1e-6), ("full", 1e-4)):
        result = workbench("train", str(tmp_path / "next.yaml"), "--json", "--set", f"tuning={tuning}",
                           "--set", "training.learning_rate=1e-3")
        shown = json.loads(result.stdout)
        assert shown["state"] == "finished", shown["explanation"]
        assert evaluated(shown)[0] == pytest.approx(evaluated(first)[6], abs=tolerance)
        assert evaluated(shown)[6] < evaluated(shown)[0]
        assert shown["recipe"]["model"] == str(Path(first["directory"]) / "model")
        if tuning == "lora":
            trained = load_file(Path(shown["directory"]) / "model" / "adapter_model.safetensors")
            assert trained.keys() == adapter.keys()
            assert any(not torch.equal(trained[name], adapter[name]) for name in adapter)
    target = resolve_chat_target(shown["id"])
    assert (target.base, target.model) == ("tiny-base", Path(shown["directory"]) / "model")


def test_what_goes_on_is_the_adapter_and_it_alone_is_saved(first: dict[str, Any], tmp_path: Path) -> None:
    saved = load_file(Path(first["directory"]) / "model" / "adapter_model.safetensors")
    for objective, tuning in (("sft", "qlora"), ("dpo", "qlora"), ("dpo", "lora"), ("kto", "lora"), ("orpo", "lora")):
        trainer, _ = begin(objective, tuning, "last", tmp_path)
        model = trainer.model
        assert isinstance(model, PeftModel)
        moving = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert {name.replace(".default.", "."): parameter.shape for name, parameter in moving.items()} \
            == {name: value.shape for name, value in saved.items()}
        for name, parameter in moving.items():
            assert torch.equal(parameter, saved[name.replace(".default.", ".")]), (objective, tuning, name)
        # What preference objectives hold the model to is where it begins, not the bare base.
        for name, parameter in model.named_parameters():
            if ".ref." in name:
                assert torch.equal(parameter, saved[name.replace(".ref.", ".")])
        assert ("ref" in model.peft_config) is (objective in ("dpo", "kto"))
        save_model(trainer, tmp_path / f"{objective}-{tuning}")
        assert not (tmp_path / f"{objective}-{tuning}" / "ref").exists()
        assert load_file(tmp_path / f"{objective}-{tuning}" / "adapter_model.safetensors").keys() == saved.keys()


@pytest.mark.parametrize("objective", ["dpo", "rlhf"])
def test_full_tuning_after_an_adapter_is_held_to_the_merged_model(objective: str, first: dict[str, Any],
                                                                  tmp_path: Path) -> None:
    trainer, _ = begin(objective, "full", f"{first['id']}:3", tmp_path)
    assert not isinstance(trainer.model, PeftModel)
    assert all(parameter.requires_grad for parameter in trainer.model.parameters())
    base = loading.load_model(resolve_model("tiny-base"), dtype=torch.float32, device=torch.device("cpu"))
    reference, ours = trainer.ref_model.state_dict(), trainer.model.state_dict()
    assert all(torch.equal(reference[name], ours[name]) for name in ours)
    moved = [name for name, value in base.state_dict().items() if not torch.equal(value, ours[name])]
    assert len(moved) == 28, "every adapted matrix differs from the base"


@pytest.mark.parametrize("tuning", ["qlora", "full"])
def test_a_reward_model_begins_with_what_the_policy_knows(tuning: str, first: dict[str, Any], tmp_path: Path) -> None:
    saved = load_file(Path(first["directory"]) / "model" / "adapter_model.safetensors")
    trainer, recipe = begin("reward", tuning, "last", tmp_path)
    moving = {name.replace(".default.", "."): parameter for name, parameter in trainer.model.named_parameters()
              if parameter.requires_grad}
    assert any("score" in name for name in moving), "the head is trained too"
    if tuning == "full":
        policy, _ = begin("sft", "full", "last", tmp_path)
        theirs = policy.model.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in moving.items() if "score" not in name)
        return
    assert all(torch.equal(moving[name], value) for name, value in saved.items())
    # What it becomes is a reward model, which another one can go on from and which no policy can.
    save_model(trainer, tmp_path / "judge")
    again, _ = begin("reward", tuning, str(tmp_path / "judge"), tmp_path)
    assert {name: value.shape for name, value in load_file(tmp_path / "judge" / "adapter_model.safetensors").items()
            if "score" in name}
    ours = dict(trainer.model.named_parameters())
    assert all(torch.equal(parameter, ours[name]) for name, parameter in again.model.named_parameters()
               if parameter.requires_grad)
    assert [field for field, _, _ in start_faults(resolve_model(str(tmp_path / "judge")),
                                                  recipe.model_copy(update={"objective": "sft"}))] == ["model"]


def test_damaged_and_strange_adapters_are_refused(first: dict[str, Any], tmp_path: Path) -> None:
    model = Path(first["directory"]) / "model"
    config = json.loads((model / "adapter_config.json").read_text())
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "adapter_model.safetensors").write_bytes((model / "adapter_model.safetensors").read_bytes())
    (foreign / "adapter_config.json").write_text(json.dumps({**config, "auto_mapping": {"parent_library": "os"}}))
    with pytest.raises(InputError, match="auto_mapping, which names code to run"):
        adapters.check_artefact(resolve_model(str(foreign)))
    (foreign / "adapter_config.json").write_text(json.dumps(config))
    adapters.check_artefact(resolve_model(str(foreign)))
    whole = (foreign / "adapter_model.safetensors").read_bytes()
    (foreign / "adapter_model.safetensors").write_bytes(whole[:-8])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors is cut: it ends inside"):
        adapters.check_artefact(resolve_model(str(foreign)))
    with (model / "adapter_model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(RunError, match=r"adapter_model\.safetensors is damaged"):
        adapters.check_artefact(resolve_model("last"))
