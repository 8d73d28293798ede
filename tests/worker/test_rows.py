"""The rows of a run: mixtures, streams, evaluation rows, rows set aside; what the recipe does not let pass."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import IterableDataset

from tests.conftest import RunCommand
from workbench.engine.data.examples import Rejected
from workbench.engine.data.sources import DataError
from workbench.engine.errors import InputError
from workbench.engine.recipe import DatasetSettings, Recipe, TrainingSettings
from workbench.worker.data.examples import Examples, RowsFolder, load_examples
from workbench.worker.data.hub import hub_rows
from workbench.worker.data.training_rows import RejectedRows

pytestmark = pytest.mark.slow

Load = Callable[..., Examples]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Loads a recipe's rows, whose files lie in `tmp_path`; `a` has 90, `b` has 30."""
    for name, count in (("a", 90), ("b", 30)):
        (tmp_path / f"{name}.jsonl").write_text("".join(
            json.dumps({"prompt": f"{name}{number}", "completion": "x"}) + "\n" for number in range(count)))
    with RowsFolder(tmp_path) as folder:
        def load(objective: str = "sft", max_steps: int = -1, on_rejected: Callable[[Rejected], None] = pytest.fail,
                 **dataset: Any) -> Examples:
            recipe = Recipe.model_validate({"model": "tiny-base", "dataset": DatasetSettings(**dataset),
                                            "objective": objective, "training": TrainingSettings(max_steps=max_steps)})
            return load_examples(recipe, tmp_path, on_rejected, folder)

        yield load
    assert not list(tmp_path.glob("rows-*"))


def sources(examples: Examples) -> Counter[str]:
    return Counter(row["messages"][0]["content"][0] for row in examples.train)


def test_without_weights_every_row_is_there_once(load: Load) -> None:
    examples = load(path=["a.jsonl", "b.jsonl"])
    assert sources(examples) == {"a": 90, "b": 30}
    places = [(row.source, row.line) for row in examples.located()]
    assert places[:2] == [("a.jsonl", 1), ("a.jsonl", 2)]
    assert places[-1] == ("b.jsonl", 30)


def test_weights_are_shares_and_no_row_comes_twice(load: Load) -> None:
    examples = load(path=[{"path": "a.jsonl", "weight": 1.0}, {"path": "b.jsonl", "weight": 1.0}])
    assert sources(examples) == {"a": 30, "b": 30}
    places = [(row.source, row.line) for row in examples.located()]
    assert len(set(places)) == 60
    for located in examples.located():
        assert located.example["messages"][0]["content"] == f"{located.source[0]}{located.line - 1}"
    assert sources(load(path=[{"path": "a.jsonl", "weight": 6.0}, {"path": "b.jsonl"}])) == {"a": 90, "b": 15}


def test_rows_to_evaluate_on(load: Load) -> None:
    share = load(path="a.jsonl", eval_fraction=0.1)
    assert share.held_out is not None
    assert (len(share.train), len(share.held_out)) == (81, 9)
    assert not {str(row) for row in share.train} & {str(row) for row in share.held_out}
    other = load(path="a.jsonl", eval_path="b.jsonl", max_rows=7)
    assert other.held_out is not None
    assert (len(other.train), len(other.held_out)) == (7, 30)


def test_a_share_that_leaves_nothing_to_train_on_is_refused(load: Load) -> None:
    with pytest.raises(DataError, match="eval_fraction sets all 30 rows aside"):
        load(path="b.jsonl", eval_fraction=0.99)


def test_every_row_that_may_be_set_aside_is_written_down(tmp_path: Path) -> None:
    for limit, written in ((1500, 1200), (5, 1000)):
        path = tmp_path / "rejected_rows.jsonl"
        rejected = RejectedRows(path, limit, at_once=False)
        for line in range(1200):
            rejected(Rejected("a.jsonl", line, "bad", {}))
        assert len(path.read_text().splitlines()) == written
        assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(DataError) as raised:
        rejected.refuse_too_many()
    assert "The first 1,000 are listed" in (raised.value.hint or "")


def test_a_stream_is_read_while_training(load: Load) -> None:
    examples = load(path=["a.jsonl", "b.jsonl"], streaming=True, max_steps=3)
    assert isinstance(examples.train, IterableDataset)
    assert sources(examples) == {"a": 90, "b": 30}
    weighted = load(path=[{"path": "a.jsonl", "weight": 1.0}, {"path": "b.jsonl", "weight": 1.0}], streaming=True,
                    max_steps=3)
    assert 20 <= sources(weighted)["a"] <= 50
    with pytest.raises(InputError, match="nobody knows how many"):
        load(path="a.jsonl", streaming=True)
    with pytest.raises(InputError, match="eval_fraction sets aside"):
        load(path="a.jsonl", streaming=True, max_steps=3, eval_fraction=0.1)


