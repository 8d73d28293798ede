"""The data worker, really served, and `workbench data`: documents, rows as the model sees them, errors."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunCommand
from workbench.engine.errors import InputError, RunError
from workbench.engine.inspection import InspectionCancelled, Inspector
from workbench.engine.recipe import DatasetSettings, DataSettings, Recipe, TrainingSettings

pytestmark = pytest.mark.slow

KEYS = {
    "format", "why", "rows", "usable_rows", "rejected", "token_lengths", "truncated_rows", "fully_masked_rows",
    "duplicates", "eos_trained", "double_bos", "preview", "model", "objective", "template", "findings", "histogram",
    "tokens_looked_at", "exact", "tokens_per_epoch", "packing_gain", "steps_per_epoch", "columns",
}
ROWS = [
    {"instruction": "Say hi", "output": "Hello there"},
    {"instruction": "Say hi", "output": "Hello there"},
    {"instruction": "Say bye", "input": "in French", "output": "Au revoir, and a good many words more than that"},
    {"instruction": "Say it", "output": ""},
]


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    warm = Inspector()
    yield warm
    warm.close()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "{broken\n")
    return path


def recipe(path: Path | str, model: str = "tiny-base", **training: int | bool) -> Recipe:
    return Recipe(model=model, dataset=DatasetSettings(path=str(path)), training=TrainingSettings(**training))


def many_rows(folder: Path, count: int) -> Path:
    path = folder / "many.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"q {number}", "completion": "a"}) + "\n" for number in range(count)))
    return path


def test_a_document_has_it_all(inspector: Inspector, rows: Path) -> None:
    news: list[str] = []
    found = inspector.inspect(recipe(rows, max_length=20, packing=True), rows.parent,
                              lambda words, share: news.append(words), everything=True).document
    assert found.keys() >= KEYS
    assert (found["format"], found["rows"], found["usable_rows"], found["duplicates"]) == ("alpaca", 5, 3, 1)
    reasons = {row["line"]: row["reason"] for row in found["rejected"]}
    assert (reasons[4][:14], reasons[5][:14]) == ("`output` is em", "not valid JSON")
    counts = {finding["id"]: finding["count"] for finding in found["findings"]}
    assert counts == {"rejected-rows": 2, "duplicates": 1, "truncated": 1}
    assert (found["tokens_looked_at"], found["truncated_rows"], found["exact"]) == (3, 1, True)
    first = found["preview"][0]
    assert (first["line"], "".join(first["tokens"])) == (1, "<|user|>Say hi<|end|><|assistant|>Hello there<|end|>")
    assert len(first["tokens"]) == len(first["trained"]) == len(first["special"])
    assert found["packed_preview"][0]["starts"][:1] == [0]
    assert {"reading the rows", "tokenising"} <= set(news)


def test_a_sample_says_how_many_it_is(inspector: Inspector, tmp_path: Path) -> None:
    path = many_rows(tmp_path, 4500)
    sample = inspector.inspect(recipe(path), tmp_path).document
    assert (sample["rows"], sample["exact"]) == (4500, True)
    assert 1000 <= sample["tokens_looked_at"] <= 2000
    # Scaled up to all rows: one token of the answer more or less a row.
    whole = inspector.inspect(recipe(path), tmp_path, everything=True).document
    assert whole["tokens_looked_at"] == 4500
    assert sample["tokens_per_epoch"] == pytest.approx(whole["tokens_per_epoch"], rel=0.02)


def test_an_epoch_is_counted_as_it_is_trained_on(inspector: Inspector, tmp_path: Path) -> None:
    for name, count in (("a", 40), ("b", 100)):
        many_rows(tmp_path, count).rename(tmp_path / f"{name}.jsonl")

    def steps(path: object, **dataset: object) -> int:
        settings = DatasetSettings.model_validate({"path": path, **dataset})
        known = Recipe(model="tiny-base", dataset=settings, training=TrainingSettings(
            per_device_train_batch_size=1, gradient_accumulation_steps=1))
        return int(inspector.inspect(known, tmp_path).document["steps_per_epoch"])

    weighted = [{"path": "a.jsonl", "weight": 1.0}, {"path": "b.jsonl", "weight": 4.0}]
    assert steps(["a.jsonl", "b.jsonl"]) == 140
    assert steps(weighted) == 125
    assert steps(weighted, max_rows=30) == 30
    assert steps("b.jsonl", eval_fraction=0.1) == 90
    assert steps("b.jsonl", eval_path="a.jsonl", eval_fraction=0.1) == 100


def test_rows_are_rendered_from_the_warm_worker(inspector: Inspector) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
    examples = [{"messages": messages}, {"messages": [*messages, *messages]}]
    one, two = inspector.render(recipe("glossary"), None, examples)
    assert (one.row, two.row) == (0, 1)
    assert sum(one.trained) * 2 == sum(two.trained)


def test_a_template_file_that_was_mended_is_read_again(inspector: Inspector, tmp_path: Path) -> None:
    file = tmp_path / "t.jinja"
    known = recipe("glossary").model_copy(update={"data": DataSettings(chat_template=str(file))})
    example = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}
    for mark in ("#", "@"):
        file.write_text("{% for m in messages %}" + mark + "{{ m.content }}{{ eos_token }}{% endfor %}")
        assert "".join(inspector.render(known, None, [example])[0].tokens).startswith(mark)


def test_a_cancelled_inspection_leaves_the_worker_warm(inspector: Inspector, tmp_path: Path) -> None:
    path = many_rows(tmp_path, 20_000)
    heard: list[str] = []
    with pytest.raises(InspectionCancelled):
        inspector.inspect(recipe(path), tmp_path, lambda words, share: heard.append(words),
                          cancelled=lambda: "tokenising" in heard, everything=True)
    assert inspector.inspect(recipe("glossary"), None).document["rows"] == 365


def test_what_cannot_be_used_is_a_sentence(inspector: Inspector, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(InputError, match="has no tokenizer in") as raised:
        inspector.inspect(recipe("glossary", model=str(tmp_path / "bare")), None)
    assert "--model tiny-base" in (raised.value.hint or "")
    with pytest.raises(InputError, match="no such file"):
        inspector.inspect(recipe("nowhere.jsonl"), tmp_path)


def test_a_tokenizer_without_weights_will_do(inspector: Inspector, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from workbench.engine.paths import assets_dir

    AutoTokenizer.from_pretrained(assets_dir() / "tiny_base").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert inspector.inspect(recipe("glossary", model=str(tmp_path)), None).document["eos_trained"] is True


def test_a_dead_worker_is_explained_and_the_next_request_starts_another() -> None:
    lonely = Inspector()
    lonely.close()
    lonely.render(recipe("glossary"), None, [])
    client = lonely._client
    assert client is not None
    client._process.kill()
    with pytest.raises(RunError, match="The data worker was killed"):
        lonely.render(recipe("glossary"), None, [])
    assert lonely.render(recipe("glossary"), None, []) == []
    lonely.close()


def test_the_command_prints_one_document(workbench: RunCommand, rows: Path) -> None:
    result = workbench("data", str(rows), "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document.keys() >= KEYS
    assert (document["model"], document["objective"]) == ("tiny-base", "sft")


def test_the_command_is_read_by_people(workbench: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("model: tiny-base\ndataset: glossary-pairs\nobjective: dpo\n")
    result = workbench("data", str(tmp_path / "r.yaml"), "--set", "training.max_length=50", "--set",
                       "data.chat_template=chatml")
    assert result.returncode == 0, result.stderr
    assert "template chatml" in result.stdout
    assert "finding    truncated: " in result.stdout
    assert "«" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    missing = workbench("data", str(tmp_path / "nothing.jsonl"))
    assert missing.returncode == 2
    assert "Traceback" not in missing.stderr
