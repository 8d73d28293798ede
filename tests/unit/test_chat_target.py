"""A word becomes the base, the adapter or the model that Chat loads."""

from pathlib import Path

import orjson
import pytest

from workbench.engine.chat_target import ChatTarget, chat_runs, resolve_chat_target
from workbench.engine.errors import InputError
from workbench.engine.recipe import QuantizationSettings
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.journal import Journal
from workbench.engine.runs.manifest import write_complete
from workbench.engine.runs.store import list_runs


def make_run(home: Path, name: str = "demo", time: str = "20260101-120000", tuning: str = "lora",
             more: str = "") -> RunDirectory:
    run = RunDirectory(home / "runs" / f"{time}-{name}-0a1b")
    run.path.mkdir(parents=True)
    run.recipe.write_text(f"name: {name}\nmodel: tiny-base\ndataset: glossary\ntuning: {tuning}\n{more}")
    return run


def save(directory: Path, step: int, config: str = "adapter_config.json") -> Path:
    def fill(partial: Path) -> None:
        (partial / config).write_text("{}")
        (partial / "weights").write_text(f"{step}")

    directory.parent.mkdir(exist_ok=True)
    write_complete(directory, fill, {"step": step})
    return directory


def checkpoint(run: RunDirectory, step: int) -> Path:
    return save(run.checkpoints / f"step-{step:08d}", step)


def test_the_built_in_model() -> None:
    target = resolve_chat_target("tiny-base")
    assert target == ChatTarget("tiny-base", "tiny-base", "tiny-base")
    assert target.description == "tiny-base"
    assert target.trained is None


@pytest.mark.parametrize("reference", ["last", "demo", "20260101-120000-demo-0a1b", "last:40"])
def test_a_run_by_any_of_its_names_is_its_final_adapter(home: Path, reference: str) -> None:
    run = make_run(home)
    checkpoint(run, 20)
    save(run.model, 40)
    target = resolve_chat_target(reference)
    assert target.adapter == run.model
    assert target.description == "demo · step 40 (LoRA on tiny-base)"
    assert target.verified_by_manifest


def test_a_checkpoint_by_step_and_by_path(home: Path) -> None:
    run = make_run(home)
    path = checkpoint(run, 20)
    save(run.model, 40)
    assert resolve_chat_target("demo:20").adapter == path
    assert resolve_chat_target(str(path)) == resolve_chat_target("demo:20")
    with pytest.raises(InputError, match="no checkpoint of step 30") as error:
        resolve_chat_target("demo:30")
    assert error.value.hint == "It has: 20, 40."


def test_a_run_without_a_model_gives_its_newest_checkpoint_that_verifies(home: Path) -> None:
    run = make_run(home)
    checkpoint(run, 20)
    (checkpoint(run, 40) / "weights").write_text("40 and damage")
    assert resolve_chat_target("demo").title == "demo · step 20"


def test_a_run_that_has_saved_nothing_says_when_it_will(home: Path) -> None:
    run = make_run(home, more="training: {save_steps: 50}\n")
    with Journal(run.events) as journal:
        journal.append("loaded", parameters=1, trainable_parameters=1, total_steps=70, device="cpu")
        journal.append("step", step=51, epoch=0.1, metrics={})
    with pytest.raises(InputError, match="nothing to chat with yet; it saves at step 70, and is at step 51"):
        resolve_chat_target("demo")


def test_a_run_that_ended_with_nothing(home: Path) -> None:
    with Journal(make_run(home).events) as journal:
        journal.append("ended", outcome="failed", cause="oom", explanation=None, suggestion=None)
    with pytest.raises(InputError, match="failed before it saved anything"):
        resolve_chat_target("demo")


def test_qlora_says_how_the_base_is_held(home: Path) -> None:
    run = make_run(home, tuning="qlora", more="quantization: {bits: 8}\n")
    save(run.model, 40)
    target = resolve_chat_target("demo")
    assert target.quantization == QuantizationSettings(bits=8)
    assert ChatTarget.from_json(orjson.loads(orjson.dumps(target.to_json()))) == target


def test_a_fully_trained_model_stands_beside_its_base(home: Path) -> None:
    run = make_run(home, tuning="full")
    save(run.model, 40, "config.json")
    target = resolve_chat_target("demo")
    assert (target.model, target.adapter, target.base) == (run.model, None, "tiny-base")
    assert target.description == "demo · step 40 (full, from tiny-base)"


def test_a_foreign_adapter_names_its_base(tmp_path: Path) -> None:
    folder = tmp_path / "my-\x1b[31madapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "tiny-base"}')
    target = resolve_chat_target(str(folder))
    assert (target.base, target.adapter, target.verified_by_manifest) == ("tiny-base", folder, False)
    assert "\x1b" not in target.title


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a model nor an adapter"):
        resolve_chat_target(str(tmp_path))


def test_an_unrelated_folder_does_not_hide_a_run_of_that_name(home: Path, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(home)
    save(run.model, 40)
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_chat_target("demo").adapter == run.model


def test_unknown_and_ambiguous_words(home: Path) -> None:
    make_run(home)
    make_run(home, time="20260101-120001")
    with pytest.raises(InputError, match="Neither a run nor a model is called 'nothing'"):
        resolve_chat_target("nothing")
    with pytest.raises(InputError, match="fits 2 runs"):
        resolve_chat_target("demo")


def test_only_runs_that_saved_something_are_offered(home: Path) -> None:
    make_run(home, "empty")
    older, newer = make_run(home, "older", "20260101-120001"), make_run(home, "newer", "20260101-120002")
    save(older.model, 40)
    checkpoint(newer, 20)
    assert [run.run.name for run in chat_runs(list_runs())] == ["newer", "older"]
    assert [run.run.name for run in chat_runs(list_runs(), limit=1)] == ["newer"]
