"""Training through the real command line: full, LoRA and QLoRA on the built-in model."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.conftest import RunCommand
from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import read_config
from workbench.engine.memory.storage import disk_need
from workbench.engine.paths import assets_dir
from workbench.engine.planning import memory_case
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.manifest import verify

pytestmark = pytest.mark.slow

RECIPE = """\
name: trial
model: tiny-base
dataset: {path: glossary, eval_path: glossary-held-out, max_rows: 64}
training:
  max_steps: 6
  per_device_train_batch_size: 4
  gradient_accumulation_steps: 2
  learning_rate: 2e-3
  max_length: 96
  logging_steps: 2
  save_steps: 3
  save_total_limit: 1
  eval_steps: 3
samples: {every_steps: 3, max_new_tokens: 12, prompts: ["What is LoRA?", "Why use packing?"]}
"""
SHOW_KEYS = {
    "id", "name", "state", "cause", "explanation", "suggestion", "step", "total_steps", "epoch", "losses", "metrics",
    "samples", "checkpoints", "resumed_from", "tokens_per_second", "memory", "trainable_parameters", "parameters",
    "recipe", "started", "ended",
}


def tensors(path: Path) -> dict[str, list[float]]:
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name).float().flatten().tolist() for name in file.keys()}  # noqa: SIM118


def stored_types(path: Path) -> set[str]:
    with safe_open(str(path), framework="pt") as file:
        return {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118


def assert_as_large_as_planned(run: RunDirectory) -> None:
    """The bytes on disk are those that the preflight counted, within a mebibyte for the trainer's state."""
    recipe, tiny = load_recipe(run.recipe), assets_dir() / "tiny_base"
    beside = sum(path.stat().st_size for path in tiny.glob("*.json*"))
    need = disk_need(architecture_from_config(read_config(tiny)), recipe, memory_case(recipe, on_cpu=True), 6, beside)
    checkpoint, result = (sum(path.stat().st_size for path in folder.iterdir())
                          for folder in (run.checkpoints / "step-00000006", run.model))
    assert need.checkpoint - (1 << 20) <= checkpoint <= need.checkpoint
    assert result == pytest.approx(need.result, abs=1 << 16)


@pytest.mark.parametrize("tuning", ["full", "lora", "qlora"])
def test_each_tuning_trains(tuning: str, workbench: RunCommand, tmp_path: Path) -> None:
    recipe = tmp_path / "trial.yaml"
    recipe.write_text(RECIPE)
    result = workbench("train", str(recipe), "--set", f"tuning={tuning}", "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)

    assert shown.keys() >= SHOW_KEYS
    assert (shown["state"], shown["step"], shown["total_steps"]) == ("finished", 6, 6)
    losses = [loss for _, loss in shown["losses"]]
    assert [step for step, _ in shown["losses"]] == [1, 2, 4, 6]
    assert losses[-1] < losses[0]
    assert [step for step, _ in shown["metrics"]["eval/loss"]] == [0, 3, 6]
    assert {sample["step"] for sample in shown["samples"]} == {0, 3, 6}
    assert shown["tokens_per_second"] > 0
    memory = shown["memory"]
    assert memory["estimated_peak"] > 0
    assert memory["probed_resident"] > 100e6
    assert memory["resident"] > 100e6
    assert [memory[name] for name in ("rehearsed_peak", "probed_allocated", "probed_reserved", "estimated_probe",
                                      "measured_allocated", "measured_reserved")] == [None] * 6
    assert shown["parameters"] == 3_737_856
    expected = shown["parameters"] if tuning == "full" else 16 * lora_width()
    assert shown["trainable_parameters"] == expected

    run = RunDirectory(Path(shown["directory"]))
    assert [checkpoint["step"] for checkpoint in shown["checkpoints"]] == [6]
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000006"]
    assert_as_large_as_planned(run)
    assert verify(run.model) is None
    if tuning == "full":
        assert tensors(run.model / "model.safetensors") != tensors(assets_dir() / "tiny_base" / "model.safetensors")
    else:
        pairs = tensors(run.model / "adapter_model.safetensors")
        moved = [any(values) for name, values in pairs.items() if "lora_B" in name]
        assert len(moved) == 28
        assert all(moved)
        assert stored_types(run.model / "adapter_model.safetensors") == {"F32"}


def lora_width() -> int:
    """in + out of every linear layer of the built-in model, four layers."""
    config = json.loads((assets_dir() / "tiny_base" / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    key_value = config["num_key_value_heads"] * config["head_dim"]
    return 4 * (2 * (hidden + hidden) + 2 * (hidden + key_value) + 3 * (hidden + inner))


def test_quantised_layers_pass_gradients_after_they_have_answered() -> None:
    import torch
    from peft import get_peft_model

    from workbench.engine.catalog.models import resolve_model
    from workbench.engine.paths import recipes_dir
    from workbench.engine.recipe import QuantizationSettings
    from workbench.engine.recipe_file import load_recipe
    from workbench.worker.loading import load_model
    from workbench.worker.objectives.common import lora_config

    base = load_model(resolve_model("tiny-base"), dtype=torch.float32, device=torch.device("cpu"),
                      quantization=QuantizationSettings())
    model = get_peft_model(base, lora_config(load_recipe(recipes_dir() / "demo.yaml")))
    ids = torch.arange(8).unsqueeze(0)

    def gradients() -> dict[str, torch.Tensor]:
        model.train()
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if "lora_B" in name}

    before = gradients()
    model.eval()
    with torch.inference_mode():
        model(input_ids=ids)
    for name, gradient in gradients().items():
        assert torch.equal(gradient, before[name]), name


def test_a_diverging_run_fails_with_nan_and_never_shows_zero(workbench: RunCommand, tmp_path: Path) -> None:
    recipe = tmp_path / "trial.yaml"
    recipe.write_text(RECIPE)
    result = workbench("train", str(recipe), "--json", "--set", "tuning=full", "--set", "training.learning_rate=1e30",
                       "--set", "training.warmup_steps=0", "--set", "training.logging_steps=1",
                       "--set", "training.save_steps=null")
    shown = json.loads(result.stdout)
    assert (shown["state"], shown["cause"]) == ("failed", "nan")
    assert "became" in shown["explanation"]
    assert "training.learning_rate" in shown["suggested_changes"]
    assert shown["metrics"]["train/grad_norm"][-1][1] == "nan"
    assert all(loss != 0 for _, loss in shown["losses"])


def test_a_bad_row_fails_before_anything_starts(workbench: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n')
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("model: tiny-base\ndataset: rows.jsonl\n")
    result = workbench("train", str(recipe))
    assert result.returncode == 2
    assert result.stderr.startswith("error: rows.jsonl:2: `completion` is missing")
    assert "Traceback" not in result.stderr
    assert workbench("runs", "--json").stdout.strip() == "[]"
