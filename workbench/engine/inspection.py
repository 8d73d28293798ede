"""The client of the worker that looks at data: a dataset's document, and rows as the model will see them."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.engine.errors import InputError, RunError
from workbench.engine.recipe import Recipe
from workbench.engine.worker_client import Message, WorkerClient

OnProgress = Callable[[str, float | None], None]
"""Hears what is being done, and the share that is done (0 to 1) where it is known."""

_LOOK_EVERY = 0.1  # seconds between two looks at `cancelled`
_PATIENCE = 3.0  # seconds that a cancelled worker may take to hear of it, before it is ended


class InspectionCancelled(RunError):  # noqa: N818 (the user asked for it: no error)
    """The inspection was stopped because it was asked to."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found: `document` is what `workbench data --json` prints."""

    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """One sequence of an example: its tokens' texts, and for each whether it is learned and whether it is special.

    `row` is the example's place in what was given; preference data has a sequence for each answer, its `side`. From the
    token `truncated_at` on the model sees nothing; `dropped`: the trainer leaves the row out; `omitted` tokens at the
    end are not listed.
    """

    row: int
    side: str | None
    tokens: tuple[str, ...]
    trained: tuple[bool, ...]
    special: tuple[bool, ...]
    truncated_at: int | None
    dropped: bool
    omitted: int


class Inspector:
    """One warm worker, started when it is first needed; its libraries are loaded once. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: WorkerClient | None = None
        self._waiting: dict[str, queue.SimpleQueue[Message]] = {}

    def inspect(self, recipe: Recipe, base_dir: Path | None = None,
                on_progress: OnProgress = lambda words, share: None,
                cancelled: Callable[[], bool] = lambda: False, everything: bool = False) -> Inspection:
        """Look at a recipe's data; blocks for seconds. A sample of a large dataset, or `everything`.

        Raises InputError for data, model or template that cannot be used, InspectionCancelled when `cancelled` became
        true, RunError when the worker fails.
        """
        answer = self._ask("inspect", on_progress, cancelled, recipe=recipe.model_dump(mode="json"),
                           base_dir=_text(base_dir), everything=everything)
        return Inspection(answer["document"])

    def render(self, recipe: Recipe, base_dir: Path | None, examples: Sequence[dict[str, Any]],
               cancelled: Callable[[], bool] = lambda: False) -> list[RenderedRow]:
        """Canonical examples as the recipe's trainer makes them. Raises as `inspect` does."""
        answer = self._ask("render", lambda words, share: None, cancelled, recipe=recipe.model_dump(mode="json"),
                           base_dir=_text(base_dir), examples=list(examples))
        return [RenderedRow(**{**row, **{name: tuple(row[name]) for name in ("tokens", "trained", "special")}})
                for row in answer["rows"]]

    def close(self) -> None:
        """End the worker, whatever it is doing; a later request starts another."""
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None
            for answers in tuple(self._waiting.values()):
                answers.put({"type": "died", "explanation": "The inspection was ended."})

    def _ask(self, operation: str, on_progress: OnProgress, cancelled: Callable[[], bool], **fields: Any) -> Message:
        answers: queue.SimpleQueue[Message] = queue.SimpleQueue()
        with self._lock:
            client = self._client = self._client or _Client(self._hear)
            request = client.send(operation, **fields)
            self._waiting[request] = answers
        try:
            return _await(answers, on_progress, cancelled)
        except InspectionCancelled:
            self._give_up(client, request, answers)
            raise
        finally:
            # Without the lock, which `close` may hold: others look at a copy.
            self._waiting.pop(request, None)

    def _hear(self, message: Message) -> None:
        with self._lock:
            if message["type"] == "died":
                self._client = None
                for answers in tuple(self._waiting.values()):
                    answers.put(message)
            elif (found := self._waiting.get(str(message.get("id")))) is not None:
                found.put(message)

    def _give_up(self, client: WorkerClient, request: str, answers: "queue.SimpleQueue[Message]") -> None:
        """Wait for a cancelled worker, so that it stays warm; end it when it does not hear."""
        with self._lock:
            client.cancel(request)
        deadline = time.monotonic() + _PATIENCE
        while (left := deadline - time.monotonic()) > 0:
            try:
                if answers.get(timeout=left)["type"] != "progress":
                    return
            except queue.Empty:
                break
        self.close()


class _Client(WorkerClient):
    TITLE = "data worker"


def _await(answers: "queue.SimpleQueue[Message]", on_progress: OnProgress, cancelled: Callable[[], bool]) -> Message:
    while True:
        if cancelled():
            raise InspectionCancelled("The inspection was cancelled.")
        try:
            message = answers.get(timeout=_LOOK_EVERY)
        except queue.Empty:
            continue
        kind = message["type"]
        if kind == "progress":
            on_progress(message["text"], message.get("share"))
        elif kind == "died":
            raise RunError(message["explanation"])
        elif kind == "error":
            error = InputError if message.get("input") else RunError
            raise error(message["message"], message.get("hint"))
        else:
            return message


def _text(path: Path | None) -> str | None:
    return str(path.resolve()) if path is not None else None
