"""Plan: the form, the live memory table, launching."""

import threading
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from workbench.engine.errors import RunError
from workbench.engine.hardware.gpus import Gpu
from workbench.engine.hardware.host import HostSnapshot
from workbench.engine.planning import Plan, make_plan
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import load_recipe
from workbench.tui.app import Hardware, WorkbenchApp
from workbench.tui.screens.plan import PlanScreen
from workbench.tui.widgets.field_text import text_to_value, value_to_text
from workbench.tui.widgets.fields import Choice, Field
from workbench.tui.widgets.memory_table import MemoryTable

GIB = 2**30


def machine(gpus: int = 0, free: int = 20 * GIB) -> Hardware:
    cards = [Gpu(i, f"GPU-{i}", "NVIDIA Test 24GB", 24 * GIB, free, 24 * GIB - free, 3, 41, 62.0) for i in range(gpus)]
    return cards, HostSnapshot(5.0, 64 * GIB, 60 * GIB, 0.1, 16)


def application(gpus: int = 0, recipe: Path | None = None, free: int = 20 * GIB) -> WorkbenchApp:
    return WorkbenchApp(recipe=recipe, hardware=lambda: machine(gpus, free))


async def settled(pilot: Pilot[Any]) -> PlanScreen:
    await pilot.pause(0.2)
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()
    assert isinstance(pilot.app.screen, PlanScreen)
    return pilot.app.screen


def shown(screen: PlanScreen) -> str:
    return "\n".join(str(line) for line in screen.query_one(MemoryTable).compose_lines(36))


def field(screen: PlanScreen, key: str) -> Field:
    return next(f for f in screen.query(Field) if f.spec.key == key)


@pytest.mark.parametrize(("size", "gpus"), [
    ((80, 24), 1), ((80, 24), 8), ((120, 40), 0), ((120, 40), 2), ((200, 60), 8), ((20, 5), 1), ((1, 1), 0)])
async def test_it_stands_at_every_size_and_machine(size: tuple[int, int], gpus: int) -> None:
    app = application(gpus)
    async with app.run_test(size=size) as pilot:
        text = shown(await settled(pilot))
        assert "LoRA" in text
        assert ("fits" if gpus else "No GPU") in text
        if gpus > 1:
            assert f"{gpus}× Test 24GB" in text


async def test_the_table_follows_what_is_typed() -> None:
    app = application(gpus=1)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await settled(pilot)
        before = shown(screen)
        field(screen, "model").query_one("Input").focus()
        await pilot.press("ctrl+u", *"meta-llama/Llama-3.1-8B")
        screen = await settled(pilot)
        after = shown(screen)
        assert before != after
        assert "no" in after.split()
        assert "8.03B" in after


async def test_errors_stand_at_their_field_and_launching_waits() -> None:
    app = application()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await settled(pilot)
        field(screen, "training.max_length").query_one("Input").focus()
        await pilot.press("ctrl+u", "0")
        screen = await settled(pilot)
        assert field(screen, "training.max_length").has_class("invalid")
        await pilot.press("ctrl+l")
        assert isinstance((await settled(pilot)), PlanScreen)
        await pilot.press("backspace", "6", "4")
        screen = await settled(pilot)
        assert not field(screen, "training.max_length").has_class("invalid")
        field(screen, "dataset.path").query_one("Input").focus()
        await pilot.press("x")
        screen = await settled(pilot)
        assert field(screen, "dataset.path").has_class("invalid")


async def test_launching_waits_for_a_plan_that_is_still_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[Plan] = []
    planning = threading.Event()

    def slowly(*arguments: Any) -> Plan:
        planning.wait(20)
        return make_plan(*arguments)

    def record(recipe: Recipe, plan: Plan, base_dir: Path | None, rehearsal: object, queue: bool) -> None:
        launched.append(plan)
        raise RunError("not in this test")

    monkeypatch.setattr("workbench.tui.screens.plan.make_plan", slowly)
    monkeypatch.setattr("workbench.tui.screens.launching.launch", record)
    async with application().run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+l")
        assert not launched
        planning.set()
        screen = await settled(pilot)
        assert [plan.recipe for plan in launched] == [screen.recipe]


async def test_tuning_changes_by_arrow_and_hides_what_it_does_not_use() -> None:
    app = application()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await settled(pilot)
        assert isinstance(screen.focused, Choice)
        assert field(screen, "lora.lora_r").display
        await pilot.press("left")
        screen = await settled(pilot)
        assert screen.recipe is not None
        assert screen.recipe.tuning == "full"
        assert not field(screen, "lora.lora_r").display


async def test_a_picker_fills_the_field() -> None:
    app = application()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await settled(pilot)
        field(screen, "model").query_one("Input").focus()
        await pilot.press("enter")
        await pilot.pause()
        await pilot.press(*"smollm2 135", "enter")
        screen = await settled(pilot)
        assert field(screen, "model").value == "HuggingFaceTB/SmolLM2-135M"


async def test_saving_keeps_the_comments_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("# why\nmodel: tiny-base  # small\ndataset: glossary\n")
    app = application(recipe=path)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("right", "ctrl+s")
        await pilot.pause()
        await pilot.press("enter")
        await settled(pilot)
    text = path.read_text()
    assert "# why" in text
    assert "# small" in text
    assert load_recipe(path).tuning == "qlora"


@pytest.mark.parametrize(("text", "value"), [
    ("", None), ("5", 5), ("2e-4", 2e-4), ("a, b", ["a", "b"]), ("all-linear", "all-linear"), ("null", None)])
def test_typed_text_becomes_a_value_and_back(text: str, value: object) -> None:
    assert text_to_value(text) == value
    assert text_to_value(value_to_text(value)) == value
