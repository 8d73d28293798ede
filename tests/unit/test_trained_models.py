"""A run, a checkpoint or an adapter's folder as `model:` stands for its base with that adapter."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_chat_target import checkpoint, make_run, save
from workbench.engine.atomic import write_json
from workbench.engine.catalog.models import resolve_model
from workbench.engine.catalog.trained import is_reward_model
from workbench.engine.chat_target import chat_runs, resolve_chat_target
from workbench.engine.errors import InputError, RunError
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.planning import make_plan
from workbench.engine.recipe_file import parse_recipe
from workbench.engine.runs.deletion import delete_run
from workbench.engine.runs.launcher import resolve_recipe
from workbench.engine.runs.store import list_runs

LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def foreign_adapter(folder: Path, **settings: Any) -> Path:
    """As peft's `save_pretrained` lays it out."""
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": "tiny-base", "r": 16, "lora_alpha": 32,
              "target_modules": LINEAR[::-1], "task_type": "CAUSAL_LM", "use_rslora": False}
    (folder / "adapter_config.json").write_text(json.dumps({**config, **settings}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def problems(model: str, *overrides: str) -> list[tuple[str, str]]:
    recipe = parse_recipe(f"model: {model}\ndataset: glossary\n", overrides=overrides)
    return [(problem.field, problem.message)
            for problem in make_plan(recipe, None, [], host_snapshot()).problems]


@pytest.mark.parametrize("reference", ["last", "demo", "20260101-120000-demo-0a1b", "demo:40", "last:20"])
def test_a_run_is_its_base_with_its_adapter(home: Path, reference: str) -> None:
    run = make_run(home)
    early = checkpoint(run, 20)
    save(run.model, 40)
    source = resolve_model(reference)
    assert source.name == "tiny-base"
    assert source.adapter == (early if reference == "last:20" else run.model)
    assert resolve_model(source.reference) == source, "what a run's recipe says means the same"
    assert source.config == resolve_model("tiny-base").config


def test_a_fully_trained_run_is_simply_a_base(home: Path) -> None:
    run = make_run(home, tuning="full")
    save(run.model, 40, "config.json")
    source = resolve_model("demo")
    assert (source.path, source.adapter, source.kind) == (run.model, None, "folder")


def test_a_chain_of_runs_goes_back_to_the_first_base(home: Path) -> None:
    first = make_run(home, "first")
    save(first.model, 40)
    second = make_run(home, "second", time="20260101-120001")
    second.recipe.write_text(f"name: second\nmodel: {first.model}\ndataset: glossary\n")
    save(second.model, 40)
    assert (resolve_model("second").name, resolve_model("second").adapter) == ("tiny-base", second.model)
    target = resolve_chat_target("second")
    assert (target.base, target.adapter, target.base_title) == ("tiny-base", second.model, "tiny-base")

    full = make_run(home, "third", time="20260101-120002", tuning="full")
    full.recipe.write_text(f"name: third\nmodel: {second.model}\ndataset: glossary\ntuning: full\n")
    save(full.model, 40, "config.json")
    on_top = make_run(home, "fourth", time="20260101-120003")
    on_top.recipe.write_text(f"name: fourth\nmodel: {full.model}\ndataset: glossary\n")
    save(on_top.model, 40)
    assert resolve_chat_target("third").base == "tiny-base"
    assert resolve_chat_target("fourth").base == str(full.model), "that adapter fits this model alone"


def test_a_run_with_nothing_to_start_from_says_so(home: Path) -> None:
    make_run(home)
    with pytest.raises(InputError, match="nothing to start from yet; it saves at step 500"):
        resolve_model("demo")
    make_run(home, time="20260101-120001")
    with pytest.raises(InputError, match="fits 2 runs"):
        resolve_model("demo")


def test_a_foreign_adapter_with_the_same_shape_goes_on(tmp_path: Path) -> None:
    folder = foreign_adapter(tmp_path / "adapter")
    assert problems(str(folder)) == []
    recipe = parse_recipe("model: adapter\ndataset: glossary\n")
    assert resolve_recipe(recipe, tmp_path).model == str(folder)


@pytest.mark.parametrize(("settings", "overrides", "field"), [
    ({"r": 8}, (), "lora.lora_r"), ({"lora_alpha": 8}, (), "lora.lora_alpha"),
    ({"use_rslora": True}, (), "lora.use_rslora"), ({"target_modules": ["q_proj"]}, (), "lora.target_modules"),
    ({}, ("lora.target_modules=[q_proj]",), "lora.target_modules"),
])
def test_another_shape_is_refused_at_the_field(settings: dict[str, Any], overrides: tuple[str, ...], field: str,
                                               tmp_path: Path) -> None:
    folder = str(foreign_adapter(tmp_path / "adapter", **settings))
    assert [where for where, _ in problems(folder, *overrides)] == [field]
    assert problems(folder, *overrides, "tuning=full") == []


def test_what_cannot_be_started_from_is_refused(tmp_path: Path) -> None:
    reward = foreign_adapter(tmp_path / "reward", task_type="SEQ_CLS")
    assert is_reward_model(resolve_model(str(reward)))
    assert [field for field, _ in problems(str(reward))] == ["model"]
    other = foreign_adapter(tmp_path / "other", peft_type="PROMPT_TUNING")
    assert "only LoRA adapters" in problems(str(other))[0][1]
    circle = foreign_adapter(tmp_path / "circle", base_model_name_or_path=str(tmp_path / "circle"))
    assert "leads back to itself" in problems(str(circle))[0][1]
    lost = foreign_adapter(tmp_path / "lost", base_model_name_or_path="/nowhere/model")
    assert "/nowhere/model, was not found" in problems(str(lost))[0][1]


def test_an_adapter_in_the_hub_cache_is_known_by_its_id(tmp_path: Path) -> None:
    snapshot = tmp_path / "hf" / "hub" / "models--someone--adapter" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    foreign_adapter(snapshot)
    source = resolve_model("someone/adapter")
    assert (source.name, source.adapter) == ("tiny-base", snapshot)


def test_what_an_adapter_stands_on_is_not_deleted(home: Path) -> None:
    full = make_run(home, "full", tuning="full")
    save(full.model, 40, "config.json")
    on_top = make_run(home, "on-top", time="20260101-120001")
    write_json(on_top.plan, {"recipe": {"model": str(full.model), "tuning": "lora"}})
    save(on_top.model, 40)
    for run in (full, on_top):
        run.status.write_text("{}")
    with pytest.raises(RunError, match=f"the adapter of {on_top.id} stands on its model"):
        delete_run(full)
    delete_run(on_top)
    delete_run(full)
    assert not full.path.exists()


def test_a_reward_model_is_nothing_to_chat_with(home: Path) -> None:
    run = make_run(home, "judge", more="objective: reward\n")
    save(run.model, 40)
    (run.model / "adapter_config.json").write_text('{"task_type": "SEQ_CLS"}')
    with pytest.raises(InputError, match="is a reward model: it scores answers"):
        resolve_chat_target("judge")
    assert chat_runs(list_runs()) == []
