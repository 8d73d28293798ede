"""Every layout of the ecosystem is detected, mapped and converted; what cannot be used is named with its reason."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.layouts import FOLDER, LAYOUTS, Layout, assistant, pair, user
from workbench.engine.data.examples import Located, Rejected, examples_of, read_examples, sequences
from workbench.engine.data.formats import FORMATS, USES, Format, detect
from workbench.engine.data.sources import DataError
from workbench.engine.recipe_data import DatasetPart

GOOD: dict[str, dict[str, Any]] = {
    "sft": {"messages": [user("a"), assistant("b")]}, "cpt": {"text": "t"}, "rlhf": {"prompt": "p", "answer": "x"},
    "dpo": {"prompt": "p", "chosen": "a", "rejected": "b"}, "kto": {"prompt": "p", "completion": "c", "label": 1},
}


def convert(rows: list[dict[str, Any]], objective: str, **settings: Any) -> list[Located | Rejected]:
    return list(examples_of(enumerate(rows, 1), DatasetPart(path="d", **settings), objective, "d.jsonl"))


def only(rows: list[dict[str, Any]], objective: str, **settings: Any) -> dict[str, Any]:
    (found,) = convert(rows, objective, **settings)
    assert isinstance(found, Located), found
    return found.example


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_layout_is_detected_mapped_and_converted(layout: Layout) -> None:
    formats: list[Format] = []
    part = DatasetPart(path=str(layout.path), columns=layout.columns or None)
    found = list(read_examples(part, layout.objective, None, on_format=formats.append))
    assert not [row for row in found if isinstance(row, Rejected)]
    assert formats[0].name == layout.format
    assert all(f"`{column}`" in formats[0].why for column in formats[0].columns.values())
    assert found[0] == Located(str(layout.path), found[0].line, layout.first)
    assert len(found) == layout.examples


def test_every_fixture_and_every_format_is_tried() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {layout.file for layout in LAYOUTS}
    assert {layout.format for layout in LAYOUTS} == set(FORMATS)
    assert {layout.objective for layout in LAYOUTS} == set(USES)


def test_pairs_and_demonstrations_mix_in_one_file() -> None:
    found = list(read_examples(DatasetPart(path=str(FOLDER / "orpo_mixed.jsonl")), "orpo", None))
    assert [row.example for row in found if isinstance(row, Located)] == [
        pair("Name a prime.", "Seven.", "Nine."), pair("Name an even prime.", "Two.", None),
        pair("Name a square.", "Sixteen.", None), pair("Name a cube.", "Twenty-seven.", None)]


def test_a_blank_input_is_none() -> None:
    row = {"instruction": "Name a colour", "input": " \n", "output": "Blue"}
    found = convert([row], "sft")[0]
    assert isinstance(found, Located)
    assert found.example["messages"][0] == user("Name a colour")


def test_a_reason_is_a_sentence_whatever_a_row_holds() -> None:
    good = [user("a"), assistant("b")]
    long = "x" * 1_000_000
    for bad in ({"role": long, "content": "a"}, {"role": "user", "content": [{"type": long}]}):
        found = convert([{"messages": good}, {"messages": [bad, assistant("b")]}], "sft")[1]
        assert isinstance(found, Rejected)
        assert len(found.reason) < 120


def test_a_pair_makes_a_good_and_a_bad_answer() -> None:
    found = convert([{"prompt": "p", "chosen": "a", "rejected": "b"}], "kto")
    assert [(row.line, row.example["label"], row.example["completion"][0]["content"]) for row in found
            if isinstance(row, Located)] == [(1, True, "a"), (1, False, "b")]


def test_lines_are_those_of_the_file() -> None:
    def lines(name: str, objective: str) -> list[int]:
        return [row.line for row in read_examples(DatasetPart(path=str(FOLDER / name)), objective, None)]

    assert lines("support.csv", "sft") == [2, 4]  # the first cell goes over two lines
    assert lines("book.txt", "cpt") == [1, 4, 8]
    assert lines("sharegpt.json", "sft") == [1, 2]  # of a list: numbers of its rows


@pytest.mark.parametrize(("row", "objective", "words"), [
    ({"messages": "hello"}, "sft", "`messages` is text, not a list of messages"),
    ({"messages": []}, "sft", "`messages` has no messages"),
    ({"messages": ["hello"]}, "sft", "a message is text, not an object"),
    ({"messages": [{"role": "boss", "content": "x"}]}, "sft", "'boss' is not a role"),
    ({"messages": [{"content": "x"}]}, "sft", "a message has no role"),
    ({"messages": [user("a"), assistant(" ")]}, "sft", "`assistant content` is empty"),
    ({"messages": [user("a"), {"role": "assistant", "content": 5}]}, "sft", "content` is a number, not text"),
    ({"messages": [user("a"), user("b"), assistant("c")]}, "sft", "message 2 is user after user"),
    ({"messages": [assistant("c")]}, "sft", "message 1 is assistant at the beginning"),
    ({"messages": [user("a"), {"role": "system", "content": "s"}, assistant("c")]}, "sft", "system after user"),
    ({"messages": [user("a"), assistant("b"), user("c")]}, "sft", "does not end with the assistant"),
    ({"messages": [user("a"), {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]}, "sft",
     "tool_calls are not supported yet"),
    ({"messages": [user("a"), {**assistant("b"), "weight": 0}]}, "sft", "weight 0"),
    ({"messages": [user("a"), assistant("b")], "tools": [{"type": "function"}]}, "sft", "tool definitions"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, assistant("b")]}, "sft",
     "a message holds image_url: only text"),
    ({"prompt": "a", "completion": "\ud800"}, "sft", "`completion` is not valid UTF-8 at its character 1"),
    ({"text": "  "}, "cpt", "`text` is empty"),
    ({"prompt": "p", "chosen": "a", "rejected": None}, "dpo", "the rejected answer is missing"),
    ({"prompt": "p", "chosen": None, "rejected": "b"}, "dpo", "`chosen` is missing"),
    ({"prompt": "p", "chosen": ["a"], "rejected": "b"}, "dpo", "a message is text"),
    ({"prompt": [user("a"), assistant("b")], "chosen": "c", "rejected": "d"}, "dpo", "message 3 is assistant after"),
    ({"prompt": [user("a"), assistant("b")], "completion": [user("c"), assistant("d")]}, "sft", "begins with user"),
    ({"instruction": "a", "output": "b", "history": 1.5}, "sft", "`history` is a number, not a list of"),
    ({"instruction": "a", "output": "b", "history": [["x"]]}, "sft", "`history` is not a list of [instruction, resp"),
    ({"chosen": [user("a"), assistant("b")], "rejected": [user("x"), assistant("c")]}, "dpo", "different prompts"),
    ({"chosen": [user("a"), assistant("b")], "rejected": "c"}, "dpo", "whole conversation and `rejected` is not"),
    ({"prompt": "p", "completion": "c", "label": "maybe"}, "kto", "the label `label` is 'maybe', not true or false"),
    ({"prompt": "p", "completion": "c", "label": None}, "kto", "the label `label` is missing"),
    ({"prompt": [user("a"), assistant("b")]}, "rlhf", "the prompt ends with assistant"),
    ({"prompt": "p", "answer": 7}, "rlhf", "`answer` is a number (7) where earlier rows have text"),
])
def test_a_faulty_row_is_set_aside_with_its_reason(row: dict[str, Any], objective: str, words: str) -> None:
    first = GOOD[objective]
    if objective == "sft" and "messages" not in row:
        first = {"prompt": "a", "completion": "b"} if "prompt" in row else {
            "instruction": "a", "output": "b", "history": []}
    if objective == "dpo" and "prompt" not in row:
        first = {"chosen": [user("a"), assistant("b")], "rejected": [user("a"), assistant("c")]}
    found = convert([first, row, first], objective)
    assert [type(entry) for entry in found] == [Located, Rejected, Located]
    assert found[1] == Rejected("d.jsonl", 2, found[1].reason, row)  # type: ignore[union-attr]
    assert words in found[1].reason  # type: ignore[union-attr]


@pytest.mark.parametrize(("value", "label"), [
    (True, True), (False, False), (1, True), (0, False), ("good", True), ("Bad", False), ("true", True), ("0", False),
    (1.0, True), (-1, False), ("desirable", True)])
def test_labels(value: object, label: bool) -> None:
    assert only([{"prompt": "p", "completion": "c", "label": value}], "kto")["label"] is label


@pytest.mark.parametrize(("row", "objective", "message", "hint"), [
    ({"foo": 1, "bar": 2}, "sft", "sft cannot use the columns bar, foo", "dataset.columns: {prompt: …, completion: …}"),
    ({"text": "t"}, "sft", "cannot use the columns text", "It looks like text, for cpt."),
    ({"messages": [user("a"), assistant("b")]}, "dpo", "cannot use", "It looks like messages, for sft"),
    ({"chosen": "a", "rejected": "b"}, "dpo", "cannot use", "It looks like accepted-rejected, for rt or reward"),
    ({"problem": "p", "solution": "s", "answer": "a"}, "sft", "any of `answer`, `solution` could be the completion",
     "{prompt: …, completion: …}"),
    ({"prompt": "p", "completion": "c", "label": False}, "sft", "`label` says which answers", "objective: kto"),
])
def test_columns_that_fit_nothing_are_listed_with_what_is_needed(row: dict[str, Any], objective: str, message: str,
                                                                 hint: str) -> None:
    with pytest.raises(DataError) as caught:
        convert([row], objective)
    assert caught.value.message.startswith("d.jsonl:1: ")
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_mapping_wins_over_names() -> None:
    row = {"prompt": "topic", "question": "q", "answer": "a", "text": "t"}
    assert only([row], "sft", columns={"prompt": "question", "completion": "answer"}) == {
        "messages": [user("q"), assistant("a")]}
    assert only([row], "rlhf", columns={"prompt": "question", "gold": "text"})["gold"] == "t"
    assert only([row], "cpt", columns={"text": "answer"}) == {"text": "a"}
    for completion, answer in ((5, None), ([5], None), ([assistant("x")], "x"), ("y", "y")):
        assert only([{"prompt": "p", "completion": completion}], "rlhf").get("answer") == answer
    # A column that the first rows leave out is no fault of the mapping.
    found = convert([{"q": "x", "a": "y"}, {"q": "x", "a": "y", "s": "be brief"}], "sft",
                    columns={"prompt": "q", "completion": "a", "system": "s"})
    assert [len(entry.example["messages"]) for entry in found if isinstance(entry, Located)] == [2, 3]


def test_the_format_of_the_recipe_wins_too() -> None:
    row = {"prompt": "p", "completion": "c", "label": False}
    assert only([row], "sft", format="prompt-completion") == {"messages": [user("p"), assistant("c")]}
    for wrong, words in (("alpca", "'alpca' is not a format"), ("text", "sft cannot use the format text"),
                         ("alpaca", "format alpaca cannot use the columns completion, label, prompt")):
        with pytest.raises(DataError, match=words):
            convert([row], "sft", format=wrong)
    with pytest.raises(DataError) as caught:
        convert([row], "sft", format="alpca")
    assert caught.value.hint == "Did you mean alpaca?"


def test_a_mapping_to_nothing_names_the_nearest() -> None:
    with pytest.raises(DataError, match="has no column 'quesion'") as caught:
        convert([{"question": "q", "answer": "a"}], "sft", columns={"prompt": "quesion"})
    assert caught.value.hint == "Did you mean question?"
    with pytest.raises(DataError, match="maps 'promt'") as caught:
        convert([{"question": "q", "answer": "a"}], "sft", columns={"promt": "question"})
    assert caught.value.hint == "Did you mean prompt?"


def test_a_first_row_that_does_not_fit_is_set_aside() -> None:
    found = convert([{"foo": 1}, {"prompt": "p", "completion": "c"}], "sft")
    assert [type(entry) for entry in found] == [Rejected, Located]


def test_what_is_learned_from_another_objectives_data_is_said() -> None:
    row = {"prompt": "p", "chosen": "a", "rejected": "b"}
    for objective, words in (("sft", "the chosen answers are learned"), ("rt", "without their prompts"),
                             ("kto", "each chosen answer counts as good"), ("rlhf", "reward functions")):
        assert words in detect(row, objective).why
    assert detect(row).name == "preference"


def test_sequences_are_what_the_model_is_given() -> None:
    assert sequences(pair("p", "a", "b")) == ["pa", "pb"]
    assert sequences(pair("p", "a", None)) == ["pa"]
    assert sequences({"prompt": [user("p")], "answer": "x"}) == ["p"]
    assert sequences({"chosen": "a", "rejected": "b"}) == ["a", "b"]
    assert sequences({"messages": [user("p"), assistant("a")]}) == ["pa"]


def test_lists_in_a_cell_are_read(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    cell = orjson.dumps([user("a"), assistant("b")]).decode().replace('"', '""')
    path.write_text(f'messages\n"{cell}"\n"[broken"\n')
    found = list(read_examples(DatasetPart(path=str(path)), "sft", None))
    assert isinstance(found[0], Located)
    assert found[0].example == {"messages": [user("a"), assistant("b")]}
    assert isinstance(found[1], Rejected)
    assert found[1].reason == "`messages` looks like a list but is not valid JSON"
