"""What the check found out about a dataset, a figure a line."""

from collections.abc import Mapping
from typing import Any

from textual.content import Content
from textual.geometry import Size

from workbench.engine.figures import count
from workbench.tui.data_checks import DataCheck
from workbench.tui.widgets.lines import Lines, wrapped

_GAIN = 1.05
"""Packing is said to gain something from here on: less is within the noise of how rows fall into batches."""
_MUTED = "$foreground 55%"


class DataFacts(Lines):
    """Lengths, tokens, steps, template. Nothing until a worker has looked."""

    def __init__(self) -> None:
        super().__init__()
        self._document: Mapping[str, Any] = {}
        self._note = ""

    def show(self, document: Mapping[str, Any], check: DataCheck | None) -> None:
        """`document` as `workbench data --json` has it; while there is none, `check` says why."""
        self._document = document
        self._note = "" if document or check is None else check.note or (f"{check.doing}…" if check.doing else "")
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The lines it takes at a width."""
        return len(self.compose_lines(width))

    def compose_lines(self, width: int) -> list[Content]:
        """The facts, wrapped to the width."""
        lines = [line for label, text in data_facts(self._document)
                 for line in wrapped(f"{label:<11}", text, width, _MUTED, "$foreground")]
        return lines + (wrapped("", self._note, width, _MUTED, _MUTED) if self._note else [])


def data_facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Labels and sentences; what is not known is left out."""
    facts = []
    lengths = document.get("token_lengths")
    if lengths:
        looked = document.get("tokens_looked_at")
        of = f", of {looked:,} rows" if looked and not document.get("exact", True) else ""
        facts.append(("tokens", f"half of the rows have up to {lengths['p50']:,}, 95 % up to {lengths['p95']:,}, "
                                f"the longest {lengths['max']:,}{of}"))
        cut = document.get("truncated_rows")
        facts.append(("max_length", f"cuts {cut:,} rows: {document.get('tokens_lost') or 0:,} tokens are lost" if cut
                      else "every row fits"))
    if document.get("tokens_per_epoch"):
        steps = document.get("steps_per_epoch")
        about = "" if document.get("exact", True) else "about "
        facts.append(("epoch", f"{about}{count(document['tokens_per_epoch'])} tokens"
                               + (f" in {steps:,} steps" if steps else "")))
    gain = document.get("packing_gain")
    if gain:
        words = f"would compute {gain:.1f} times fewer tokens" if gain > _GAIN else "gains nothing here"
        facts.append(("packing", words))
    if document.get("template"):
        facts.append(("template", str(document["template"])))
    ends = document.get("eos_trained")
    if ends is not None:
        facts.append(("end", "EOS is learned: the model learns to stop" if ends
                      else "EOS is not learned: the model will not learn to stop"))
    if document.get("double_bos"):
        facts.append(("start", "BOS stands twice at the beginning"))
    return facts