def test_what_prompts_carry_along_reaches_the_rewards(load: Load, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "answer": null}\n{"prompt": "b", "answer": "x", "level": 3}\n')
    first, second = load("rlhf", path="p.jsonl").train
    assert (first["answer"], first["level"]) == (None, None)
    assert (second["answer"], second["level"]) == ("x", 3)


def test_bad_rows_are_handed_over(load: Load, tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"prompt": "only"}\n')
    bad: list[Rejected] = []
    assert len(load(path="a.jsonl", on_rejected=bad.append).train) == 90
    assert [(row.source, row.line, row.row) for row in bad] == [("a.jsonl", 91, {"prompt": "only"})]


def test_a_dataset_in_the_layout_of_the_hub(tmp_path: Path) -> None:
    """`datasets` reads a folder as it reads the Hub: by the names of its files."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "data" / "validation.jsonl").write_text('{"text": "three"}\n')
    assert list(hub_rows(str(tmp_path), None, "train")) == [(1, {"text": "one"}), (2, {"text": "two"})]
    assert list(hub_rows(str(tmp_path), None, "validation")) == [(1, {"text": "three"})]
    with pytest.raises(DataError, match="nowhere"):
        list(hub_rows(str(tmp_path), None, "nowhere"))


def test_a_hub_that_does_not_answer_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="cannot be read from the Hub, and is not in the local cache") as raised:
        list(hub_rows("nobody/nothing", None, None))
    assert "Check the network" in (raised.value.hint or "")
    assert constants.HF_HUB_OFFLINE is False


def test_a_file_without_one_usable_row_is_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": ""}\n' * 3)
    with pytest.raises(DataError, match="no rows that can be trained on"):
        load(path="a.jsonl", on_rejected=lambda row: None)


RECIPE = """\
name: checked
model: tiny-base
dataset: rows.jsonl
training: {max_steps: 2, max_length: 24, per_device_train_batch_size: 2, gradient_accumulation_steps: 1}
hardware: {probe: false}
"""


def write(folder: Path, *more: dict[str, Any]) -> Path:
    rows = [*({"prompt": f"q{number}", "completion": "a"} for number in range(6)), *more]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "r.yaml").write_text(RECIPE)
    return folder / "r.yaml"


LONG = {"prompt": "a", "completion": "many words " * 30}
ENDLESS = {"prompt": "many words " * 30, "completion": "a"}


def test_findings_end_the_run_before_the_model_is_loaded(workbench: RunCommand, tmp_path: Path) -> None:
    recipe = write(tmp_path, LONG, ENDLESS)
    shown = json.loads(workbench("train", str(recipe), "--json").stdout)
    assert (shown["state"], shown["cause"], shown["parameters"]) == ("failed", "data", None)
    assert "truncated 1 (rows.jsonl:7), fully-masked 1 (rows.jsonl:8)" in shown["explanation"]
    assert "--set 'data.allow=[truncated, fully-masked]'" in shown["suggestion"]


def test_allowed_findings_are_alerts_and_bad_rows_are_set_aside(workbench: RunCommand, tmp_path: Path) -> None:
    recipe = write(tmp_path, LONG, {"prompt": "no answer"})
    shown = json.loads(workbench("train", str(recipe), "--json", "--set", "data.allow=[truncated]", "--set",
                                 "data.max_rejected_rows=1").stdout)
    assert shown["state"] == "finished", shown["explanation"]
    run = Path(shown["directory"])
    assert not list(run.glob("rows-*"))
    assert not [path.name for path in run.rglob("*") if path.stat().st_mode & 0o077]
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert any(event["type"] == "alert" and event["message"].startswith("1 row has more than 24 tokens")
               for event in events)
    aside = json.loads((run / "rejected_rows.jsonl").read_text())
    assert (aside["line"], aside["row"]) == (8, {"prompt": "no answer"})
    assert "completion" in aside["reason"]


@pytest.mark.parametrize("objective", ["sft", "orpo"])
def test_a_stream_is_trained_on(objective: str, workbench: RunCommand, tmp_path: Path) -> None:
    recipe = write(tmp_path)
    shown = json.loads(workbench("train", str(recipe), "--json", "--set", "dataset.streaming=true", "--set",
                                 f"objective={objective}").stdout)
    assert (shown["state"], shown["step"]) == ("finished", 2), shown["explanation"]
