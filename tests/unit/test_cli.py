"""The command line: exit codes, JSON, and errors in a sentence."""

import json
from pathlib import Path

import pytest

from tests.conftest import RunCommand


def test_runs_of_an_empty_home(workbench: RunCommand) -> None:
    assert workbench("runs").stdout == "No runs yet. Start one: workbench demo\n"
    assert json.loads(workbench("runs", "--json").stdout) == []


@pytest.mark.parametrize(("arguments", "words"), [
    (("show", "nope"), "There are no runs yet"),
    (("plan", "nope.yaml"), "Cannot read the recipe nope.yaml"),
    (("plan", "recipes/demo.yaml", "--set", "training.lerning_rate=1"), "did you mean learning_rate?"),
    (("train", "recipes/demo.yaml", "--set", "model=tiny-bas"), "tiny-base"),
    (("chat", "no-such-model", "--prompt", "hi"), "no-such-model"),
    ((), "needs a terminal"),
    (("recipes/demo.yaml",), "needs a terminal"),
])
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: tuple[str, ...], words: str,
                                                   workbench: RunCommand) -> None:
    result = workbench(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_names_of_files_reach_the_terminal_as_text(workbench: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "a\x1b]0;title\x07.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 2)
    (tmp_path / "r.yaml").write_text("model: tiny-base\ndataset: evil\n")
    result = workbench("train", str(tmp_path / "r.yaml"))
    assert "repeats an earlier row word for word: evil/a\\x1b]0;title\\x07.jsonl:2." in result.stderr
    shown = workbench("data", str(tmp_path / "evil")).stdout
    assert "evil/a\\x1b]0;title\\x07.jsonl:1 as the model sees it" in shown
    planned = [workbench("plan", str(tmp_path / "r.yaml"), "--set", f"data.allow={allow}").stdout
               for allow in ("all", "[]")]
    assert all("evil/a" in text for text in planned)
    assert not {"\x1b", "\x07"} & set("".join((result.stderr, shown, *planned)))


def test_plan_as_text_and_as_json(workbench: RunCommand) -> None:
    text = workbench("plan", "recipes/demo.yaml").stdout
    for word in ("Full", "LoRA", "QLoRA", "PEAK", "365 rows"):
        assert word in text
    plan = json.loads(workbench("plan", "recipes/demo.yaml", "--json").stdout)
    assert plan.keys() >= {"model", "parameters", "objective", "gpus", "tunings", "steps", "tokens", "warnings"}
    assert set(plan["tunings"]) == {"full", "lora", "qlora"}
    assert plan["tunings"]["lora"].keys() >= {"peak_bytes", "trainable_parameters", "components", "fits"}


def test_a_plan_for_cards_that_are_not_here(workbench: RunCommand, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: meta-llama/Llama-3.1-8B\ndataset: glossary\ntraining: {max_length: 4096}\n")
    cards = ("--gpu", "4090", "--gpu", "h100 80gb", "--gpu", "H100-80GB")
    text = workbench("plan", str(recipe), *cards).stdout
    for word in ("RTX-4090", "2 x H100-80GB", "LARGEST BATCH", "LONGEST ROWS"):
        assert word in text
    plan = json.loads(workbench("plan", str(recipe), "--json", *cards).stdout)
    assert [gpu["name"] for gpu in plan["gpus"]] == ["RTX-4090", "H100-80GB", "H100-80GB"]
    small, large, _ = plan["tunings"]["lora"]["devices"]
    assert (small["fits"], large["fits"], plan["tunings"]["lora"]["fits"]) == ("no", "fits", "fits")
    assert small["largest_batch"] < 4 <= large["largest_batch"]
    assert small["longest_max_length"] < 4096 <= large["longest_max_length"]
    assert plan["suggestions"] == []


def test_a_plan_that_does_not_fit_says_what_would(workbench: RunCommand, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: meta-llama/Llama-3.1-8B\ndataset: glossary\ntraining: {max_length: 4096}\n")
    command = ("plan", str(recipe), "--gpu", "RTX-4090")
    suggestions = json.loads(workbench(*command, "--json").stdout)["suggestions"]
    assert suggestions[0].keys() == {"changes", "words", "peak_bytes", "fits"}
    assert suggestions[0]["changes"] == {"training.per_device_train_batch_size": 2,
                                         "training.gradient_accumulation_steps": 8}
    assert "to fit: Micro-batches of 2, 8 a step (the same 16 rows)" in workbench(*command).stdout
    unknown = workbench("plan", str(recipe), "--gpu", "H1000")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "H100-80GB" in unknown.stderr


def test_a_plan_of_an_unknown_architecture_offers_the_rehearsal(workbench: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "config.json").write_text('{"architectures": ["StrangeForCausalLM"]}')
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: ./strange\ndataset: glossary\n")
    [warning] = json.loads(workbench("plan", str(recipe), "--json").stdout)["warnings"]
    assert "StrangeForCausalLM" in warning
    assert "workbench rehearse" in warning


def test_a_plan_with_problems_names_them_and_fails(workbench: RunCommand, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: tiny-base\ndataset: missing.jsonl\n")
    result = workbench("plan", str(recipe), "--json")
    assert result.returncode == 2
    assert json.loads(result.stdout)["problems"][0]["field"] == "dataset.path"


def test_models_and_doctor(workbench: RunCommand) -> None:
    models = json.loads(workbench("models", "--json").stdout)
    assert models[0]["name"] == "tiny-base"
    assert all(model.keys() == {"name", "source", "parameters", "path"} for model in models)
    checks = json.loads(workbench("doctor", "--json").stdout)
    assert {"torch", "home", "Hub", "terminal"} <= {check["name"] for check in checks}


def test_doctor_never_shows_the_token(workbench: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_sentinel")
    result = workbench("doctor")
    assert "token present" in result.stdout
    assert "hf_secret_sentinel" not in result.stdout + result.stderr
