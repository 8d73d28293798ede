"""Checks on the shipped glossary rows and preference pairs: counts, shapes, uniqueness, plain text."""

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

import workbench

ASSETS = Path(workbench.__file__).parent / "assets"
TRAIN, HELD_OUT = "glossary.jsonl", "glossary_held_out.jsonl"
PAIRS, PAIRS_HELD_OUT = "glossary_pairs.jsonl", "glossary_pairs_held_out.jsonl"
PRINTABLE_ASCII = re.compile(r"[ -~]+")


def read_rows(name: str) -> list[dict[str, Any]]:
    """Parse every line of an asset; a blank or malformed line raises."""
    return [orjson.loads(line) for line in (ASSETS / name).read_bytes().splitlines()]


def questions(name: str) -> list[str]:
    """The user's question of every row, folded so that case and spacing do not hide a repeat."""
    key = "prompt" if name in (PAIRS, PAIRS_HELD_OUT) else "messages"
    return [" ".join(row[key][0]["content"].lower().split()) for row in read_rows(name)]


def texts(name: str) -> list[str]:
    """Every answer of the file: the assistant's turn, or both sides of each pair."""
    if name in (PAIRS, PAIRS_HELD_OUT):
        return [row[side][0]["content"] for row in read_rows(name) for side in ("chosen", "rejected")]
    return [row["messages"][1]["content"] for row in read_rows(name)]


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [(TRAIN, 330, 600), (HELD_OUT, 40, 50), (PAIRS, 120, 300), (PAIRS_HELD_OUT, 30, 60)],
)
def test_row_count(name: str, least: int, most: int) -> None:
    assert least <= len(read_rows(name)) <= most


@pytest.mark.parametrize("name", [TRAIN, HELD_OUT])
def test_a_row_is_one_question_and_one_answer(name: str) -> None:
    for row in read_rows(name):
        assert list(row) == ["messages"]
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert all(set(message) == {"role", "content"} for message in row["messages"])


@pytest.mark.parametrize("name", [PAIRS, PAIRS_HELD_OUT])
def test_a_pair_has_a_prompt_and_two_different_answers(name: str) -> None:
    for row in read_rows(name):
        assert list(row) == ["prompt", "chosen", "rejected"]
        assert [[message["role"] for message in part] for part in row.values()] == [
            ["user"], ["assistant"], ["assistant"],
        ]  # fmt: skip
        assert row["chosen"][0]["content"] != row["rejected"][0]["content"]


@pytest.mark.parametrize("name", [TRAIN, HELD_OUT, PAIRS, PAIRS_HELD_OUT])
def test_text_is_plain_and_ends_a_sentence(name: str) -> None:
    for text in texts(name):
        assert PRINTABLE_ASCII.fullmatch(text), text
        assert text == text.strip(), text
        assert text[-1] in ".?!", text
        assert 4 <= len(text.split()) <= 45, text
    for question in questions(name):
        assert PRINTABLE_ASCII.fullmatch(question), question
        assert question[-1] in ".?", question


@pytest.mark.parametrize(("train", "held_out"), [(TRAIN, HELD_OUT), (PAIRS, PAIRS_HELD_OUT)])
def test_no_question_occurs_twice(train: str, held_out: str) -> None:
    asked = questions(train) + questions(held_out)
    assert sorted(asked) == sorted(set(asked))


def test_no_held_out_question_is_trained_on_by_either_objective() -> None:
    trained = {*questions(TRAIN), *questions(PAIRS)}
    assert trained.isdisjoint(questions(HELD_OUT))
    assert trained.isdisjoint(questions(PAIRS_HELD_OUT))


def test_every_answer_of_the_glossary_is_its_own() -> None:
    answers = texts(TRAIN) + texts(HELD_OUT)
    assert sorted(answers) == sorted(set(answers))


@pytest.mark.parametrize("name", [TRAIN, HELD_OUT])
def test_the_text_is_the_answers_of_the_glossary(name: str) -> None:
    text = name.replace("glossary", "glossary_text")
    assert read_rows(text) == [{"text": row["messages"][1]["content"]} for row in read_rows(name)]
