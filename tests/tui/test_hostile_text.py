"""Text of data, models, logs and files on every screen: it reaches the terminal as text, never as orders or markup."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.drivers import headless_driver
from textual.pilot import Pilot
from textual.widgets import Input

from tests.hostile import EVIL, MARKUP, RECIPE, control_bytes, hostile_run
from tests.tui.inspector import StagedInspector
from tests.tui.synthetic import no_gpu
from tests.tui.test_chat_screen import FakeClient
from workbench.engine.chat_session import ChatSession
from workbench.engine.recipe_file import recipe_to_yaml
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.chat import ChatScreen

WRITTEN: list[str] = []


class Recorder(headless_driver.HeadlessDriver):
    """A driver that keeps what would go to the terminal."""

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        WRITTEN.append(data)


@asynccontextmanager
async def recorded(app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch,
                   size: tuple[int, int]) -> AsyncIterator[Pilot[None]]:
    """The application, with everything that it writes looked at when it is left."""
    monkeypatch.setattr(headless_driver, "HeadlessDriver", Recorder)
    WRITTEN.clear()
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.host is not None)
        await pilot.pause(0.3)
        yield pilot
        await pilot.pause(0.2)
    output = "".join(WRITTEN)
    assert len(output) > 1000, "nothing was recorded"
    assert control_bytes(output) == []


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    for _ in range(200):
        await pilot.pause(0.05)
        if true():
            return
    raise AssertionError("it did not come true in time")


def on_screen(app: WorkbenchApp) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


SIZES = [(120, 40)]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
@pytest.mark.parametrize("ended", [True, False])
async def test_runs_and_watch(size: tuple[int, int], ended: bool, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = hostile_run(home, ended=ended)
    app = WorkbenchApp(start="runs", hardware=no_gpu)
    async with recorded(app, monkeypatch, size) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: "step 3" in on_screen(app))
        await until(pilot, lambda: "PWN" in on_screen(app))
        assert MARKUP in on_screen(app)
        for key in ("m", "m", "m", "M", "escape", "question_mark", "escape", "tab", "pagedown", "tab", "end"):
            await pilot.press(key)
            await pilot.pause(0.05)
    assert run.path.is_dir()


@pytest.mark.checks
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("row", [
    {"messages": [{"role": "user", "content": EVIL}, {"role": "assistant", "content": EVIL}]},
    {EVIL: EVIL, "other": [EVIL, {EVIL: EVIL}]}, EVIL])
async def test_data(size: tuple[int, int], row: Any, tmp_path: Path, inspector: StagedInspector,
                    monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"rows{EVIL[:40]}.jsonl".replace("/", "")
    (tmp_path / name).write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n{EVIL}\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: tiny-base\ndataset: {json.dumps(name)}\n")
    inspector.document["template"] = EVIL
    app = WorkbenchApp(start="data", recipe=recipe, hardware=no_gpu)
    async with recorded(app, monkeypatch, size) as pilot:
        await until(pilot, lambda: "PWN" in on_screen(app) or app.screen.problem is not None)  # type: ignore[attr-defined]
        for key in ("down", "tab", "down", "enter", "pagedown", "c", "escape", "t", "escape", "tab", "n"):
            await pilot.press(key)
            await pilot.pause(0.05)


@pytest.mark.parametrize("size", SIZES)
async def test_plan(size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe_to_yaml(RECIPE))
    folder = tmp_path / "models" / EVIL.split("/")[0]
    folder.mkdir(parents=True)
    app = WorkbenchApp(recipe=recipe, hardware=no_gpu)
    async with recorded(app, monkeypatch, size) as pilot:
        for key in ("tab", "down", "tab", "pagedown", "e", "escape", "ctrl+l", "escape", "ctrl+g", "escape"):
            await pilot.press(key)
            await pilot.pause(0.1)


@pytest.mark.parametrize("size", SIZES)
async def test_chat(size: tuple[int, int], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hostile(FakeClient):
        def chat(self, messages: list[dict[str, str]], side: str, settings: Any) -> str:
            request = self._next()
            self.say({"id": request, "type": "token", "text": EVIL})
            self.done(request, EVIL, "stop")
            return request

    app = WorkbenchApp(start="chat", hardware=no_gpu)
    async with recorded(app, monkeypatch, size) as pilot:
        screen = app.screen
        assert isinstance(screen, ChatScreen)
        screen.session = ChatSession(screen._hear, Hostile)  # type: ignore[arg-type]
        await pilot.press("enter")
        await until(pilot, lambda: screen.session.phase == "ready")
        screen.query_one("#prompt", Input).value = EVIL
        await pilot.press("enter")
        await until(pilot, lambda: "PWN" in on_screen(app))
        assert MARKUP in on_screen(app)
