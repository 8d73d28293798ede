"""Going through rows page by page: what is held stays bounded, and any line can be found."""

import json
from pathlib import Path

from workbench.engine.data.examples import Located, Rejected
from workbench.engine.recipe import Recipe
from workbench.tui.row_reader import PAGE, RowReader, RowWindow, first_row, preview


def never() -> bool:
    return False


def recipe_of(folder: Path, rows: int, length: int = 10, bad: int = 0, **dataset: object) -> Recipe:
    lines = [json.dumps({"prompt": f"What is {n}?", "completion": "x" * length}) for n in range(1, rows + 1)]
    if bad:
        lines[bad - 1] = "{"
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return Recipe.model_validate({"model": "tiny-base", "dataset": {"path": "rows.jsonl", **dataset}})


def test_pages_follow_one_another_and_go_back(tmp_path: Path) -> None:
    reader = RowReader(recipe_of(tmp_path, 3 * PAGE - 50, bad=7), tmp_path)
    first = reader.page(0, never)
    assert len(first) == PAGE
    assert isinstance(first[6], Rejected)
    assert preview(first[6]).startswith("not valid JSON")
    assert [item.line for item in reader.page(PAGE, never)] == list(range(PAGE + 1, 2 * PAGE + 1))
    assert len(reader.page(2 * PAGE, never)) == PAGE - 50
    assert reader.ended
    assert reader.page(10, never)[0].line == 11
    assert reader.formats["rows.jsonl"].name == "prompt-completion"


def test_a_line_is_found_with_rows_before_it(tmp_path: Path) -> None:
    reader = RowReader(recipe_of(tmp_path, 900), tmp_path)
    number, items = reader.page_at("rows.jsonl", 700, never)
    assert number == 699
    assert items[0].line < 700 < items[-1].line
    assert reader.page_at(None, 3, never)[0] == 2
    assert reader.page_at("rows.jsonl", 901, never)[1] == []


def test_the_window_moves_and_never_grows_beyond_a_few_pages(tmp_path: Path) -> None:
    reader = RowReader(recipe_of(tmp_path, 40 * PAGE), tmp_path)
    window = RowWindow()
    window.replace(0, reader.page(0, never), reader.ended)
    while not window.ended:
        window.append(reader.page(window.first + len(window.items), never), reader.ended)
        assert len(window.items) <= 20 * PAGE
    assert window.items[-1].line == 40 * PAGE
    assert window.items[0].line == window.first + 1


def test_long_rows_make_short_pages(tmp_path: Path) -> None:
    reader = RowReader(recipe_of(tmp_path, 8, length=1_500_000), tmp_path)
    window = RowWindow()
    window.replace(0, reader.page(0, never), reader.ended)
    assert len(window.items) == 3
    while not window.ended:
        window.append(reader.page(window.first + len(window.items), never), reader.ended)
    assert window.items[-1].line == 8


def test_evaluation_rows_come_last_and_max_rows_is_kept(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, 30, max_rows=5, eval_path="glossary-held-out")
    items = RowReader(recipe, tmp_path).page(0, never)
    assert [item.source for item in items[:6]] == ["rows.jsonl"] * 5 + ["glossary-held-out"]
    assert isinstance(items[-1], Located)
    assert first_row(recipe.dataset.parts[0], tmp_path) == {"prompt": "What is 1?", "completion": "x" * 10}
