"""A chat's course: what is asked when, what is kept, what is ignored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.engine.chat_client import Message
from workbench.engine.chat_session import ChatSession
from workbench.engine.chat_target import ChatTarget

TUNED = ChatTarget("demo · step 4", "tiny-base", "tiny-base", adapter=Path("/a"), tuning="lora")
BASE = ChatTarget("tiny-base", "tiny-base", "tiny-base")


class RecordingClient:
    """Remembers requests; the test answers them."""

    def __init__(self, on_message: Callable[[Message], None]) -> None:
        self.requests: list[tuple[str, Any]] = []

    def _add(self, operation: str, what: Any) -> str:
        self.requests.append((operation, what))
        return str(len(self.requests))

    def load(self, target: ChatTarget) -> str:
        return self._add("load", target)

    def chat(self, messages: list[dict[str, str]], side: str, settings: Any) -> str:
        return self._add("chat", (side, [message["content"] for message in messages], settings))

    def cancel(self, request: str) -> None:
        self._add("cancel", request)

    def close(self) -> None:
        self._add("close", None)


class Chat(ChatSession):
    """A session with a recording client, and words for what a worker says."""

    def __init__(self, target: ChatTarget) -> None:
        self.clients: list[RecordingClient] = []
        super().__init__(lambda _: None, self._make)  # type: ignore[arg-type]
        self.load(target)
        self.loaded()

    def _make(self, on_message: Callable[[Message], None]) -> RecordingClient:
        self.clients.append(RecordingClient(on_message))
        return self.clients[-1]

    def loaded(self) -> None:
        self.handle({"id": str(len(self.clients[-1].requests)), "type": "loaded", "device": "cpu"})

    def done(self, text: str, finish: str = "stop", request: str | None = None) -> None:
        request = request or (self.active.request if self.active else "")
        self.handle({"id": request, "type": "done", "text": text, "tokens": 2, "time_to_first_token": 0.125,
                     "tokens_per_second": 96.4, "finish": finish})

    def asked(self) -> list[tuple[str, list[str]]]:
        return [(what[0], what[1]) for operation, what in self.clients[-1].requests if operation == "chat"]

    def texts(self, side: str) -> list[str]:
        return [turn.answers[side].text for turn in self.conversation.turns]  # type: ignore[index]


def test_tokens_grow_an_answer_and_done_settles_it() -> None:
    chat = Chat(BASE)
    chat.ask("hello\x1b")
    assert chat.active is not None
    chat.changed.clear()
    chat.handle({"id": chat.active.request, "type": "token", "text": " Hi"})
    assert chat.texts("base") == [" Hi"]
    assert chat.changed == {("base", 0)}
    chat.done("Hi there")
    assert chat.texts("base") == ["Hi there"]
    assert chat.conversation.turns[0].answers["base"].statistics == \
        "2 tokens · first 0.12 s · 96 tok/s · stopped by EOS"
    assert chat.active is None
    chat.ask("and then?")
    assert chat.asked()[-1] == ("base", ["hello\\x1b", "Hi there", "and then?"])


def test_the_base_catches_up_with_its_own_answers() -> None:
    chat = Chat(TUNED)
    for prompt in ("one", "two"):
        chat.ask(prompt)
        chat.done(f"tuned {prompt}")
    chat.compare(True)
    chat.done("base one")
    chat.done("base two")
    assert chat.asked()[-2:] == [("base", ["one"]), ("base", ["one", "base one", "two"])]
    chat.ask("three")
    assert chat.asked()[-1] == ("base", ["one", "base one", "two", "base two", "three"])
    chat.done("base three")
    assert chat.asked()[-1] == ("tuned", ["one", "tuned one", "two", "tuned two", "three"])


def test_stop_cancels_the_answer_and_drops_the_next() -> None:
    chat = Chat(TUNED)
    chat.compare(True)
    chat.ask("one")
    assert chat.active is not None
    chat.stop()
    assert chat.clients[-1].requests[-1] == ("cancel", chat.active.request)
    chat.done("bas", finish="cancelled")
    assert chat.active is None
    assert chat.texts("base") == ["bas"]
    assert chat.conversation.turns[0].answers["tuned"].statistics == "not asked: stopped by you"
    chat.ask("two")
    assert chat.asked()[-1] == ("base", ["one", "bas", "two"])


def test_leaving_the_comparison_stops_the_base_alone() -> None:
    chat = Chat(TUNED)
    chat.compare(True)
    chat.ask("one")
    chat.compare(False)
    assert chat.clients[-1].requests[-1][0] == "cancel"
    chat.done("", finish="cancelled")
    assert chat.asked()[-1][0] == "tuned"


def test_a_base_alone_has_nothing_to_compare_with() -> None:
    chat = Chat(BASE)
    chat.compare(True)
    assert (chat.comparing, chat.sides) == (False, ("base",))


@pytest.mark.parametrize(("temperature", "seed"), [(0.0, 0), (0.7, 1)])
def test_retry_asks_again_with_another_seed_where_it_matters(temperature: float, seed: int) -> None:
    chat = Chat(BASE)
    chat.settings = type(chat.settings)(temperature=temperature)
    chat.ask("one")
    first = chat.active
    assert first is not None
    chat.retry()
    chat.done("late", request=first.request)
    assert chat.texts("base") == [""]
    assert chat.clients[-1].requests[-1][1][2].seed == seed
    chat.done("again")
    assert chat.texts("base") == ["again"]


def test_a_new_conversation_ignores_the_old_answer() -> None:
    chat = Chat(BASE)
    chat.ask("one")
    old = chat.active
    assert old is not None
    chat.clear()
    chat.done("late", request=old.request)
    assert chat.conversation.turns == []
    chat.ask("two")
    assert chat.asked()[-1] == ("base", ["two"])


def test_after_a_death_the_conversation_goes_on() -> None:
    chat = Chat(BASE)
    chat.ask("one")
    chat.done("answer")
    chat.ask("two")
    chat.handle({"type": "died", "explanation": "It died."})
    assert (chat.phase, chat.notice, chat.active) == ("dead", "It died.", None)
    chat.restart()
    assert len(chat.clients) == 2
    assert chat.phase == "loading"
    chat.loaded()
    assert chat.asked() == [("base", ["one", "answer", "two"])]


def test_an_answer_that_fails_says_why_and_the_next_is_asked() -> None:
    chat = Chat(TUNED)
    chat.compare(True)
    chat.ask("one")
    assert chat.active is not None
    chat.handle({"id": chat.active.request, "type": "error", "message": "Too long.", "hint": "Begin anew."})
    assert chat.conversation.turns[0].answers["base"].failure == "Too long. Begin anew."
    assert chat.active.side == "tuned"


def test_a_load_that_fails_and_the_same_target_again() -> None:
    chat = Chat(BASE)
    chat.ask("one")
    chat.done("answer")
    chat.load(BASE)
    assert chat.texts("base") == ["answer"]
    chat.load(TUNED)
    assert (chat.phase, chat.conversation.turns) == ("loading", [])
    chat.handle({"id": "3", "type": "error", "message": "It is damaged.", "hint": None})
    assert (chat.phase, chat.notice) == ("failed", "It is damaged.")
    assert len(chat.clients) == 1


def test_close_ends_the_worker_once() -> None:
    chat = Chat(BASE)
    chat.close()
    chat.close()
    assert [operation for operation, _ in chat.clients[-1].requests] == ["load", "close"]
