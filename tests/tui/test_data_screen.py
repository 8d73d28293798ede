"""Data: rows as they are read, as the model sees them, what is wrong with them, and how columns are told apart."""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from tests.tui.inspector import StagedInspector
from tests.tui.synthetic import no_gpu
from workbench.tui import data_checks
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.column_mapping import ColumnMappingScreen
from workbench.tui.screens.data import DataScreen
from workbench.tui.widgets.data_facts import DataFacts
from workbench.tui.widgets.findings_list import FindingsList
from workbench.tui.widgets.length_histogram import LengthHistogram
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.row_view import RowView

pytestmark = pytest.mark.checks


def conversation(question: str, answer: str = "It is so.") -> str:
    return json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})


@asynccontextmanager
async def looking_at(folder: Path, lines: list[str], settings: str = "", size: tuple[int, int] = (120, 40),
                     dataset: str = "rows.jsonl") -> AsyncIterator[tuple[WorkbenchApp, Pilot[None]]]:
    (folder / "rows.jsonl").write_text("\n".join(lines))
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"model: tiny-base\ndataset: {dataset}\n{settings}")
    app = WorkbenchApp(start="data", recipe=recipe, hardware=no_gpu)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: (isinstance(app.screen, DataScreen) and app.screen.reader is not None)
                    or app.screen.problem is not None)  # type: ignore[attr-defined]
        await pilot.pause()
        yield app, pilot


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if true():
            return
        await pilot.pause(0.01)
    raise AssertionError("it did not come true in time")


async def checked(app: WorkbenchApp, pilot: Pilot[None]) -> data_checks.DataCheck:
    await until(pilot, lambda: (check := app.checks.of(*app.planned)) is not None and check.done)
    await pilot.pause()
    found = app.checks.of(*app.planned)
    assert found is not None
    return found


def text_of(app: WorkbenchApp, name: str) -> str:
    return str(app.screen.query_one(name, Static).render())


def row_text(app: WorkbenchApp) -> str:
    view = app.screen.query_one(RowView)
    return "\n".join([str(view.border_title), *(str(view.query_one(f"#{part}", Static).render())
                                                for part in ("head", "first", "second") if
                                                view.query_one(f"#{part}", Static).display)])


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (20, 5), (1, 1)])
async def test_it_stands_at_every_size(inspector: StagedInspector, tmp_path: Path, size: tuple[int, int]) -> None:
    async with looking_at(tmp_path, [conversation(f"What is {n}?") for n in range(30)], size=size) as (app, pilot):
        await pilot.press("down", "tab", "tab", "n", "pageup", "end")
        assert "messages" in text_of(app, "#summary")
        assert app.screen.query_one(RowList).cursor >= 1


async def test_rows_stand_there_before_the_worker_answers_and_then_as_the_model_sees_them(
        inspector: StagedInspector, tmp_path: Path) -> None:
    inspector.go_on.clear()
    async with looking_at(tmp_path, [conversation("Why so?", "Because it\nis [b]so[/b].")]) as (app, pilot):
        await until(pilot, lambda: "Because" in row_text(app))
        assert "loading the tokenizer" in row_text(app)
        assert "assistant" in row_text(app)
        inspector.go_on.set()
        await until(pilot, lambda: "learned" in row_text(app))
        shown = app.screen.query_one("#first", Static).render()
        assert "<s>Why so?↵\nBecause it↵\nis [b]so[/b]. </s>" in str(shown)
        learned = {shown.plain[span.start:span.end] for span in shown.spans  # type: ignore[union-attr]
                   if "underline" in str(span.style)}
        assert any("is [b]so[/b]." in piece for piece in learned)
        assert any("</s>" in piece for piece in learned)
        assert not any("Why" in piece for piece in learned)
        await checked(app, pilot)
        facts = "\n".join(str(line) for line in app.screen.query_one(DataFacts).compose_lines(60))
        assert "half of the rows have up to 14" in facts
        assert "EOS is learned" in facts
        assert "640 tokens in 3 steps" in facts
        assert app.screen.query_one(LengthHistogram).region.height == 7


async def test_what_is_cut_off_is_marked(inspector: StagedInspector, tmp_path: Path) -> None:
    lines = [conversation("one two three four five six")]
    async with looking_at(tmp_path, lines, "training: {max_length: 4}\n") as (app, pilot):
        await until(pilot, lambda: "cut at max_length = 4" in row_text(app))
        assert "6 cut off" in row_text(app)


