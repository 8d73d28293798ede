"""The structural check: what it finds, where, and that it stays within its bounds; and what a plan makes of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.engine.data import facts as facts_module
from workbench.engine.data import seen as seen_module
from workbench.engine.data.check import CheckCancelled, StructureReport, check_structure
from workbench.engine.data.facts import dataset_facts, epoch_rows, token_facts
from workbench.engine.data.findings import Finding, how_to_pass, refused
from workbench.engine.data.seen import Seen
from workbench.engine.data.sources import DataError
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.paths import assets_dir
from workbench.engine.planning import Plan, make_plan
from workbench.engine.recipe import Recipe


def write(path: Path, rows: list[dict[str, Any] | str]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def recipe(dataset: Any, objective: str = "sft", **more: Any) -> Recipe:
    return Recipe.model_validate({"model": "tiny-base", "dataset": dataset, "objective": objective, **more})


def check(dataset: Any, objective: str = "sft", **limits: Any) -> StructureReport:
    return check_structure(recipe(dataset, objective), None, **limits)


def found(report: StructureReport) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {finding.id: (finding.count, finding.places) for finding in report.findings}


def plan(dataset: Any, objective: str = "sft", **more: Any) -> Plan:
    return make_plan(recipe(dataset, objective, **more), None, [], host_snapshot())


def rows(count: int, words: str = "row") -> list[dict[str, Any] | str]:
    return [{"prompt": f"{words} {number}", "completion": f"answer {number}"} for number in range(count)]


def test_the_shipped_data_has_nothing_to_find() -> None:
    for name, objective in (("glossary", "sft"), ("glossary-pairs", "dpo"), ("glossary-pairs", "orpo")):
        report = check({"path": name, "eval_path": f"{name}-held-out"}, objective)
        assert (report.findings, report.exact, report.rejected) == ((), True, ())
        assert report.rows == report.usable_rows == report.examples > 100
        assert report.eval_rows > 30
    assert check("glossary-pairs", "kto").examples == 2 * report.rows


def test_everything_is_found_with_its_line(tmp_path: Path) -> None:
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    train = str(write(tmp_path / "t.jsonl", [
        pair, {**pair, "chosen": "c"}, pair, "{broken", {**pair, "rejected": "a"}, {**pair, "chosen": "\x1b[1mred"},
        {**pair, "chosen": "\\beta \n\t é"}, pair, {**pair, "chosen": ""}]))
    held_out = str(write(tmp_path / "e.jsonl", [{**pair, "chosen": "new"}, {**pair, "chosen": "c"}]))
    report = check({"path": train, "eval_path": held_out}, "dpo")
    assert found(report) == {
        "rejected-rows": (2, (f"{train}:4", f"{train}:9")), "duplicates": (2, (f"{train}:3", f"{train}:8")),
        "equal-pair": (1, (f"{train}:5",)), "control-characters": (1, (f"{train}:6",)),
        "eval-overlap": (1, (f"{held_out}:2",))}
    assert (report.rows, report.usable_rows, report.eval_rows, report.duplicates) == (9, 7, 2, 2)
    assert [(row.line, row.reason) for row in report.rejected] == [
        (4, "not valid JSON: unexpected character, expected a string key at column 2"),
        (9, "`chosen` is empty")]


def test_an_equal_pair_is_found_where_a_pair_makes_two(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "a"},
                                        {"prompt": "p", "chosen": "a", "rejected": "b"}])
    report = check(str(path), "kto")
    assert found(report)["equal-pair"] == (1, (f"{path}:1",))
    assert (report.rows, report.examples) == (2, 4)


def test_a_mixture_is_checked_as_one(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", rows(3))
    two = write(tmp_path / "b.json", [json.dumps([{"messages": [
        {"role": "user", "content": "row 1"}, {"role": "assistant", "content": "answer 1"}]}])])
    report = check([str(one), str(two)])
    assert report.format == "prompt-completion + messages"
    assert f"{two}: it has a column `messages`" in report.why
    assert found(report) == {"duplicates": (1, (f"{two}:1",))}
    assert report.part_examples == (3, 1)


def test_a_reward_model_is_not_given_pairs_with_prompts_and_without(tmp_path: Path) -> None:
    pair = {"chosen": "a", "rejected": "b"}
    alone = str(write(tmp_path / "alone.jsonl", [pair]))
    asked = str(write(tmp_path / "asked.jsonl", [{"prompt": "p", **pair}]))
    for dataset in ({"path": [alone, asked]}, {"path": asked, "eval_path": alone}):
        with pytest.raises(DataError, match=r"alone.jsonl has pairs without prompts, and .*asked.jsonl has pairs with"):
            check(dataset, "reward")
    assert check({"path": [alone, alone]}, "reward").rows == 2
    assert check({"path": [alone, asked]}, "rt").rows == 2


def test_a_limit_makes_estimates(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", rows(100_000))
    size = path.stat().st_size
    report = check(str(path), limit_bytes=1 << 20)
    assert not report.exact
    assert report.rows < 50_000
    assert 1 << 20 <= report.bytes_read < 3 << 20 < size
    assert report.rows_estimated == pytest.approx(100_000, rel=0.05)
    assert report.part_examples == (report.rows_estimated,)
    whole = check(str(path))
    assert (whole.exact, whole.rows, whole.rows_estimated) == (True, 100_000, None)
    assert 1000 <= len(whole.sample) <= 2000
    steps = {after.line - before.line for before, after in zip(whole.sample, whole.sample[1:], strict=False)}
    assert len(steps) == 1, "the sample is evenly spread"


def test_a_row_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", rows(2))
    with path.open("ab") as file:
        file.truncate(10**10)
    report = check(str(path), limit_bytes=1 << 20)
    assert (report.rows, report.exact) == (2, False)
    assert report.bytes_read < 80 << 20
    path.write_bytes(b"")
    with path.open("ab") as file:
        file.truncate(10**10)
    with pytest.raises(DataError, match=r"no row that ends within its first \d+ MiB"):
        check(str(path), limit_bytes=1 << 20)


def test_progress_and_cancelling(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", rows(60_000))
    size, news = path.stat().st_size, []
    check(str(path), on_progress=lambda done, total: news.append((done, total)))
    assert news == sorted(news)
    assert news[-1] == (size, size)
    assert len({done for done, _ in news}) > 2
    with pytest.raises(CheckCancelled):
        check(str(path), cancelled=lambda: True)


def test_few_hashes_many_hashes_and_more_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [hash((number * 2_654_435_761) % 1000) * 0x9E3779B97F4A7C15 % 2**64 for number in range(5000)]

    def filled(most: int) -> Seen:
        seen = Seen(most)
        for line, value in enumerate(values, 1):
            seen.add(value, 3, line)
        return seen

    distinct, first = len(set(values)), {value: line for line, value in reversed(list(enumerate(values, 1)))}
    again = [(3, line) for line, value in enumerate(values, 1) if first[value] != line]
    other = Seen()
    for line, value in enumerate(values[:10], 1):
        other.add(value, 0, line)
    for few in (10_000, 10):
        monkeypatch.setattr(seen_module, "_FEW", few)
        assert filled(10_000).repeated(4) == (5000 - distinct, again[:4])
        assert other.shared(filled(10_000), 2) == (10, [(0, 1), (0, 2)])
        thinned = filled(2000)
        assert thinned.scale > 1
        assert thinned.repeated(0)[0] == pytest.approx(5000 - distinct, rel=0.25)
    assert Seen().repeated(3) == (0, [])


def test_what_passes() -> None:
    findings = [Finding("duplicates", 3, "d"), Finding("rejected-rows", 2, "r", "h"), Finding("equal-pair", 1, "e")]

    def stopping(**data: Any) -> list[str]:
        return [finding.id for finding in refused(findings, recipe("glossary", data=data).data)]

    assert stopping() == ["duplicates", "rejected-rows", "equal-pair"]
    assert stopping(allow="all") == ["rejected-rows"]
    assert stopping(allow=["duplicates"], max_rejected_rows=2) == ["equal-pair"]
    assert stopping(allow="equal-pair", max_rejected_rows=1) == ["duplicates", "rejected-rows"]
    allowed = recipe("glossary", data={"allow": ["double-bos"]}).data
    assert "`--set 'data.allow=[double-bos, duplicates, equal-pair]' --set data.max_rejected_rows=2`" in how_to_pass(
        findings, allowed)


def test_findings_keep_a_run_from_starting_until_they_are_let_pass(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [*rows(6), "{broken", *rows(2)])
    problems = plan(str(path)).problems
    assert [problem.field for problem in problems] == ["dataset.path", "dataset.path"]
    assert f"{path}:7: not valid JSON" in problems[0].message
    assert "2 rows repeat an earlier row" in problems[1].message
    assert "--set 'data.allow=[duplicates]' --set data.max_rejected_rows=1" in (problems[0].hint or "")
    passed = plan(str(path), data={"allow": ["duplicates"], "max_rejected_rows": 1})
    assert passed.problems == ()
    assert any("2 rows repeat an earlier row" in warning for warning in passed.warnings)
    assert (passed.rows, passed.rows_exact) == (8, True)


def test_faults_stand_at_their_setting(tmp_path: Path) -> None:
    path = str(write(tmp_path / "t.jsonl", rows(3)))
    assert plan({"path": path, "eval_path": "nope.jsonl"}).problems[0].field == "dataset.eval_path"
    assert plan(path, "dpo").problems[0].field == "dataset.path"
    assert plan({"path": str(tmp_path), "eval_split": "test"}).problems[0].field == "dataset.eval_split"
    (split,) = plan({"path": path, "eval_split": "test"}).problems
    assert (split.field, split.message) == ("dataset.eval_split", f"{path} is one file and has no split 'test'.")
    assert plan({"path": path, "streaming": True}).problems[0].field == "dataset.streaming"
    (order,) = plan({"path": [path, "glossary"], "streaming": True}, training={"max_steps": 2}).problems
    assert (order.field, order.hint) == ("dataset.path", "Give each part a weight.")
    with pytest.raises(DataError) as caught:
        dataset_facts(recipe({"path": "glossary", "eval_path": path}, "cpt"), None)
    assert caught.value.field == "dataset.path"


def test_what_is_on_the_hub_is_counted_at_launch(tmp_path: Path) -> None:
    for dataset in ("trl-lib/Capybara", ["trl-lib/Capybara", str(write(tmp_path / "t.jsonl", rows(3)))]):
        planned = plan(dataset)
        assert planned.problems == ()
        assert (planned.rows, planned.steps, planned.tokens) == (None, None, None)
        assert "trl-lib/Capybara is on the Hub: its rows are counted at launch." in planned.warnings


def test_large_data_is_planned_by_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_module, "LOOKED_AT_BYTES", 1 << 20)
    path = write(tmp_path / "t.jsonl", rows(100_000))
    planned = plan(str(path), training={"max_length": 64})
    assert not planned.rows_exact
    assert planned.rows == pytest.approx(100_000, rel=0.05)
    assert planned.steps == pytest.approx(100_000 / 16 * 3, rel=0.05)
    assert planned.size[0] is not None
    assert planned.size[0].startswith("about ")
    assert any("its rows are estimated" in warning for warning in planned.warnings)
    known = dataset_facts(recipe(str(path)), None)
    assert dataset_facts(recipe(str(path), training={"max_length": 99}), None) is known
    assert dataset_facts(recipe({"path": str(path), "max_rows": 5}), None) is not known
    path.write_text(path.read_text() + "\n")
    assert dataset_facts(recipe(str(path)), None) is not known
    held_out = write(tmp_path / "e.jsonl", rows(1, "new"))
    both = {"path": str(path), "eval_path": str(held_out)}
    assert dataset_facts(recipe(both), None).report.eval_rows == 1
    write(held_out, rows(2, "new"))
    assert dataset_facts(recipe(both), None).report.eval_rows == 2


def test_the_fingerprint_tells_contents_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(path: Path) -> str | None:
        return dataset_facts(recipe(str(path)), None).fingerprint

    one, two = write(tmp_path / "a.jsonl", rows(2000)), write(tmp_path / "b.jsonl", rows(2000))
    assert fingerprint(one) == fingerprint(two) != fingerprint(write(tmp_path / "c.jsonl", rows(2000, "other")))
    monkeypatch.setattr(facts_module, "_HASHED_WHOLE", 1000)
    monkeypatch.setattr(facts_module, "_BLOCK_BYTES", 100)
    facts_module._facts.cache_clear()
    before = fingerprint(one)
    content = one.read_bytes()
    one.write_bytes(content.replace(b"answer 1999", b"ANSWER 1999"))
    assert fingerprint(one) != before


def test_mixtures_count_as_they_are_mixed() -> None:
    def rows_of(weights: list[float | None], parts: list[int], **more: Any) -> int:
        return epoch_rows(recipe({"path": [
            {"path": "p", "weight": weight} for weight in weights], **more}).dataset, parts)

    assert rows_of([None, None], [100, 50]) == 150
    assert rows_of([3, 1], [100, 50]) == 100 + 33
    assert rows_of([1, 1], [100, 50]) == 100
    assert rows_of([None, 0.5], [100, 50]) == 150
    assert rows_of([1, 1], [100, 50], max_rows=7) == 7


def test_data_without_one_usable_row_does_not_start_however_many_may_be_bad(tmp_path: Path) -> None:
    for bad in ({"prompt": "a", "completion": ""}, "{broken"):
        path = str(write(tmp_path / "d.jsonl", [bad] * 3))
        problems = plan(path, data={"max_rejected_rows": 5}).problems
        assert [problem.field for problem in problems] == ["dataset.path"]
        assert "has no row that can be trained on; the first, " in problems[0].message


def test_rows_set_aside_for_evaluation_are_not_planned(tmp_path: Path) -> None:
    path = str(write(tmp_path / "d.jsonl", rows(100)))
    whole, half = plan(path), plan({"path": path, "eval_fraction": 0.5})
    assert whole.tokens is not None
    assert half.tokens == pytest.approx(whole.tokens / 2, abs=1)


@pytest.mark.parametrize(("name", "objective"), [
    ("glossary", "sft"), ("glossary-pairs", "dpo"), ("glossary-pairs", "reward"), ("glossary-pairs", "kto"),
    ("glossary-pairs", "rt"), ("glossary-pairs", "orpo"), ("glossary", "rlhf"), ("glossary-text", "cpt")])
def test_tokens_are_counted_for_every_objective(name: str, objective: str) -> None:
    facts = dataset_facts(recipe(name, objective), None)
    tokens = token_facts(facts, assets_dir() / "tiny_base")
    assert tokens is not None
    assert 5 < tokens.mean < 200
    assert tokens.longest < 200
    assert plan(name, objective).tokens


