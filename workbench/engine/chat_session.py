"""A chat while it goes on: what is loaded, what was said, what is being answered and what comes next."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from workbench.engine.chat_client import ChatClient, GenerationSettings, Message, Side
from workbench.engine.chat_conversation import Answer, Conversation, Turn, statistics
from workbench.engine.chat_target import ChatTarget
from workbench.engine.text import sanitise

Phase = Literal["empty", "loading", "ready", "failed", "dead"]
Connect = Callable[[Callable[[Message], None]], ChatClient]


@dataclass(frozen=True)
class Pending:
    """An answer on its way: the request's id, the side that gives it, the turn it belongs to."""

    request: str
    side: Side
    index: int


class ChatSession:
    """One chat. `on_message` hears the worker from another thread; hand what it gets to `handle`, in your own."""

    def __init__(self, on_message: Callable[[Message], None], connect: Connect = ChatClient) -> None:
        self._on_message = on_message
        self._connect = connect
        self._client: ChatClient | None = None
        self._load_request = ""
        self._queue: list[tuple[Side, int]] = []
        self.target: ChatTarget | None = None
        self.phase: Phase = "empty"
        self.notice = ""
        """What is going on or went wrong, in a sentence; empty when all is well."""
        self.device = ""
        self.comparing = False
        self.settings = GenerationSettings()
        self.conversation = Conversation()
        self.active: Pending | None = None
        self.changed: set[tuple[Side, int]] = set()
        """Answers that grew since their reader last emptied this."""

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that answer, as they stand on screen."""
        if self.target is None or self.target.trained is None:
            return ("base",)
        return ("base", "tuned") if self.comparing else ("tuned",)

    @property
    def comparable(self) -> bool:
        """Whether there is a base to compare with."""
        return self.target is not None and self.target.trained is not None

    def load(self, target: ChatTarget) -> None:
        """Load a target and begin a new conversation with it; the same one again keeps what was said."""
        if target == self.target and self.phase in ("loading", "ready"):
            return
        if target != self.target:
            self.clear()
        self.target = target
        self.comparing = self.comparing and self.comparable
        self.restart()

    def restart(self) -> None:
        """Load the target, in a new worker where the old one died."""
        if self.target is None:
            return
        if self._client is None:
            self._client = self._connect(self._on_message)
        self.phase, self.notice = "loading", "starting"
        self._load_request = self._client.load(self.target)

    def ask(self, prompt: str) -> None:
        """Put a prompt to every side."""
        self.conversation.turns.append(Turn(sanitise(prompt)))
        self._ask_unanswered()

    def retry(self) -> None:
        """Answer the last prompt again; above temperature 0 with the next seed, or the answer would be the same."""
        self.stop()
        if not self.conversation.turns or self.phase != "ready":
            return
        if self.settings.temperature > 0:
            self.settings = replace(self.settings, seed=self.settings.seed + 1)
        self.active = None
        self.conversation.turns[-1].answers.clear()
        self._ask_unanswered()

    def stop(self) -> None:
        """End the answer on its way, and ask no more."""
        for side, index in self._queue:
            self.conversation.turns[index].answers[side] = Answer(statistics="not asked: stopped by you")
            self.changed.add((side, index))
        self._queue.clear()
        if self.active is not None and self._client is not None:
            self._client.cancel(self.active.request)

    def clear(self) -> None:
        """Begin a new conversation."""
        self.stop()
        self.active = None
        self.conversation = Conversation()
        self.changed.clear()

    def compare(self, on: bool) -> None:
        """Let the base answer too, what was asked so far included; or no more."""
        self.comparing = on and self.comparable
        if self.comparing:
            self._ask_unanswered()
            return
        self._queue = [item for item in self._queue if item[0] in self.sides]
        if self.active is not None and self.active.side not in self.sides and self._client is not None:
            self._client.cancel(self.active.request)

    def close(self) -> None:
        """End the worker."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def handle(self, message: Message) -> None:
        """Take in what the worker said; what belongs to a request given up is ignored."""
        handler = {"progress": self._on_progress, "loaded": self._on_loaded, "token": self._on_token,
                   "done": self._on_done, "error": self._on_error, "died": self._on_died}.get(message["type"])
        if handler is not None:
            handler(message)

    def _on_progress(self, message: Message) -> None:
        if message["id"] == self._load_request or self._is_active(message):
            self.notice = message["text"]

    def _on_loaded(self, message: Message) -> None:
        if message["id"] == self._load_request:
            self.phase, self.notice, self.device = "ready", "", message["device"]
            self._ask_unanswered()

    def _on_token(self, message: Message) -> None:
        if self._is_active(message):
            self.notice = ""
            self._answer().text += message["text"]

    def _on_done(self, message: Message) -> None:
        if self._is_active(message):
            answer = self._answer()
            answer.text, answer.statistics = message["text"], statistics(message)
            self._finish()

    def _on_error(self, message: Message) -> None:
        words = " ".join(filter(None, (message["message"], message.get("hint"))))
        if message["id"] == self._load_request:
            self.phase, self.notice = "failed", words
        elif self._is_active(message):
            self._answer().failure = words
            self._finish()

    def _on_died(self, message: Message) -> None:
        self._client = None
        self._queue.clear()
        if self.active is not None:
            del self.conversation.turns[self.active.index].answers[self.active.side]
            self.changed.add((self.active.side, self.active.index))
            self.active = None
        self.phase, self.notice = "dead", message["explanation"]

    def _is_active(self, message: Message) -> bool:
        return self.active is not None and message["id"] == self.active.request

    def _answer(self) -> Answer:
        assert self.active is not None
        self.changed.add((self.active.side, self.active.index))
        return self.conversation.turns[self.active.index].answers[self.active.side]

    def _finish(self) -> None:
        self.active, self.notice = None, ""
        self._ask_next()

    def _ask_unanswered(self) -> None:
        # Turn by turn, so that both answers to a prompt come one after the other.
        self._queue = sorted(((side, index) for side in self.sides for index in self.conversation.unanswered(side)),
                             key=lambda item: item[1])
        self._ask_next()

    def _ask_next(self) -> None:
        if self.phase != "ready" or self.active is not None or not self._queue or self._client is None:
            return
        side, index = self._queue.pop(0)
        messages = self.conversation.messages(side, index)
        self.conversation.turns[index].answers[side] = Answer()
        self.active = Pending(self._client.chat(messages, side, self.settings), side, index)
        self.changed.add((side, index))
