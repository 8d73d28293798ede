"""`workbench estimate --cases`: a result a line, in order, and a sentence for every bad case."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCommand
from workbench.engine.catalog.models import resolve_model
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.cases_file import parse_case, results
from workbench.engine.memory.estimate import COMPONENTS

LLAMA = "meta-llama/Llama-3.1-8B"
CASE = {
    "id": "c1", "model": LLAMA, "objective": "sft", "tuning": "lora", "lora_r": 16,
    "target_modules": ["q_proj", "v_proj"], "quantization": "none", "per_device_train_batch_size": 4,
    "max_length": 4096, "gradient_checkpointing": True, "dtype": "bfloat16", "mixed_precision": "no",
    "optim": "adamw_torch", "attn_implementation": "flash_attention_2", "loss_kernel": "full_logits",
    "prepare_for_kbit": False, "num_processes": 1, "sharding": "none",
}


def answer(document: Any) -> dict[str, Any]:
    line = document if isinstance(document, bytes) else json.dumps(document).encode()
    [result] = results([line], None)
    return result


def test_a_result_has_every_figure() -> None:
    result = answer(CASE)
    assert result.keys() == {"id", "parameters", "trainable_parameters", "static_bytes", "peak_bytes", "low_bytes",
                             "high_bytes", "peak_moment", "components"}
    assert (result["id"], result["parameters"], result["trainable_parameters"]) == ("c1", 8030261248, 6815744)
    assert tuple(result["components"]) == COMPONENTS
    assert sum(result["components"].values()) == result["peak_bytes"]


def test_a_config_stands_for_a_name() -> None:
    with_config = {**CASE, "model_config": resolve_model(LLAMA).config}
    del with_config["model"]
    assert answer(with_config) == answer(CASE)


def test_a_folder_is_looked_up_beside_the_cases(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(resolve_model(LLAMA).config))
    [result] = results([json.dumps({**CASE, "model": "./mine"}).encode()], tmp_path)
    assert result == answer(CASE)


def test_what_is_left_out_has_the_recipes_default() -> None:
    _, case = parse_case({"model": LLAMA, "max_length": None})
    assert case == MemoryCase()
    from workbench.engine.recipe import LoraSettings, TrainingSettings

    training, lora = TrainingSettings(), LoraSettings()
    for field in ("per_device_train_batch_size", "max_length", "optim", "gradient_checkpointing", "packing",
                  "attn_implementation", "dtype"):
        assert getattr(case, field) == getattr(training, field)
    for field in ("lora_r", "lora_dropout", "target_modules"):
        assert getattr(case, field) == getattr(lora, field)


def test_qlora_without_a_quantization_is_doubly_quantised() -> None:
    case = {key: value for key, value in CASE.items() if key != "quantization"}
    double = answer({**CASE, "tuning": "qlora", "quantization": "nf4-double"})
    assert answer({**case, "tuning": "qlora"}) == answer({**CASE, "tuning": "qlora"}) == double
    assert double["static_bytes"] < answer({**CASE, "tuning": "qlora", "quantization": "nf4"})["static_bytes"]


def test_adamw_torch_is_the_foreach_implementation() -> None:
    full = {**CASE, "tuning": "full", "per_device_train_batch_size": 1, "max_length": 64}
    foreach, fused = (answer({**full, "optim": optim}) for optim in ("adamw_torch", "adamw_torch_fused"))
    assert foreach["peak_moment"] == "the optimizer step"
    assert foreach["components"]["optimizer"] - fused["components"]["optimizer"] == 2 * foreach["parameters"]
    assert foreach["static_bytes"] == fused["static_bytes"]


def test_a_reward_model_is_held_too() -> None:
    rollouts = {"model": LLAMA, "objective": "rlhf"}
    with_model = answer({**rollouts, "reward_model": LLAMA})
    head = 128256 * 4096 - 4096
    assert with_model["static_bytes"] - answer(rollouts)["static_bytes"] == 2 * (8030261248 - head)


@pytest.mark.parametrize(("change", "words"), [
    ({"max_lenght": 1}, "'max_lenght' is not known; the nearest is 'max_length'"),
    ({"max_length": "4096"}, 'max_length must be a whole number, not "4096"'),
    ({"max_length": 4096.5}, "max_length must be a whole number"),
    ({"max_length": True}, "max_length must be a whole number, not true"),
    ({"max_length": 0}, "not a whole number of at least 1"),
    ({"gradient_checkpointing": 1}, "gradient_checkpointing must be true or false"),
    ({"lora_dropout": "0"}, "lora_dropout must be a number"),
    ({"target_modules": [1]}, "target_modules must be text or a list of names"),
    ({"sharding": "zero3"}, "choose from none, ddp, fsdp"),
    ({"loss_kernel": "cut"}, "choose from auto"),
    ({"optim": "lomo"}, "'lomo' is not estimated"),
    ({"objective": "ppo"}, "objective = 'ppo'"),
    ({"model": "meta-llama/Llama-9"}, "neither on this disk nor in the catalogue"),
    ({"model": 3}, "model must be a name or a path"),
    ({"model": None}, "neither model nor model_config"),
    ({"model_config": {}}, "both model and model_config"),
    ({"model": None, "model_config": []}, "model_config must be an object"),
    ({"model": None, "model_config": {"architectures": ["Strange"]}}, "Strange"),
])
def test_a_bad_case_is_one_sentence(change: dict[str, Any], words: str) -> None:
    result = answer({**CASE, **change})
    assert result.keys() == {"id", "error"}
    assert result["id"] == "c1"
    assert words in result["error"]
    assert result["error"].endswith(".")


@pytest.mark.parametrize(("line", "words"), [(b"{nonsense", "Line 1 is not JSON"), (b"[1]", "Line 1 is no JSON object"),
                                             (b'{"a": NaN}', "Line 1 is not JSON"), (b"\xff", "Line 1 is not JSON")])
def test_a_line_that_is_no_case_is_named(line: bytes, words: str) -> None:
    result = answer(line)
    assert (result["id"], result["line"]) == (None, 1)
    assert words in result["error"]


def test_the_command_answers_all_and_then_fails(workbench: RunCommand, tmp_path: Path) -> None:
    good = json.dumps(CASE)
    cases = tmp_path / "cases.jsonl"
    cases.write_text(f'{good}\n\nbroken\n{{"id": 3, "model": "{LLAMA}", "tunning": "lora"}}\n{good}\n')
    result = workbench("estimate", "--cases", str(cases))
    assert result.returncode == 1
    assert result.stderr == ""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["id"] for line in lines] == ["c1", None, 3, "c1"]
    assert ["error" in line for line in lines] == [False, True, True, False]
    assert lines[1]["line"] == 3
    cases.write_text(good)
    assert workbench("estimate", "--cases", str(cases)).returncode == 0
    missing = workbench("estimate", "--cases", str(tmp_path / "none.jsonl"))
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "Cannot read the cases" in missing.stderr


def test_the_command_reads_standard_input() -> None:
    command = [sys.executable, "-m", "workbench", "estimate", "--cases", "-"]
    result = subprocess.run(command, input=json.dumps(CASE), capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == answer(CASE)
