"""The chat worker's client: its requests, and one prompt's answer."""

import queue
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from workbench.engine.chat_target import ChatTarget
from workbench.engine.errors import RunError
from workbench.engine.text import sanitise
from workbench.engine.worker_client import SERVE, Message, WorkerClient

__all__ = ["SERVE", "ChatClient", "GenerationSettings", "Message", "Side", "ask_once"]

Side = Literal["tuned", "base"]


@dataclass(frozen=True)
class GenerationSettings:
    """How answers are made. `temperature` 0 is greedy; `seed` matters above it."""

    temperature: float = 0.0
    max_new_tokens: int = 256
    seed: int = 0
    top_p: float | None = None


class ChatClient(WorkerClient):
    """The worker behind Chat. A cancelled answer ends with what there is, `finish` cancelled."""

    TITLE = "chat worker"

    def load(self, target: ChatTarget) -> str:
        """Load a target in place of the present one; returns the request's id."""
        return self.send("load", target=target.to_json())

    def chat(self, messages: Sequence[dict[str, str]], side: Side, settings: GenerationSettings) -> str:
        """Answer a conversation ({role, content}, oldest first); returns the request's id."""
        return self.send("chat", messages=list(messages), side=side, **asdict(settings))


def ask_once(target: ChatTarget, prompt: str, *, max_new_tokens: int = 256, temperature: float = 0.0,
             seed: int = 0) -> dict[str, Any]:
    """One prompt's answer: {model, text, tokens, time_to_first_token (seconds), tokens_per_second, finish}.

    Raises RunError when the model cannot be loaded or the worker dies.
    """
    answers: queue.SimpleQueue[Message] = queue.SimpleQueue()
    client = ChatClient(answers.put)
    try:
        client.load(target)
        loaded = _await(answers, "loaded")
        settings = GenerationSettings(temperature, max_new_tokens, seed)
        side: Side = "tuned" if "tuned" in loaded["sides"] else "base"
        client.chat([{"role": "user", "content": sanitise(prompt)}], side, settings)
        done = _await(answers, "done")
    finally:
        client.close()
    keys = ("text", "tokens", "time_to_first_token", "tokens_per_second", "finish")
    return {"model": target.title, **{key: done[key] for key in keys}}


def _await(answers: "queue.SimpleQueue[Message]", kind: str) -> Message:
    while True:
        message = answers.get()
        if message["type"] == kind:
            return message
        if message["type"] == "died":
            raise RunError(message["explanation"])
        if message["type"] == "error":
            raise RunError(message["message"], message.get("hint"))
