"""Tokens as text and lengths as bars: marks that need no colour, within the width there is."""

import pytest

from workbench.engine.data.findings import Finding
from workbench.engine.data.formats import FORMATS, USES, detect
from workbench.tui.screens.column_mapping import PARTS
from workbench.tui.widgets.data_summary import next_place
from workbench.tui.widgets.findings_list import finding_content
from workbench.tui.widgets.length_histogram import HEIGHT, histogram_lines
from workbench.tui.widgets.token_text import Tokens, tokens_content, tokens_note

TOKENS = Tokens(["<s>", "Why", "?\n", "So", " it", "</s>"], [False, False, False, True, True, True],
                [True, False, False, False, False, True])


def marked(tokens: Tokens, mark: str) -> str:
    content = tokens_content(tokens, ascii=False)
    return "".join(content.plain[span.start:span.end] for span in content.spans if mark in str(span.style))


def test_marks_do_not_need_colours() -> None:
    assert tokens_content(TOKENS, ascii=False).plain == "<s>Why?↵\nSo it</s>"
    assert marked(TOKENS, "underline") == "So it</s>"
    assert marked(TOKENS, "reverse") == "<s></s>"
    assert tokens_note(TOKENS) == "6 tokens, 3 learned"


def test_what_is_cut_off_and_where_packed_rows_begin_is_said() -> None:
    cut = Tokens(TOKENS.texts, [False] * 6, TOKENS.special, cut_at=4)
    assert "\n─── cut at max_length = 4 ───\n" in tokens_content(cut, ascii=False).plain
    assert marked(cut, "strike") == " it</s>"
    assert tokens_note(cut) == "6 tokens, 0 learned, 2 cut off"
    packed = Tokens(TOKENS.texts, TOKENS.trained, TOKENS.special, starts=(0, 3))
    assert "?\\n\n\n--- the next packed row ---\nSo" in tokens_content(packed, ascii=True).plain
    dropped = Tokens(TOKENS.texts, TOKENS.trained, TOKENS.special, dropped=True, omitted=5)
    assert tokens_note(dropped).startswith("11 tokens: the trainer leaves this row out")
    assert "and 5 more tokens" in tokens_content(dropped, ascii=False).plain


@pytest.mark.parametrize("width", [20, 40, 100])
@pytest.mark.parametrize("ascii", [True, False])
def test_bars_keep_within_their_width_and_mark_max_length(width: int, ascii: bool) -> None:
    buckets = [(5 * (n + 1), rows) for n, rows in enumerate([1, 30, 100, 40, 2, 0, 7])]
    lines = histogram_lines(buckets, 25, width, ascii)
    assert len(lines) == HEIGHT + 2
    assert all(line.cell_length <= max(width, 30) for line in lines)
    assert "max_length 25" in lines[-1].plain
    bars = [line.plain for line in lines[:HEIGHT]]
    heights = [sum(row[column] not in " |┊" for row in bars) for column in range(min(map(len, bars)))]
    assert max(heights) == HEIGHT
    assert all(ord(char) < 128 for line in lines for char in line.plain) is ascii
    whole = histogram_lines(buckets, 1000, width, ascii)
    assert "max_length" not in whole[-1].plain


def test_a_single_row_among_thousands_still_shows() -> None:
    lines = histogram_lines([(10, 9000), (20, 1)], 100, 20, False)
    assert "▁" in lines[HEIGHT - 1].plain


def test_a_finding_says_where_once() -> None:
    told = Finding("duplicates", 9, "9 rows repeat: a.jsonl:7, …", "Remove them.", ("a.jsonl:7", "a.jsonl:9"))
    assert finding_content(told, 60).plain.count("a.jsonl:7") == 1
    untold = Finding("duplicates", 9, "9 rows repeat.", "Remove them.", ("a.jsonl:7",))
    assert finding_content(untold, 60).plain == "9 rows repeat.\nat a.jsonl:7 and others\nRemove them."
    assert finding_content(untold, 60, allowed=True).plain.endswith("Allowed by the recipe.")


def test_nothing_known_has_no_next_place() -> None:
    assert next_place(None, None) is None


@pytest.mark.parametrize("objective", USES)
def test_every_format_can_be_mapped_from_foreign_names(objective: str) -> None:
    assert set(PARTS) == set(FORMATS)
    for form in USES[objective]:
        needed, optional = PARTS[form]
        names = [*needed, *(["prompt"] if form == "preference" else [])]
        row = {f"their_{name}": name == "label" or "text" for name in names}
        found = detect(row, objective, {name: f"their_{name}" for name in names}, form)
        assert set(needed) <= set(found.columns)
        assert set(found.columns) <= {*needed, *optional}
