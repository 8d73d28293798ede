"""Rehearsing from Plan: progress, result beside the estimate, escape, and settings that change meanwhile."""

import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.test_plan_screen import application, field, settled
from workbench.engine.errors import RunError
from workbench.engine.planning import Plan
from workbench.engine.recipe import Recipe
from workbench.engine.rehearsal import Rehearsal, RehearsalCancelled
from workbench.tui.screens import launching, rehearsing
from workbench.tui.screens.plan import PlanScreen
from workbench.tui.widgets.plan_facts import PlanFacts

FOUND = Rehearsal(200 * 2**20, "loss", 100 * 2**20, (2, 4), 3.0, 10, 10, {})


class Stage:
    """Stands for the worker process: waits at half of the way until told how to go on, or told to stop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self.cancelled = 0
        monkeypatch.setattr(rehearsing, "rehearse", self)

    def __call__(self, recipe: Recipe, base_dir: Path | None, on_progress: Callable[[str, float], None],
                 cancelled: Callable[[], bool]) -> Rehearsal:
        on_progress("tracing 2 layers", 0.5)
        while not self.go_on.wait(0.02):
            if cancelled():
                self.cancelled += 1
                raise RehearsalCancelled("The rehearsal was cancelled.")
        return FOUND


def told(screen: PlanScreen) -> str:
    return "\n".join(str(line) for line in screen.query_one(PlanFacts).compose_lines(80))


async def until(pilot: Pilot[Any], screen: PlanScreen, words: str) -> None:
    for _ in range(100):
        if words in told(screen):
            return
        await pilot.pause(0.05)
    raise AssertionError(f"{words!r} is not in {told(screen)!r}")


async def test_progress_then_the_peak_beside_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    app = application()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await settled(pilot)
        await pilot.press("ctrl+r")
        await until(pilot, screen, "50% tracing 2 layers (esc cancels)")
        assert screen.query_one("#memory").border_title == "GPU memory: rehearsing, 50%"
        stage.go_on.set()
        await until(pilot, screen, "200 MiB; the estimate ")
        assert screen.query_one("#memory").border_title == "GPU memory: rehearsed 200 MiB"
        assert "took 3s" in told(screen)
        # The result belongs to these settings: others have none, and coming back shows it again.
        await pilot.press("right")
        await settled(pilot)
        assert "not yet: ctrl+r" in told(screen)
        await pilot.press("left")
        await settled(pilot)
        assert "200 MiB" in told(screen)
        launched: list[dict[str, Any] | None] = []

        def record(recipe: Recipe, plan: Plan, base_dir: Path | None, rehearsal: dict[str, Any] | None,
                   queue: bool) -> None:
            launched.append(rehearsal)
            raise RunError("not in this test")

        monkeypatch.setattr(launching, "launch", record)
        await pilot.press("ctrl+l")
        await settled(pilot)
        assert launched == [asdict(FOUND)]


async def test_escape_cancels_and_so_does_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    app = application()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await settled(pilot)
        field(screen, "training.max_length").query_one("Input").focus()
        await pilot.press("ctrl+r")
        await until(pilot, screen, "50%")
        await pilot.press("escape")
        await until(pilot, screen, "not yet: ctrl+r")
        assert screen.focused is not None
        await pilot.press("ctrl+r")
        await until(pilot, screen, "50%")
        await pilot.press("backspace")
        await until(pilot, screen, "not yet: ctrl+r")
        await settled(pilot)
        assert stage.cancelled == 2


@pytest.mark.slow
async def test_the_real_trainer_is_rehearsed() -> None:
    app = application()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await settled(pilot)
        await pilot.press("ctrl+r")
        for _ in range(120):
            await pilot.pause(0.5)
            if "; took " in told(screen):
                break
        assert "MiB; the estimate " in told(screen)
