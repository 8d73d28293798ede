"""Plan and its data: every objective's own settings, mixtures, the check while typing, launching with findings."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.tui.inspector import StagedInspector
from tests.tui.test_data_screen import checked, conversation, until
from tests.tui.test_plan_screen import application, field, machine, settled
from workbench.engine.data.findings import Finding
from workbench.engine.errors import RunError
from workbench.engine.objectives import OBJECTIVES
from workbench.engine.planning import Plan
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_data import DataSettings
from workbench.engine.recipe_file import load_recipe
from workbench.engine.runs.directory import list_run_directories
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.confirm import ConfirmScreen
from workbench.tui.screens.launching import allowing, findings_text
from workbench.tui.screens.plan import PlanScreen
from workbench.tui.screens.watch import WatchScreen
from workbench.tui.widgets.field_text import keep_part_settings, read_text, value_to_text
from workbench.tui.widgets.fields import Field
from workbench.tui.widgets.plan_facts import PlanFacts
from workbench.tui.widgets.plan_fields import FIELDS
from workbench.tui.widgets.plan_form import PlanForm

TRUNCATED = Finding("truncated", 175, "175 rows have more than 40 tokens.", "Raise it.", ("rows.jsonl:9",))


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    recipes: list[Recipe] = []

    def record(recipe: Recipe, plan: Plan, base_dir: Path | None, rehearsal: object, queue: bool) -> None:
        assert not plan.problems
        recipes.append(recipe)
        raise RunError("not in this test")

    monkeypatch.setattr("workbench.tui.screens.launching.launch", record)
    return recipes


@asynccontextmanager
async def planning(folder: Path, lines: list[str], settings: str = "") -> AsyncIterator[tuple[PlanScreen, Pilot[None]]]:
    (folder / "rows.jsonl").write_text("\n".join(lines))
    (folder / "recipe.yaml").write_text(f"model: tiny-base\ndataset: rows.jsonl\n{settings}")
    app = WorkbenchApp(recipe=folder / "recipe.yaml", hardware=machine)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, PlanScreen) and app.screen._plan is not None)
        assert isinstance(app.screen, PlanScreen)
        yield app.screen, pilot


def shown_keys(screen: PlanScreen) -> list[str]:
    return [one.spec.key for one in screen.query(Field) if one.display]


def facts(screen: PlanScreen) -> str:
    return " ".join(" ".join(str(line) for line in screen.query_one(PlanFacts).compose_lines(200)).split())


async def test_each_objective_shows_its_own_settings_in_their_place() -> None:
    app = application()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await settled(pilot)
        form = screen.query_one(PlanForm)
        for objective in OBJECTIVES:
            form.set_value("objective", objective)
            await pilot.pause()
            expected = [spec.key for spec in FIELDS if objective in spec.objectives and "lora" in spec.tunings]
            assert shown_keys(screen) == expected
            own = {key.partition(".")[0] for key in expected} & set(OBJECTIVES)
            assert own <= {objective}
            assert all(form.help_of(one) for one in screen.query(Field))
        field(screen, "tuning").query_one("Choice").focus()
        await pilot.press("up")
        await pilot.pause()
        assert "Its data: prompts only" in str(screen.query_one("#help").render())


async def test_settings_of_an_objective_reach_the_recipe() -> None:
    app = application()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await settled(pilot)
        form = screen.query_one(PlanForm)
        form.set_value("objective", "rlhf")
        await pilot.pause()
        field(screen, "rlhf.reward").query_one("Input").focus()
        await pilot.press(*("space" if key == " " else key for key in "regex:a{1,2}, json"))
        form.set_value("training.early_stopping_patience", 3)
        form.set_value("dataset.path", [{"path": "glossary", "weight": 2.0}, {"path": "glossary-held-out"}])
        await until(pilot, lambda: screen.recipe is not None and screen.recipe.training.early_stopping_patience == 3)
        recipe = screen.recipe
        assert recipe is not None
        assert recipe.rlhf.reward == ("regex:a{1,2}", "json")
        assert [(part.path, part.weight) for part in recipe.dataset.parts] == [
            ("glossary", 2.0), ("glossary-held-out", None)]
        assert field(screen, "dataset.path").query_one("Input").value == "glossary *2, glossary-held-out"


@pytest.mark.parametrize(("text", "value"), [
    ("a.jsonl", "a.jsonl"), ("2024", "2024"), ("a.jsonl *2", [{"path": "a.jsonl", "weight": 2.0}]),
    ("a.jsonl*0.5, my data/b.jsonl", [{"path": "a.jsonl", "weight": 0.5}, {"path": "my data/b.jsonl"}]), ("", None)])
def test_a_mixture_is_typed_and_shown(text: str, value: object) -> None:
    assert read_text(text, "sources") == value
    assert read_text(value_to_text(value), "sources") == value


def test_typing_keeps_what_a_part_says_besides() -> None:
    before = [{"path": "a", "weight": None, "format": "text", "columns": {"text": "body"}}]
    kept = keep_part_settings([{"path": "a", "weight": 2.0}, {"path": "b"}], before)
    assert kept == [{"path": "a", "weight": 2.0, "format": "text", "columns": {"text": "body"}},
                    {"path": "b", "weight": None}]


@pytest.mark.checks
async def test_the_check_goes_on_while_typing_and_never_holds_it_up(inspector: StagedInspector, tmp_path: Path,
                                                                    launched: list[Recipe]) -> None:
    inspector.go_on.clear()
    async with planning(tmp_path, [conversation(f"What is {n}?") for n in range(9)]) as (screen, pilot):
        await until(pilot, lambda: "loading the tokenizer" in facts(screen))
        field(screen, "training.max_length").query_one("Input").focus()
        await pilot.press("ctrl+u", *"512")
        await until(pilot, lambda: screen.recipe is not None and screen.recipe.training.max_length == 512)
        await until(pilot, lambda: "loading the tokenizer" in facts(screen))
        await pilot.press("ctrl+l", "escape")
        await pilot.pause(0.1)
        assert screen._waiting_for_check is None
        await pilot.press("ctrl+l")
        await pilot.pause(0.1)
        assert not launched
        inspector.go_on.set()
        await until(pilot, lambda: bool(launched))
        assert "messages; nothing found" in facts(screen)
        inspector.go_on.clear()
        await pilot.press("backspace")
        await until(pilot, lambda: "loading the tokenizer" in facts(screen))
        await pilot.press("ctrl+l", "ctrl+l")
        await until(pilot, lambda: len(launched) == 2)
        inspector.go_on.set()


@pytest.mark.checks
@pytest.mark.parametrize("answer", ["n", "escape", "enter", "y"])
async def test_launching_with_findings_needs_a_deliberate_yes(inspector: StagedInspector, tmp_path: Path,
                                                              launched: list[Recipe], answer: str) -> None:
    inspector.document["findings"] = [TRUNCATED.to_json()]
    lines = [conversation(f"What is {n}?") for n in range(9)]
    lines[2] = lines[1]
    lines[6] = "{"
    async with planning(tmp_path, lines, "data: {allow: [control-characters]}\n") as (screen, pilot):
        await checked(screen.workbench, pilot)
        assert "3 findings to look at" in facts(screen)
        assert "rows.jsonl:7" in str(field(screen, "dataset.path")._remarked)
        await pilot.press("ctrl+l")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        asked = str(pilot.app.screen.query_one("VerticalScroll Static").render())
        assert "175 rows have more than 40 tokens" in asked
        assert "rows.jsonl:7: not valid JSON" in asked
        assert "data.allow: [duplicates, truncated] and data.max_rejected_rows: 1" in asked
        await pilot.press(answer)
        if answer != "y":
            await pilot.pause(0.1)
            assert not launched
            assert screen.recipe is not None
            assert screen.recipe.data.allow == ("control-characters",)
            return
        await until(pilot, lambda: bool(launched))
        assert launched[0].data.allow == ("control-characters", "duplicates", "truncated")
        assert launched[0].data.max_rejected_rows == 1
        assert field(screen, "data.max_rejected_rows").value == 1


@pytest.mark.slow
@pytest.mark.checks
async def test_the_run_that_starts_says_what_was_allowed(inspector: StagedInspector, tmp_path: Path) -> None:
    lines = [conversation("What?"), conversation("What?"), *(conversation(f"What is {n}?") for n in range(8))]
    async with planning(tmp_path, lines, "training: {max_steps: 1}\n") as (screen, pilot):
        await checked(screen.workbench, pilot)
        await pilot.press("ctrl+l")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        for _ in range(60):
            if isinstance(pilot.app.screen, WatchScreen):
                break
            await pilot.pause(0.5)
        run, = list_run_directories()
        assert load_recipe(run.recipe).data.allow == ("duplicates",)
        assert inspector.closed == 1


@pytest.mark.checks
async def test_findings_that_the_recipe_allows_are_not_asked_about(inspector: StagedInspector, tmp_path: Path,
                                                                   launched: list[Recipe]) -> None:
    lines = [conversation("What?"), conversation("What?")]
    async with planning(tmp_path, lines, "data: {allow: all}\n") as (screen, pilot):
        await checked(screen.workbench, pilot)
        assert "all findings are allowed" in facts(screen)
        await pilot.press("ctrl+l")
        await until(pilot, lambda: bool(launched))


async def test_whose_code_will_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "scores.py").write_text("def short(completions, **kwargs):\n    return [0.0 for _ in completions]\n")
    lines = [json.dumps({"prompt": "Why?"})]
    async with planning(tmp_path, lines, "objective: rlhf\nrlhf: {reward: [scores:short, json]}\n") as (screen, pilot):
        await settled(pilot)
        assert f"runs your code: short in {tmp_path.resolve() / 'scores.py'}" in facts(screen)
        assert "json, built in" in facts(screen)


async def test_the_dataset_picker_says_what_formats_files_have(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}))
    (tmp_path / "odd.csv").write_text("x1,x2\n1,2\n")
    async with planning(tmp_path, [conversation("Why?")]) as (screen, pilot):
        field(screen, "dataset.path").query_one("Input").focus()
        await pilot.press("enter")
        await pilot.pause(0.1)
        picks = {pick.value: pick.note for pick in pilot.app.screen._picks}  # type: ignore[attr-defined]
        assert picks["pairs.jsonl"].endswith("preference")
        assert picks["rows.jsonl"].endswith("messages")
        assert "columns not known" in picks["odd.csv"]
        assert picks["glossary-pairs"] == "built in · preference"
        await pilot.press(*"pairs.jsonl", "enter")
        await until(pilot, lambda: screen.recipe is not None and screen.recipe.dataset.path == "pairs.jsonl")


def test_exactly_what_was_found_is_allowed() -> None:
    rejected = Finding("rejected-rows", 3, "a.jsonl:7: bad.")
    assert allowing(DataSettings(), (TRUNCATED,)) == {"data.allow": ["truncated"]}
    assert allowing(DataSettings(allow="all"), (rejected,)) == {"data.max_rejected_rows": 3}
    assert allowing(DataSettings(allow=("truncated", "duplicates")), (TRUNCATED,)) == {}
    assert "175 rows have more than 40 tokens. Raise it." in findings_text((TRUNCATED,))
    assert "the first 9,000 rows" in findings_text((TRUNCATED,), 9000)
