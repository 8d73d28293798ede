"""The measuring script itself, run on a CPU: so that its first run on a GPU does not die of a typo."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.gpu.cases import TINY, Case, buildable, config_of, cpu_cases, cuda_cases
from tests.gpu.measure import main, off_by
from tests.gpu.training import measure
from workbench.engine.catalog.architecture import architecture_from_config


def test_every_case_names_a_model_that_is_known_and_no_case_is_there_twice() -> None:
    cases = cuda_cases()
    assert len({case.id for case in cases}) == len(cases)
    for case in cases:
        config = config_of(case)
        assert architecture_from_config(config).num_hidden_layers == config["num_hidden_layers"]
        assert case.layers in (None, config["num_hidden_layers"])
    assert {case.objective for case in cases} == {case.objective for case in cpu_cases()} == set(buildable())


def test_models_are_built_as_their_configurations_say() -> None:
    built = set()
    for case in cuda_cases():
        if (case.model, case.layers) not in built:
            built.add((case.model, case.layers))
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config_of(case)))
            assert sum(p.numel() for p in model.parameters()) == architecture_from_config(config_of(case)).parameters


@pytest.mark.slow
def test_the_script_measures_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    document = main(["--device", "cpu", "--only", "sft lora", "--no-rehearsal", "--out", str(out)])
    assert json.loads(out.read_text()) == json.loads(json.dumps(document))
    row, = document["rows"]
    assert row["error"] is None
    assert (row["allocated"], row["reserved"]) == (None, None)
    assert row["resident"] > 100e6
    assert row["tokens_per_second"] > 0
    assert row["probed_tokens"] == 48
    assert (row["parameters"], row["estimated"] > 0) == (3_737_856, True)
    assert off_by(document["rows"], "estimated") == []
    assert [entry.get("error") for entry in document["speed"]] == [None, None]
    assert all(entry["ratio"] > 0 for entry in document["speed"])
    assert "resident" in capsys.readouterr().out


def test_a_case_that_fails_says_so_and_ends_no_other(tmp_path: Path) -> None:
    row = measure(Case(TINY, "lora", training={"optim": "no_such_optimizer"}), tmp_path, torch.device("cpu"))
    assert "no_such_optimizer" in row["error"]