async def test_a_bad_line_is_named_and_one_key_away(inspector: StagedInspector, tmp_path: Path) -> None:
    lines = [conversation(f"What is {n}?") for n in range(40)]
    lines[6] = '{"messages": [{"role": "user"'
    lines[30] = lines[3]
    async with looking_at(tmp_path, lines) as (app, pilot):
        check = await checked(app, pilot)
        assert {finding.id for finding in check.findings} == {"rejected-rows", "duplicates"}
        assert "1 cannot be used" in text_of(app, "#summary")
        assert "2 findings would keep it from starting" in text_of(app, "#summary")
        assert app.screen.query_one(FindingsList).display
        await pilot.press("n")
        await pilot.pause()
        assert row_text(app).startswith("rows.jsonl:7\nThis row cannot be used: not valid JSON")
        await pilot.press("n")
        await pilot.pause()
        assert row_text(app).startswith("rows.jsonl:31\n")
        await pilot.press("n")
        await pilot.pause()
        assert row_text(app).startswith("rows.jsonl:7\n")
        await pilot.press("tab", "down", "enter")
        await pilot.pause()
        assert row_text(app).startswith("rows.jsonl:31\n")
        assert isinstance(app.focused, RowList)


@pytest.mark.parametrize(("size", "beside"), [((180, 40), True), ((80, 24), False)])
async def test_two_answers_stand_side_by_side_where_there_is_room(
        inspector: StagedInspector, tmp_path: Path, size: tuple[int, int], beside: bool) -> None:
    line = json.dumps({"prompt": "Why?", "chosen": "Because it is.", "rejected": "No idea at all."})
    async with looking_at(tmp_path, [line], "objective: dpo\n", size) as (app, pilot):
        await until(pilot, lambda: "chosen: 5 tokens, 3 learned" in row_text(app))
        assert "rejected: 6 tokens" in row_text(app)
        first, second = (app.screen.query_one(name).region for name in ("#first", "#second"))
        assert (first.y == second.y) is beside


async def test_scrolling_reads_on_and_a_line_can_be_gone_to(inspector: StagedInspector, tmp_path: Path) -> None:
    async with looking_at(tmp_path, [conversation(f"What is {n}?") for n in range(1, 1201)]) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, DataScreen)
        for last in (200, 400, 600):
            await until(pilot, lambda: not screen.reading)
            await pilot.press("end")
            assert screen.row is not None
            assert screen.row.line == last
        await pilot.press("g", *"1100", "enter")
        await until(pilot, lambda: row_text(app).startswith("rows.jsonl:1100"))
        await until(pilot, lambda: not screen.reading)
        await pilot.press("home")
        await until(pilot, lambda: not screen.reading)
        await pilot.press("home")
        await until(pilot, lambda: not screen.reading)
        assert screen.row is not None
        assert screen.row.line == 881
        await pilot.press("g", *"5", "enter")
        await until(pilot, lambda: row_text(app).startswith("rows.jsonl:5\n"))
        await pilot.press("g", *"99999", "enter")
        await until(pilot, lambda: any("no line 99,999" in str(note.message) for note in app._notifications))


async def test_columns_are_mapped_into_the_recipe_of_plan(inspector: StagedInspector, tmp_path: Path) -> None:
    lines = [json.dumps({"ask": f"What is {n}?", "say": "It is.", "id": n}) for n in range(3)]
    async with looking_at(tmp_path, lines) as (app, pilot):
        await until(pilot, lambda: "cannot use the columns" in row_text(app))
        assert "Press m" in row_text(app)
        assert '"ask": "What is 0?"' in row_text(app)
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, ColumnMappingScreen))
        await pilot.pause()
        await pilot.press("down", "right")
        assert "completion" in text_of(app, "#outcome")
        await pilot.press("down", "right", "right")
        assert "What is 0?" in text_of(app, "#outcome")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DataScreen) and "What is 0?" in row_text(app))
        recipe, _ = app.planned
        assert recipe.dataset.format == "prompt-completion"
        assert recipe.dataset.columns == {"prompt": "ask", "completion": "say"}


async def test_a_template_is_chosen_and_the_rows_are_rendered_anew(inspector: StagedInspector, tmp_path: Path) -> None:
    async with looking_at(tmp_path, [conversation("Why?")]) as (app, pilot):
        await until(pilot, lambda: "learned" in row_text(app))
        await pilot.press("t", *"chatml", "enter")
        await until(pilot, lambda: len(inspector.rendered) == 2)
        assert [recipe.data.chat_template for recipe in inspector.rendered] == ["auto", "chatml"]
        assert app.planned[0].data.chat_template == "chatml"


