"""Which recipes, data and models a checkpoint can be gone on with, and what is said of the others."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from workbench.engine.atomic import write_json
from workbench.engine.catalog.models import resolve_model
from workbench.engine.paths import assets_dir
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import parse_recipe
from workbench.engine.runs import resumable
from workbench.engine.runs.directory import RunDirectory, create_run_directory
from workbench.engine.runs.going_on import newest_checkpoint
from workbench.engine.runs.manifest import MANIFEST, write_complete
from workbench.engine.runs.resumable import TRAINING_STATE, facts, faults, notes
from workbench.engine.runs.store import read_json

RECIPE = """\
model: {folder}/model
dataset: {{path: {folder}/rows.jsonl}}
training: {{per_device_train_batch_size: 4, gradient_accumulation_steps: 2, max_steps: 100}}
"""


def write_state(partial: Path) -> None:
    for name in ("adapter_model.safetensors", *TRAINING_STATE):
        (partial / name).write_text(name)


@pytest.fixture
def saved(tmp_path: Path, home: Path) -> tuple[RunDirectory, Path, Path]:
    """A run, its checkpoint of step 50, and the folder of its data and model."""
    shutil.copytree(assets_dir() / "tiny_base", tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    run = create_run_directory("saved")
    recipe = parse_recipe(RECIPE.format(folder=tmp_path))
    checkpoint = run.checkpoints / "step-00000050"
    write_complete(checkpoint, write_state, {"step": 50, **facts(recipe, resolve_model(recipe.model), run.path)})
    return run, checkpoint, tmp_path


def recipe_with(folder: Path, *overrides: str) -> Recipe:
    return parse_recipe(RECIPE.format(folder=folder), overrides=overrides)


@pytest.mark.parametrize("overrides", [
    (),
    ("training.per_device_train_batch_size=1", "training.gradient_accumulation_steps=8"),
    ("training.learning_rate=1e-5", "training.max_grad_norm=0.5", "training.warmup_steps=10"),
    ("training.max_steps=50",),
    ("training.max_steps=500", "training.save_steps=1", "training.logging_steps=1", "training.eval_steps=3"),
    ("samples.prompts=[a, b]", "hardware.probe=false", "on_failure.resume=3", "name=other"),
    ("training.gradient_checkpointing=false", "training.attn_implementation=eager", "training.max_length=512"),
    ("lora.lora_dropout=0.1", "dpo.beta=0.5", "quantization.bits=8"),
])
def test_what_leaves_it_the_same_run(overrides: tuple[str, ...], saved: tuple[RunDirectory, Path, Path]) -> None:
    run, checkpoint, folder = saved
    recipe = recipe_with(folder, *overrides)
    assert faults(run, recipe, checkpoint) == ()
    assert notes(run, recipe, checkpoint) == ()
    assert newest_checkpoint(run) == (f"checkpoints/{checkpoint.name}", [])


def test_the_micro_batch_belongs_to_kto(saved: tuple[RunDirectory, Path, Path]) -> None:
    run, checkpoint, folder = saved
    manifest = read_json(checkpoint / MANIFEST)
    write_json(checkpoint / MANIFEST, {**manifest, "settings": {**manifest["settings"], "objective": "kto"}})
    halved = ("objective=kto", "training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=4")
    assert any("another training" in fault for fault in faults(run, recipe_with(folder, *halved), checkpoint))


@pytest.mark.parametrize(("overrides", "sentence"), [
    (("training.seed=1",), "training.seed was 42, and is 1 now."),
    (("training.gradient_accumulation_steps=4",),
     "A step took 8 rows (per_device_train_batch_size × gradient_accumulation_steps), and would take 16."),
    (("training.max_steps=49",), "training.max_steps is 49, and the checkpoint is of step 50."),
    (("lora.lora_r=8",), "lora.lora_r was 16, and is 8 now."),
    (("lora.target_modules=[q_proj]",), "lora.target_modules was all-linear, and is ['q_proj'] now."),
    (("objective=cpt",), "objective was sft, and is cpt now."),
    (("tuning=full",), "tuning was lora, and is full now."),
    (("training.optim=sgd",), "training.optim was adamw_torch_fused, and is sgd now."),
    (("training.dtype=float32",), "training.dtype was auto, and is float32 now."),
    (("training.packing=true",), "training.packing was false, and is true now."),
    (("dataset.max_rows=1",), "dataset.max_rows was not set, and is 1 now."),
    (("data.chat_template=chatml",), "data.chat_template was auto, and is chatml now."),
])
def test_what_makes_it_another_run(overrides: tuple[str, ...], sentence: str,
                                   saved: tuple[RunDirectory, Path, Path]) -> None:
    run, checkpoint, folder = saved
    assert sentence in faults(run, recipe_with(folder, *overrides), checkpoint)


def test_data_and_model_are_told_by_what_they_hold(saved: tuple[RunDirectory, Path, Path]) -> None:
    run, checkpoint, folder = saved
    moved = folder / "moved"
    moved.mkdir()
    for name in ("model", "rows.jsonl"):
        (folder / name).rename(moved / name)
    assert faults(run, recipe_with(moved), checkpoint) == ()
    assert len(faults(run, recipe_with(folder), checkpoint)) == 1, "nothing is there any more"
    (moved / "rows.jsonl").write_text('{"prompt": "a", "completion": "c"}\n')
    weights = moved / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    rows, model = faults(run, recipe_with(moved), checkpoint)
    assert rows == f"The rows of {moved}/rows.jsonl are other ones than before."
    assert model == f"The weights of {moved}/model are other ones than before."


def test_damage_and_an_earlier_format_are_named(saved: tuple[RunDirectory, Path, Path],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    run, checkpoint, folder = saved
    recipe = recipe_with(folder)
    versions: dict[str, Any] = {**json.loads((checkpoint / "manifest.json").read_text())["versions"], "torch": "9.1"}
    with monkeypatch.context() as patched:
        patched.setattr(resumable, "library_versions", lambda: versions)
        assert "and 9.1 is installed." in faults(run, recipe, checkpoint)[0]
        patched.setattr(resumable, "library_versions", lambda: {**versions, "torch": "2.999", "trl": versions["trl"]})
        assert faults(run, recipe, checkpoint) == ()
        assert "→ 2.999. Figures may differ" in notes(run, recipe, checkpoint)[0]
    (checkpoint / "optimizer.pt").write_text("optimizer.PT")
    assert faults(run, recipe, checkpoint) == (
        "The checkpoint step-00000050 is not loaded: optimizer.pt is damaged.",)
    old = run.checkpoints / "step-00000060"
    write_complete(old, lambda partial: (partial / "optimizer.pt").write_text("all") and None, {"step": 60})
    assert "earlier version" in faults(run, recipe, old)[0]
    assert faults(run, recipe, run.checkpoints / "step-00000070") == ("There is no checkpoint step-00000070.",)
    assert newest_checkpoint(run)[0] is None
