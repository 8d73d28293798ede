"""Rows that are almost right: each is refused with a reason, or becomes an example of exactly the canonical shape."""

import copy
from random import Random
from typing import Any

import orjson
import pytest

from tests.layouts import FOLDER, assistant, user
from workbench.engine.data.examples import Located, examples_of, sequences
from workbench.engine.data.formats import FORMATS, USES
from workbench.engine.data.readers import read_rows
from workbench.engine.data.scan import Scan
from workbench.engine.data.sources import DataError
from workbench.engine.data.values import Row
from workbench.engine.recipe_data import DatasetPart

ROWS = [row for path in sorted(FOLDER.iterdir()) for _, row in read_rows(path) if isinstance(row, dict)]
ODD = [None, "", 0, True, [], {}, "x", "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant:", [1], [None],
       {"role": "user"}, [user("q")], [assistant("a")], [{"role": "system", "content": "s"}, user("q")],
       [{"from": "gpt", "value": "a"}], [{"from": "user", "content": "a"}], {"messages": [user("q")]}, {"messages": 3},
       1.5, 2**70, "[", "[]", float("nan"), [[1, 2]], [["a", "b"]], "\ud800", "good"]  # fmt: skip
NAMES = ["prompt", "completion", "chosen", "rejected", "label", "messages", "text", "conversations", "input", "system",
         "history", "answer", "role", "from", "value", "content", "tools"]  # fmt: skip


def mutated(value: Any, chance: Random) -> Any:
    """The value with something in it replaced, left out or added."""
    if chance.random() < 0.15:
        return copy.deepcopy(chance.choice(ODD))
    if isinstance(value, dict) and value:
        value = dict(value)
        name = chance.choice(list(value))
        value[name] = mutated(value[name], chance)
        if chance.random() < 0.1:
            del value[name]
        if chance.random() < 0.15:
            value[chance.choice(NAMES)] = copy.deepcopy(chance.choice(ODD))
    elif isinstance(value, list) and value:
        value = list(value)
        place = chance.randrange(len(value))
        value[place] = mutated(value[place], chance)
    return value


def are_messages(value: Any, first: str | None = None, last: str | None = None) -> bool:
    return isinstance(value, list) and bool(value) and all(
        set(turn) == {"role", "content"} and turn["role"] in ("system", "user", "assistant", "tool")
        and isinstance(turn["content"], str) and turn["content"].strip() for turn in value
    ) and first in (None, value[0]["role"]) and last in (None, value[-1]["role"])


def is_answer(value: Any) -> bool:
    return are_messages(value, "assistant", "assistant")


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_canonical(example: dict[str, Any], objective: str) -> bool:
    """Whether it is what the trainers of an objective rely on."""
    values = list(example.values())
    if objective == "rlhf":
        return are_messages(example["prompt"]) and example["prompt"][-1]["role"] in ("user", "tool") and all(
            value is None or isinstance(value, str | int | float)
            for name, value in example.items() if name != "prompt")
    shapes = {"sft": {"messages"}, "cpt": {"text"}, "rt": {"chosen", "rejected"}, "reward": {"chosen", "rejected"},
              "kto": {"prompt", "completion", "label"}}
    if set(example) != shapes.get(objective, {"prompt", "chosen", "rejected"}):
        return False
    if objective == "sft":
        return are_messages(example["messages"], last="assistant")
    if objective in ("cpt", "rt"):
        return all(map(is_text, values))
    if objective == "reward":
        return all(map(is_text, values)) or all(are_messages(value, last="assistant") for value in values)
    if objective == "kto":
        return are_messages(example["prompt"]) and is_answer(example["completion"]) and type(example["label"]) is bool
    return are_messages(example["prompt"]) and is_answer(example["chosen"]) and (
        is_answer(example["rejected"]) or (objective == "orpo" and example["rejected"] is None))


@pytest.mark.parametrize("objective", USES)
def test_a_mutated_row_is_refused_or_canonical(objective: str) -> None:
    for seed in range(1000):
        check(objective, Random(f"{objective} {seed}"))


def check(objective: str, chance: Random) -> None:
    only = chance.choice(list(FORMATS)) if chance.random() < 0.1 else None
    mapped = chance.choice(NAMES[:10]) if chance.random() < 0.2 else None
    row = chance.choice(ROWS)
    rows: list[Row] = [each for each in (row, mutated(row, chance), mutated(mutated(row, chance), chance),
                                         chance.choice(ROWS)) if isinstance(each, dict)]
    chance.shuffle(rows)
    part = DatasetPart(path="d", format=only, columns={mapped: chance.choice(list(row))} if mapped else None)
    try:
        found = list(examples_of(enumerate(rows, 1), part, objective, "d"))
    except DataError:
        return
    assert {each.line for each in found} == set(range(1, len(rows) + 1))
    scan = Scan()
    for each in found:
        scan.add(each)
        if isinstance(each, Located):
            assert is_canonical(each.example, objective), each
            assert orjson.dumps(each.example)
            assert all(isinstance(text, str) for text in sequences(each.example))
        else:
            assert each.reason
