"""Stands for the worker that looks at data, which takes seconds to load: its answers have the worker's own shape."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workbench.engine.inspection import Inspection, InspectionCancelled, RenderedRow
from workbench.engine.recipe import Recipe

DOCUMENT: dict[str, Any] = {
    "findings": [], "histogram": [[10, 3], [20, 40], [30, 2]], "token_lengths": {"p50": 14, "p95": 22, "max": 29},
    "tokens_looked_at": 45, "exact": True, "truncated_rows": 0, "tokens_lost": 0, "tokens_per_epoch": 640,
    "steps_per_epoch": 3, "packing_gain": 1.6, "template": "the model's own", "eos_trained": True, "double_bos": False,
    "packed_preview": [],
}


class StagedInspector:
    """Waits for `go_on` before every answer. The last two words of a text are learned, and an end of sequence."""

    def __init__(self, document: dict[str, Any] | None = None, held: bool = False) -> None:
        self.go_on = threading.Event()
        if not held:
            self.go_on.set()
        self.document = DOCUMENT | (document or {})
        self.rendered: list[Recipe] = []
        self.closed = 0

    def _wait(self, cancelled: Callable[[], bool]) -> None:
        while not self.go_on.wait(0.01):
            if cancelled():
                raise InspectionCancelled("cancelled")

    def inspect(self, recipe: Recipe, base_dir: Path | None, on_progress: Callable[[str, float | None], None],
                cancelled: Callable[[], bool]) -> Inspection:
        on_progress("loading the tokenizer", None)
        self._wait(cancelled)
        return Inspection(self.document)

    def render(self, recipe: Recipe, base_dir: Path | None, examples: Sequence[dict[str, Any]],
               cancelled: Callable[[], bool]) -> list[RenderedRow]:
        self._wait(cancelled)
        self.rendered.append(recipe)
        return [one for place, example in enumerate(examples) for one in _sequences(place, example, recipe)]

    def close(self) -> None:
        self.closed += 1


def _sequences(place: int, example: dict[str, Any], recipe: Recipe) -> list[RenderedRow]:
    sides = [side for side in ("chosen", "rejected") if side in example]
    return [_sequence(place, side, example[side], recipe) for side in sides] or \
        [_sequence(place, None, example.get("messages") or example["text"], recipe)]


def _sequence(place: int, side: str | None, value: Any, recipe: Recipe) -> RenderedRow:
    text = value if isinstance(value, str) else "\n".join(turn["content"] for turn in value)
    words = [f"{word} " for word in text.split(" ")]
    tokens = ["<s>", *words, "</s>"]
    trained = [False] * (len(tokens) - 3) + [True] * 3
    special = [True, *[False] * len(words), True]
    limit = recipe.training.max_length
    return RenderedRow(place, side, tuple(tokens), tuple(trained), tuple(special),
                       limit if limit < len(tokens) else None, False, 0)
