"""The Chat screen: choose, ask, read, stop, compare, and what it says when something goes wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from workbench.engine.chat_client import Message
from workbench.engine.chat_session import ChatSession
from workbench.engine.chat_target import ChatTarget
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.manifest import write_complete
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.chat import ChatScreen
from workbench.tui.widgets.transcript import Transcript, TurnView

RUN = "20260101-120000-demo-0a1b"


class FakeClient:
    """Answers every prompt with its side and the prompt, at once or, when `slow`, a first token only."""

    slow = False
    refusal = ""

    def __init__(self, on_message: Callable[[Message], None]) -> None:
        self.say = on_message
        self.requests = 0
        self.cancelled: list[str] = []
        self.closed = False

    def _next(self) -> str:
        self.requests += 1
        return str(self.requests)

    def load(self, target: ChatTarget) -> str:
        request = self._next()
        self.say({"id": request, "type": "progress", "text": "loading libraries"})
        if self.refusal:
            self.say({"id": request, "type": "error", "message": self.refusal, "hint": None})
        else:
            self.say({"id": request, "type": "loaded", "sides": [], "titles": {}, "device": "cpu float32"})
        return request

    def chat(self, messages: list[dict[str, str]], side: str, settings: Any) -> str:
        request = self._next()
        text = f"[b]{side}[/b]: {messages[-1]['content']}"
        self.say({"id": request, "type": "token", "text": text[:6]})
        if not self.slow:
            self.done(request, text, "stop")
        return request

    def done(self, request: str, text: str, finish: str) -> None:
        self.say({"id": request, "type": "done", "text": text, "tokens": 3, "time_to_first_token": 0.1,
                  "tokens_per_second": 50.0, "finish": finish})

    def cancel(self, request: str) -> None:
        self.cancelled.append(request)
        self.done(request, "[b]bas", "cancelled")

    def close(self) -> None:
        self.closed = True


class SlowClient(FakeClient):
    slow = True


class RefusingClient(FakeClient):
    refusal = "demo is not loaded: weights is damaged."


@pytest.fixture
def run(home: Path) -> RunDirectory:
    """A finished LoRA run."""
    made = RunDirectory(home / "runs" / RUN)
    made.path.mkdir(parents=True)
    made.recipe.write_text("name: demo\nmodel: tiny-base\ndataset: glossary\n")
    write_complete(made.model, lambda partial: _write(partial / "adapter_config.json"), {"step": 40})
    return made


def _write(path: Path) -> None:
    path.write_text("{}")


def app_with(client: type[FakeClient] = FakeClient, target: str | None = None) -> WorkbenchApp:
    app = WorkbenchApp(start="chat", chat=target, hardware=lambda: ([], host_snapshot()))
    screen = app.chat_screen
    screen.session = ChatSession(screen._hear, client)  # type: ignore[arg-type]
    return app


async def settled(pilot: Pilot[None]) -> ChatScreen:
    """The screen once threads and timers had their turn."""
    await pilot.app.workers.wait_for_complete()
    await pilot.pause(0.25)
    assert isinstance(pilot.app.screen, ChatScreen)
    return pilot.app.screen


async def ask(pilot: Pilot[None], prompt: str) -> None:
    pilot.app.screen.query_one("#prompt", Input).value = prompt
    await pilot.press("enter")
    await pilot.pause(0.25)


def texts(screen: ChatScreen, side: str) -> list[str]:
    return [str(view.render()) for view in screen.query_one(f"#{side}", Transcript).query(TurnView)]


def shown(screen: ChatScreen) -> list[tuple[str, str | None]]:
    return [(pane.side, pane.border_title) for pane in screen.query(Transcript) if pane.display]


def notice(screen: ChatScreen) -> str:
    return str(screen.query_one("#notice", Static).render())


async def test_an_empty_home_offers_the_built_in_model() -> None:
    async with app_with().run_test() as pilot:
        screen = await settled(pilot)
        choices = screen.query_one(OptionList)
        assert [option.id for option in choices.options] == ["tiny-base"]
        assert "workbench demo" in str(choices.border_subtitle)
        await pilot.press("enter")
        await settled(pilot)
        assert shown(screen) == [("base", "tiny-base")]
        assert screen.focused is screen.query_one("#prompt")


async def test_a_run_is_chosen_and_its_answer_shown_as_plain_text(run: RunDirectory) -> None:
    async with app_with().run_test() as pilot:
        screen = await settled(pilot)
        assert [option.id for option in screen.query_one(OptionList).options] == [RUN, "tiny-base"]
        await pilot.press("enter")
        await settled(pilot)
        assert shown(screen) == [("tuned", "demo · step 40 (LoRA on tiny-base)")]
        await ask(pilot, "hello [red]you[/]")
        assert texts(screen, "tuned") == [
            "› hello [red]you[/]\n[b]tuned[/b]: hello [red]you[/]\n3 tokens · first 0.10 s · 50 tok/s · stopped by EOS"]
        assert screen.query_one("#prompt", Input).value == ""


async def test_comparing_shows_both_sides_from_the_first_prompt_on(run: RunDirectory) -> None:
    async with app_with(target="demo").run_test() as pilot:
        screen = await settled(pilot)
        await ask(pilot, "one")
        await pilot.press("ctrl+b")
        await pilot.pause(0.25)
        await ask(pilot, "two")
        assert shown(screen) == [("base", "tiny-base"), ("tuned", "demo · step 40")]
        for side in ("base", "tuned"):
            assert [f"[b]{side}[/b]: {word}" in text for word, text in
                    zip(("one", "two"), texts(screen, side), strict=True)] == [True, True]
        await pilot.press("escape", "b")
        await pilot.pause(0.25)
        assert shown(screen) == [("tuned", "demo · step 40 (LoRA on tiny-base)")]


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_an_answer_is_stopped_and_tried_again(run: RunDirectory, key: str) -> None:
    async with app_with(SlowClient, "demo").run_test() as pilot:
        screen = await settled(pilot)
        await ask(pilot, "one")
        assert texts(screen, "tuned") == ["› one\n[b]tun"]
        await ask(pilot, "too early")
        assert len(texts(screen, "tuned")) == 1
        await pilot.press(key)
        await pilot.pause(0.25)
        assert texts(screen, "tuned")[0].endswith("stopped by you")
        assert pilot.app.is_running
        await pilot.press("ctrl+r")
        await pilot.pause(0.25)
        assert texts(screen, "tuned") == ["› one\n[b]tun"]


async def test_keys_are_text_in_the_line_and_commands_outside_it(run: RunDirectory) -> None:
    async with app_with(target="demo").run_test() as pilot:
        screen = await settled(pilot)
        await pilot.press("b", "1")
        assert screen.query_one("#prompt", Input).value == "b1"
        await pilot.press("escape", "b")
        assert screen.session.comparing
        await pilot.press("enter")
        assert screen.focused is screen.query_one("#prompt")
        await pilot.press("escape", "1")
        await pilot.pause()
        assert pilot.app.screen is not screen


async def test_new_conversation_temperature_and_another_model(run: RunDirectory) -> None:
    async with app_with(target="demo").run_test() as pilot:
        screen = await settled(pilot)
        await ask(pilot, "one")
        await pilot.press("ctrl+up", "ctrl+up", "ctrl+down", "ctrl+n")
        await pilot.pause(0.25)
        assert texts(screen, "tuned") == []
        assert "temperature 0.1 · up to 256 tokens · seed 0 · cpu float32" in str(
            screen.query_one("#prompt", Input).border_subtitle)
        await pilot.press("ctrl+t", "escape")
        assert shown(screen)[0][0] == "tuned"
        await pilot.press("ctrl+t", "down", "enter")
        await settled(pilot)
        assert shown(screen) == [("base", "tiny-base")]


async def test_what_cannot_be_found_or_loaded_leads_back_to_the_choice(run: RunDirectory) -> None:
    async with app_with(RefusingClient, "nosuch").run_test() as pilot:
        screen = await settled(pilot)
        assert notice(screen).startswith("Neither a run nor a model is called 'nosuch'.")
        assert screen.focused is screen.query_one(OptionList)
        await pilot.press("enter")
        await settled(pilot)
        assert notice(screen) == RefusingClient.refusal
        assert screen.query_one(OptionList).display


async def test_a_dead_worker_is_explained_and_restarted(run: RunDirectory) -> None:
    async with app_with(target="demo").run_test() as pilot:
        screen = await settled(pilot)
        await ask(pilot, "one")
        screen._hear({"type": "died", "explanation": "The chat worker was killed."})
        await pilot.pause(0.25)
        assert notice(screen) == "The chat worker was killed.  ctrl+r restarts it."
        await pilot.press("ctrl+r")
        await pilot.pause(0.25)
        assert screen.session.phase == "ready"
        assert "[b]tuned[/b]: one" in texts(screen, "tuned")[0]


async def test_the_worker_goes_with_the_application() -> None:
    app = app_with(target="tiny-base")
    async with app.run_test() as pilot:
        client = (await settled(pilot)).session._client
        assert isinstance(client, FakeClient)
    assert client.closed


@pytest.mark.parametrize("size", [(20, 5), (1, 1)])
async def test_tiny_terminals(run: RunDirectory, size: tuple[int, int]) -> None:
    async with app_with(target="demo").run_test(size=size) as pilot:
        screen = await settled(pilot)
        await ask(pilot, "one")
        await pilot.press("ctrl+b", "ctrl+t")
        await pilot.pause(0.25)
        assert len(texts(screen, "base")) == 1
