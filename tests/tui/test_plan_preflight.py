"""What is asked before a run starts or goes on: what a preflight found, and what is in the data, in one question."""

from pathlib import Path

import pytest

from tests.tui.inspector import StagedInspector
from tests.tui.synthetic import SyntheticRun, watch_starts
from tests.tui.test_data_screen import checked, conversation, until
from tests.tui.test_plan_data import TRUNCATED, launched, planning
from tests.tui.test_runs_screen import asked
from tests.tui.test_watch_screen import watching
from workbench.engine.preflight import PreflightCheck
from workbench.engine.recipe import Recipe
from workbench.tui.screens import launching, run_actions
from workbench.tui.screens.confirm import ConfirmScreen
from workbench.tui.screens.plan import PlanScreen
from workbench.tui.widgets.plan_form import PlanForm

__all__ = ["launched"]
pytestmark = pytest.mark.preflight
BUSY = PreflightCheck("gpu-free", "warning", "GPU 0 is in use by [vllm] (process 7 of \x1b[31mada), with 71.0 GiB.",
                      "Queue the run, or end the other.")
FULL = PreflightCheck("disk", "problem", "The run writes about 90.0 GiB, and 12.0 GiB are free.", "Free some.")
CUT = PreflightCheck("model", "problem", "model.safetensors is cut short.", "Download it again.")
FINE = PreflightCheck("permission", "ok", "Runs can be written.")


def finds(monkeypatch: pytest.MonkeyPatch, *checks: PreflightCheck) -> None:
    for module in (launching, run_actions):
        monkeypatch.setattr(module, "preflight", lambda *arguments: checks)


async def test_where_all_is_well_nothing_is_asked(tmp_path: Path, launched: list[Recipe],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    finds(monkeypatch, FINE)
    async with planning(tmp_path, [conversation("hello", "good day")]) as (_, pilot):
        await pilot.press("ctrl+l")
        await until(pilot, lambda: len(launched) == 1)


async def test_problems_and_warnings_stand_in_one_question_with_what_mends_them(
        tmp_path: Path, launched: list[Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    finds(monkeypatch, FINE, BUSY, FULL)
    async with planning(tmp_path, [conversation("hello", "good day")]) as (screen, pilot):
        await pilot.press("ctrl+l")
        text = await asked(pilot)
        assert text.startswith("Launch though it may fail?")
        assert text.index("Problem: The run writes about 90.0 GiB") < text.index("Warning: GPU 0 is in use by [vllm]")
        assert "\\x1b[31mada" in text
        assert "What to do: Free some." in text
        assert "Runs can be written" not in text
        await pilot.press("n")
        await until(pilot, lambda: pilot.app.screen is screen)
        assert not launched
        await pilot.press("ctrl+l")
        await asked(pilot)
        await pilot.press("y")
        await until(pilot, lambda: len(launched) == 1)


async def test_what_may_not_be_passed_has_no_yes(tmp_path: Path, launched: list[Recipe],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    finds(monkeypatch, BUSY, CUT)
    async with planning(tmp_path, [conversation("hello", "good day")]) as (screen, pilot):
        await pilot.press("ctrl+l")
        text = await asked(pilot)
        assert text.startswith("It cannot start like this")
        assert "model.safetensors is cut short" in text
        assert "Launch anyway" not in text
        await pilot.press("y")
        await pilot.pause(0.1)
        assert isinstance(pilot.app.screen, ConfirmScreen)
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is screen)
        assert not launched


@pytest.mark.checks
async def test_with_findings_of_the_data_it_is_one_question(
        tmp_path: Path, inspector: StagedInspector, launched: list[Recipe],
        monkeypatch: pytest.MonkeyPatch) -> None:
    finds(monkeypatch, BUSY)
    inspector.document["findings"] = [TRUNCATED.to_json()]
    async with planning(tmp_path, [conversation("hello", "good day")]) as (screen, pilot):
        await checked(screen.workbench, pilot)
        await pilot.press("ctrl+l")
        text = await asked(pilot)
        assert "GPU 0 is in use" in text
        assert "175 rows have more than 40 tokens" in text
        await pilot.press("y")
        await until(pilot, lambda: len(launched) == 1)
        assert launched[0].data.allow == ("truncated",)
        assert pilot.app.screen is screen


async def test_a_recipe_that_is_changed_meanwhile_is_not_launched(
        tmp_path: Path, launched: list[Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    async with planning(tmp_path, [conversation("hello", "good day")]) as (screen, pilot):
        def look(*_: object) -> tuple[PreflightCheck, ...]:
            pilot.app.call_from_thread(screen.query_one(PlanForm).set_value, "training.num_train_epochs", 9)
            return ()

        monkeypatch.setattr(launching, "preflight", look)
        await pilot.press("ctrl+l")
        await until(pilot, lambda: screen.last_recipe.training.num_train_epochs == 9)
        await pilot.pause(0.3)
        assert isinstance(pilot.app.screen, PlanScreen)
        assert not launched


async def test_a_run_goes_on_after_the_same_question(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finds(monkeypatch, FULL)
    started = watch_starts(monkeypatch)
    run = SyntheticRun(home, "paused").start().steps(1, 20).checkpoint(20).event("paused", step=20, checkpoint=None)
    async with watching(run.run) as (_, pilot):
        await pilot.press("r")
        text = await asked(pilot)
        assert "The run writes about 90.0 GiB" in text
        assert "It goes on from its checkpoint of step 20" in text
        await pilot.press("y")
        await until(pilot, lambda: [request["step"] for request in started] == [20])
