"""Every layout of the field, from its file to the tokens: what the model reads, and what it learns of it."""

from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.layouts import LAYOUTS, Layout
from workbench.engine.data.examples import Located, read_examples
from workbench.engine.paths import assets_dir
from workbench.engine.recipe import DatasetPart, DatasetSettings, Recipe, TrainingSettings
from workbench.worker.data.templates import choose_template
from workbench.worker.data.views import TokenView, view_rows

pytestmark = pytest.mark.slow

EOS = "<|end|>"


def said(role: str, text: str, learned: bool = False) -> str:
    """A message as ChatML writes it for a tokenizer that does not know <|im_end|>."""
    if role != "assistant":
        return f"<|im_start|>{role}\n{text}<|im_end|>\n"
    answer = f"«{text}{EOS}»" if learned else f"{text}{EOS}"
    return f"<|im_start|>assistant\n{answer}\n"


def talk(messages: list[dict[str, str]], learned: bool = False) -> str:
    return "".join(said(message["role"], message["content"], learned) for message in messages)


def expected(objective: str, example: dict[str, Any]) -> list[str]:
    """Written down from the objectives' definitions, not from the trainers."""
    if objective == "sft":
        return [talk(example["messages"], learned=True)]
    if objective == "cpt":
        return [f"«{example['text']}{EOS}»"]
    if objective == "rt":
        return [f"«{example[side]}{EOS}»" for side in ("chosen", "rejected")]
    if objective == "rlhf":
        return [talk(example["prompt"]) + "<|im_start|>assistant\n"]
    if objective == "reward":
        whole = [example[side] if isinstance(example[side], str) else talk(example[side])
                 for side in ("chosen", "rejected")]
        # The score is read at the last token.
        return [f"{text}«{EOS}»" if isinstance(example["chosen"], str) else f"{text[:-1]}«\n»" for text in whole]
    prompt = talk(example["prompt"])
    answers = [example["completion"]] if objective == "kto" else \
        [example[side] for side in ("chosen", "rejected") if example[side] is not None]
    # All that follows the prompt is an answer's, the line's end too.
    marked = [talk(answer).removeprefix("<|im_start|>assistant\n") for answer in answers]
    found = [f"{prompt}<|im_start|>assistant\n«{answer}»" for answer in marked]
    if objective == "orpo":
        found[0] = f"«{prompt}<|im_start|>assistant\n{marked[0]}»"
    return found


def shown(view: TokenView) -> str:
    return "".join(f"«{token}»" if learned else token
                   for token, learned in zip(view.tokens, view.trained, strict=True)).replace("»«", "")


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_layout_is_rendered_and_the_right_tokens_are_learned(layout: Layout) -> None:
    tokenizer = AutoTokenizer.from_pretrained(assets_dir() / "tiny_base")
    choose_template(tokenizer, "chatml", own=True, model="tiny-base")
    part = DatasetPart(path=str(layout.path), columns=layout.columns or None)
    examples = [found.example for found in read_examples(part, layout.objective, None) if isinstance(found, Located)]
    recipe = Recipe.model_validate({"model": "tiny-base", "dataset": DatasetSettings(path=str(layout.path)),
                                    "objective": layout.objective, "training": TrainingSettings(max_length=4096)})
    for views, example in zip(view_rows(recipe, tokenizer, examples), examples, strict=True):
        # A line end of Windows is in the row, and is shown.
        assert [shown(view) for view in views] == [text.replace("\r", "\\x0d")
                                                   for text in expected(layout.objective, example)]
        assert not any(view.dropped or view.truncated_at for view in views)
