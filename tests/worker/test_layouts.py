"""Every layout of the ecosystem, rendered by the trainer and the collator that a run on it uses."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.layouts import LAYOUTS, Layout
from workbench.engine.data.examples import Located, read_examples
from workbench.engine.inspection import Inspector
from workbench.engine.recipe import Recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    warm = Inspector()
    yield warm
    warm.close()


def said(turns: list[dict[str, str]] | str | None, role: str | None = None) -> list[str]:
    """The texts of an answer, or of a conversation's turns of one role."""
    if not isinstance(turns, list):
        return [turns] if turns else []
    return [turn["content"] for turn in turns if role in (None, turn["role"])]


def learned(example: dict[str, Any], objective: str) -> list[list[str]]:
    """What must be learned of each sequence that an example makes."""
    if objective == "sft":
        return [said(example["messages"], "assistant")]
    if objective == "cpt":
        return [[example["text"]]]
    if objective == "rlhf":
        return [[]]
    if objective == "kto":
        return [said(example["completion"])]
    return [said(example[side]) for side in ("chosen", "rejected") if example[side] is not None]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_layout_is_rendered(layout: Layout, inspector: Inspector) -> None:
    recipe = Recipe.model_validate({
        "model": "tiny-base", "objective": layout.objective,
        "dataset": {"path": str(layout.path), "columns": layout.columns},
        # The built-in model's own template has no role for a tool's result.
        "data": {"chat_template": "chatml" if "tools" in layout.file else "auto"}})
    found = read_examples(recipe.dataset.parts[0], layout.objective, None)
    examples = [row.example for row in found if isinstance(row, Located)]
    rows = inspector.render(recipe, None, examples)
    wanted = [texts for example in examples for texts in learned(example, layout.objective)]
    assert len(rows) == len(wanted)
    for row, texts in zip(rows, wanted, strict=True):
        tokens = [token.replace(r"\x0d", "\r") for token in row.tokens]  # made visible, since a terminal obeys it
        shown = "".join(tokens)
        trained = "".join(token for token, taught in zip(tokens, row.trained, strict=True) if taught)
        assert all(text in shown for text in texts)
        if layout.objective == "reward":
            assert sum(row.trained) == 1, "the score is read at one token"
        elif layout.objective == "rlhf":
            assert not any(row.trained)
            assert layout.first["prompt"][-1]["content"] in "".join(rows[0].tokens)
        else:
            assert all(text in trained for text in texts)
            assert row.special[len(row.tokens) - 1 - row.trained[::-1].index(True)], "the end is learned"
            # ORPO's likelihood is that of the whole chosen sequence, the prompt included.
            assert layout.objective in ("cpt", "orpo") or "<|user|>" not in trained
