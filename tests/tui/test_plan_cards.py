"""Planning for a GPU that is not here; launching goes by what is."""

from pathlib import Path
from typing import Any

import pytest

from tests.tui.test_plan_screen import application, settled, shown
from workbench.tui.screens.plan import PlanScreen
from workbench.tui.widgets.suggestion_list import SuggestionList


async def test_a_card_is_picked_by_name_and_given_up_again() -> None:
    app = application()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await settled(pilot)
        assert "ctrl+g" in shown(screen)
        await pilot.press("ctrl+g")
        await pilot.pause()
        await pilot.press(*"h100-80", "enter")
        screen = await settled(pilot)
        assert "H100-80GB" in shown(screen)
        assert "fits" in shown(screen).split()
        await pilot.press("ctrl+g")
        await pilot.pause()
        await pilot.press("enter")
        screen = await settled(pilot)
        assert "No GPU" in shown(screen)


async def test_a_run_is_launched_with_the_plan_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[Any] = []
    monkeypatch.setattr(PlanScreen, "launch_plan", lambda self, plan, base_dir: launched.append(plan))
    app = application(gpus=2)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+g")
        await pilot.pause()
        await pilot.press(*"h200", "enter")
        assert "H200" in shown(await settled(pilot))
        await pilot.press("ctrl+l")
        await settled(pilot)
        assert [gpu.name for gpu in launched[0].gpus] == ["NVIDIA Test 24GB"] * 2


async def test_what_is_too_big_is_made_to_fit_by_one_key(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("model: meta-llama/Llama-3.1-8B\ndataset: glossary\ntuning: full\n")
    app = application(gpus=1, recipe=path)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await settled(pilot)
        marked = screen.query_one(SuggestionList).marked
        assert marked is not None
        assert marked.fit == "fits"
        await pilot.press("ctrl+t")
        screen = await settled(pilot)
        plan = screen._plan
        assert plan is not None
        assert plan.comparison is not None
        assert plan.comparison[plan.recipe.tuning].fit == "fits"
        assert not screen.query_one(SuggestionList).display
