"""The application as a whole: screens by number, help, hardware, the machine line."""

import pytest

from tests.tui.test_plan_screen import application, settled
from workbench.tui.screens.base import WorkbenchScreen
from workbench.tui.screens.help import HelpScreen
from workbench.tui.widgets.top_bar import TABS


async def test_number_keys_show_every_screen() -> None:
    app = application()
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        for key, mode, _ in TABS:
            await pilot.press("escape", key)
            await pilot.pause(0.2)
            assert isinstance(app.screen, WorkbenchScreen)
            assert mode == app.screen.MODE


@pytest.mark.parametrize("mode", ["plan", "data", "runs", "watch"])
async def test_help_lists_the_keys_of_the_screen_and_only_ours(mode: str) -> None:
    app = application()
    async with app.run_test(size=(80, 40)) as pilot:
        await settled(pilot)
        app.switch_mode(mode)
        await pilot.pause(0.3)
        app.screen.set_focus(None)
        await pilot.press("question_mark")
        await pilot.pause(0.1)
        assert isinstance(app.screen, HelpScreen)
        words = [description for _, description in app.screen._rows]
        assert len(words) == len(set(words)) or mode in ("runs", "watch")
        assert {"Plan", "Runs", "Watch", "Help", "Quit"} <= set(words)
        assert "Focus Previous" not in words
        await pilot.press("escape")
        await pilot.pause(0.1)
        assert not isinstance(app.screen, HelpScreen)