async def test_packed_sequences_show_where_rows_begin(inspector: StagedInspector, tmp_path: Path) -> None:
    inspector.document["packed_preview"] = [{"tokens": ["one ", "two ", "three"], "trained": [True] * 3,
                                             "special": [False] * 3, "starts": [0, 2]}]
    async with looking_at(tmp_path, [conversation("Why?")], "training: {packing: true}\n") as (app, pilot):
        await checked(app, pilot)
        await pilot.press("p")
        await pilot.pause()
        assert "one two \n─── the next packed row ───\nthree" in row_text(app)
        assert "2 rows, 3 tokens" in row_text(app)


async def test_reading_all_of_a_large_file_can_be_left(inspector: StagedInspector, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[Any] = []
    real = data_checks.check_structure

    def bounded(recipe: Any, base_dir: Path | None, *, limit_bytes: int | None, **more: Any) -> Any:
        if limit_bytes is None:
            whole.append(recipe)
            while not more["cancelled"]():
                pass
            raise data_checks.CheckCancelled("left")
        return real(recipe, base_dir, limit_bytes=20_000, **more)

    monkeypatch.setattr(data_checks, "check_structure", bounded)
    async with looking_at(tmp_path, [conversation(f"What is {n}?", "so " * 300) for n in range(2000)]) as (app, pilot):
        await until(pilot, lambda: bool(whole) and "reading all rows" in text_of(app, "#summary"))
        assert "of about" in text_of(app, "#summary")
        await pilot.press("escape")
        await pilot.pause(0.05)
        assert "reading" not in text_of(app, "#summary")
        await pilot.press("1")
        await pilot.pause(0.05)
        await pilot.press("escape", "2")
        await pilot.pause(0.05)
        assert len(whole) == 1


async def test_a_file_that_was_mended_is_read_again(inspector: StagedInspector, tmp_path: Path) -> None:
    lines = [conversation(f"What is {n}?") for n in range(9)]
    async with looking_at(tmp_path, [*lines[:6], "{", *lines[7:]]) as (app, pilot):
        assert (await checked(app, pilot)).findings
        (tmp_path / "rows.jsonl").write_text("\n".join(lines))
        await pilot.press("1")
        await pilot.pause(0.05)
        await pilot.press("escape", "2")
        await until(pilot, lambda: app.checks.of(*app.planned) is not None)
        assert not (await checked(app, pilot)).findings
        await pilot.press("g", "7", "enter")
        await until(pilot, lambda: "What is 6?" in row_text(app))


async def test_rows_of_the_hub_are_shown_as_the_worker_got_them(inspector: StagedInspector, tmp_path: Path) -> None:
    inspector.document["preview"] = [{
        "source": "owner/name", "line": 1, "side": None, "tokens": ["Why", "?", "So."], "trained": [False, False, True],
        "special": [False] * 3, "truncated_at": None, "dropped": False, "omitted": 0}]
    inspector.go_on.clear()
    async with looking_at(tmp_path, [], dataset="owner/name") as (app, pilot):
        assert "on the Hub" in row_text(app)
        inspector.go_on.set()
        await until(pilot, lambda: "owner/name:1: 3 tokens, 1 learned\nWhy?So." in row_text(app))


@pytest.mark.slow
async def test_the_real_worker_marks_what_the_trainer_learns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data_checks, "STRUCTURE_DELAY", 0.01)
    monkeypatch.setattr(data_checks, "TOKENS_DELAY", 0.0)
    async with looking_at(tmp_path, [conversation("What is LoRA?", "It is small.")]) as (app, pilot):
        for _ in range(1200):
            if "learned" in row_text(app) and (app.checks.of(*app.planned) or data_checks.DataCheck("", "x")).done:
                break
            await pilot.pause(0.1)
        shown = app.screen.query_one("#first", Static).render()
        learned = "".join(shown.plain[span.start:span.end] for span in shown.spans  # type: ignore[union-attr]
                          if "underline" in str(span.style))
        assert learned == "It is small.<|end|>"
        facts = "\n".join(str(line) for line in app.screen.query_one(DataFacts).compose_lines(60))
        assert "EOS is learned" in facts
