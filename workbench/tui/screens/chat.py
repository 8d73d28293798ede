"""Chat: talk to a run, a checkpoint or a model, alone or side by side with its base."""

from dataclasses import replace
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message as TextualMessage
from textual.widgets import Input, OptionList, Static

from workbench.engine.chat_client import ChatClient, Message
from workbench.engine.chat_session import ChatSession, Connect
from workbench.engine.chat_target import ChatTarget, resolve_chat_target
from workbench.engine.errors import WorkbenchError
from workbench.tui.format import plain_title
from workbench.tui.screens.base import WorkbenchScreen
from workbench.tui.widgets.chat_choices import ChatChoices
from workbench.tui.widgets.transcript import Transcript

# Tokens come faster than a slow link can draw them.
_REDRAW_SECONDS = 0.1


class FromWorker(TextualMessage):
    """Something the chat worker said."""

    def __init__(self, answer: Message) -> None:
        super().__init__()
        self.answer = answer


class ChatScreen(WorkbenchScreen):
    """Talk to a model and see what training changed."""

    MODE = "chat"
    CSS_PATH = "chat.tcss"
    AUTO_FOCUS = "#choices, #prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop"),
        Binding("ctrl+c", "stop", show=False, priority=True),
        Binding("escape", "back", "Back"),
        Binding("escape", "leave", "Leave the line"),
        Binding("enter", "write", "Write"),
        Binding("ctrl+b,b", "compare", "Compare", key_display="^b"),
        Binding("ctrl+r", "retry", "Retry"),
        Binding("ctrl+n", "new", "New"),
        Binding("ctrl+t", "change", "Model"),
        Binding("ctrl+up", "temperature(0.1)", "Warmer", show=False),
        Binding("ctrl+down", "temperature(-0.1)", "Colder", show=False),
        Binding("pageup", "scroll(-1)", "Scroll up", show=False),
        Binding("pagedown", "scroll(1)", "Scroll down", show=False),
    ]

    def __init__(self, connect: Connect = ChatClient) -> None:
        super().__init__()
        self.session = ChatSession(self._hear, connect)
        self._wanted: str | None = None
        self._choosing = True
        self._refusal = ""

    def compose_body(self) -> ComposeResult:
        """What to choose from, or the panes; a notice; the line to write in."""
        yield ChatChoices("choices")
        with Horizontal(id="panes"):
            yield Transcript("base")
            yield Transcript("tuned")
        yield Static(id="notice", markup=False)
        yield Input(id="prompt", classes="panel")

    def on_mount(self) -> None:
        """Load what was asked for, else offer a choice."""
        self.set_interval(_REDRAW_SECONDS, self._redraw)
        if self._wanted is not None:
            self._look_for(self._wanted)
        else:
            self._choose()

    def on_unmount(self) -> None:
        """The worker goes with the screen."""
        self.session.close()

    def on_poll(self) -> None:
        """There may be more to choose from."""
        if self._choosing:
            self.query_one(ChatChoices).update_runs(self.workbench.runs)

    def set_target(self, target: str) -> None:
        """Load a model, folder, run or checkpoint; may be called before the screen is shown."""
        self._wanted = target
        if self.is_mounted:
            self._look_for(target)

    def _look_for(self, target: str) -> None:
        self._refusal = ""
        self._show_notice(f"looking for {target}", "muted")
        self._resolve(target)

    @work(thread=True, exclusive=True, group="target")
    def _resolve(self, reference: str) -> None:
        try:
            target = resolve_chat_target(reference)
        except WorkbenchError as error:
            self.app.call_from_thread(self._refuse, " ".join(filter(None, (error.message, error.hint))))
        else:
            self.app.call_from_thread(self._load, target)

    def _refuse(self, words: str) -> None:
        self._refusal = words
        self._choose()

    def _load(self, target: ChatTarget) -> None:
        self._choosing = False
        self.session.load(target)
        self._show_all()
        self.query_one("#prompt").focus()

    def _choose(self) -> None:
        self._choosing = True
        self.query_one(ChatChoices).update_runs(self.workbench.runs)
        self._show_all()
        self.query_one("#choices").focus()

    @on(OptionList.OptionSelected, "#choices")
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.set_target(str(event.option_id))

    @on(Input.Submitted, "#prompt")
    def _submitted(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if not text or (not self._choosing and (self.session.phase != "ready" or self.session.active)):
            return
        event.input.clear()
        if self._choosing:
            self.set_target(text)
        else:
            self.session.ask(text)
            for pane in self._panes():
                pane.add_turn(self.session.conversation.turns[-1])
            self._show_state()

    def _hear(self, answer: Message) -> None:
        self.post_message(FromWorker(answer))

    @on(FromWorker)
    def _heard(self, event: FromWorker) -> None:
        phase, active = self.session.phase, self.session.active
        self.session.handle(event.answer)
        if self.session.phase == "failed" and phase != "failed":
            self._refuse(self.session.notice)
        elif self.session.phase != phase:
            self._show_all()
        elif self.session.active != active or event.answer["type"] == "progress":
            self._redraw()
            self._show_state()

    def _redraw(self) -> None:
        if not self.session.changed:
            return
        for pane in self._panes():
            for side, index in self.session.changed:
                if side == pane.side:
                    pane.update_turn(index, self.session.conversation.turns[index])
        self.session.changed.clear()

    def _panes(self) -> list[Transcript]:
        """The panes that are shown."""
        return [pane for pane in self.query(Transcript) if pane.side in self.session.sides]

    def _show_all(self) -> None:
        """Show everything anew: another target, another conversation, one pane more or less."""
        session = self.session
        self.set_class(self._choosing, "-choosing")
        for pane in self.query(Transcript):
            pane.set_class(pane.side in session.sides, "-shown")
        if session.target is not None:
            titles = {"base": session.target.base_title, "tuned": session.target.title}
            for pane in self._panes():
                pane.set_title(titles[pane.side] if session.comparing else session.target.description)
                pane.set_hint(self._hint())
                pane.show_turns(session.conversation.turns)
        session.changed.clear()
        self._show_state()

    def _hint(self) -> str:
        if self.session.phase != "ready":
            return ""
        if self.session.comparable and not self.session.comparing:
            assert self.session.target is not None
            return (f"Ask something.\n\nctrl+b (in tmux: esc, then b): {self.session.target.base_title} answers too, "
                    "side by side.")
        return "Ask something."

    def _show_state(self) -> None:
        session = self.session
        line = self.query_one("#prompt", Input)
        settings = session.settings
        if self._choosing:
            line.placeholder = "or write a run, RUN:step, a folder or a model id"
            line.border_subtitle = ""
            self._show_notice(self._refusal, "-error")
        else:
            line.placeholder = "Ask something" if session.phase == "ready" else ""
            facts = (f"^↑↓ temperature {settings.temperature:.1f}", f"up to {settings.max_new_tokens} tokens",
                     f"seed {settings.seed}", session.device)
            line.border_subtitle = plain_title(" · ".join(filter(None, facts)))
            ending = "  ctrl+r restarts it." if session.phase == "dead" else ""
            self._show_notice(session.notice + ending, "-error" if session.phase == "dead" else "muted")
        self.refresh_bindings()

    def _show_notice(self, text: str, style: str) -> None:
        notice = self.query_one("#notice", Static)
        notice.update(text)
        notice.display = bool(text)
        notice.set_classes(style)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what can be done now is offered."""
        session = self.session
        offered = {
            "stop": session.active is not None,
            "back": self._choosing and session.phase in ("loading", "ready", "dead") and session.active is None,
            "leave": not self._choosing and session.active is None and self.focused is not None,
            "write": not self._choosing and self.focused is None,
            "compare": not self._choosing and session.comparable,
            "retry": not self._choosing and (session.phase == "dead" or bool(session.conversation.turns)),
            "new": not self._choosing and bool(session.conversation.turns),
            "change": not self._choosing,
        }
        return offered.get(action, True)

    def action_stop(self) -> None:
        """End the answer on its way."""
        self.session.stop()
        self._redraw()

    def action_back(self) -> None:
        """Back to the conversation."""
        self._choosing = False
        self._show_all()
        self.query_one("#prompt").focus()

    def action_leave(self) -> None:
        """Leave the line, so that single keys work."""
        self.set_focus(None)
        self.refresh_bindings()

    def action_write(self) -> None:
        """To the line."""
        self.query_one("#prompt").focus()

    def action_compare(self) -> None:
        """The base beside what was trained, or no more."""
        self.session.compare(not self.session.comparing)
        self._show_all()

    def action_retry(self) -> None:
        """The last prompt again; after a death, the worker."""
        if self.session.phase == "dead":
            self.session.restart()
        else:
            self.session.retry()
        self._show_all()

    def action_new(self) -> None:
        """A new conversation."""
        self.session.clear()
        self._show_all()

    def action_change(self) -> None:
        """Another model."""
        self._refusal = ""
        self._choose()

    def action_temperature(self, change: float) -> None:
        """Warmer or colder answers from now on."""
        settings = self.session.settings
        warmth = round(min(max(settings.temperature + change, 0.0), 2.0), 1)
        self.session.settings = replace(settings, temperature=warmth)
        self._show_state()

    def action_scroll(self, pages: int) -> None:
        """A page up or down, in every pane."""
        for pane in self._panes():
            (pane.scroll_page_up if pages < 0 else pane.scroll_page_down)(animate=False)
