"""The chat worker's client: starts it, sends requests as JSON lines, passes on what it answers."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson

from workbench.engine.chat_target import ChatTarget
from workbench.engine.errors import RunError
from workbench.engine.processes import child_environment
from workbench.engine.text import one_line, sanitise

Message = dict[str, Any]
Side = Literal["tuned", "base"]

SERVE = (sys.executable, "-m", "workbench.worker", "serve")
_STDERR_TAIL = 4096


@dataclass(frozen=True)
class GenerationSettings:
    """How answers are made. `temperature` 0 is greedy; `seed` matters above it."""

    temperature: float = 0.0
    max_new_tokens: int = 256
    seed: int = 0
    top_p: float | None = None


class ChatClient:
    """One worker process. `on_message` is called from a thread of the client's own, once per answer.

    Answers are the worker's (see worker/serve.py), their texts sanitised, and when the worker dies by itself a last
    {"type": "died", "explanation"}. The worker ends with `close`, and by itself when this process is gone: it reads
    the end of its stdin.
    """

    def __init__(self, on_message: Callable[[Message], None], command: Sequence[str] = SERVE) -> None:
        self._on_message = on_message
        self._closing = False
        self._requests = 0
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the client)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
                                         start_new_session=True, env=child_environment())
        self._reader = threading.Thread(target=self._read, name="chat-answers", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def load(self, target: ChatTarget) -> str:
        """Load a target in place of the present one; returns the request's id."""
        return self._send("load", target=target.to_json())

    def chat(self, messages: Sequence[dict[str, str]], side: Side, settings: GenerationSettings) -> str:
        """Answer a conversation ({role, content}, oldest first); returns the request's id."""
        return self._send("chat", messages=list(messages), side=side, **asdict(settings))

    def cancel(self, request: str) -> None:
        """Stop an answer; it ends with what there is, `finish` cancelled."""
        self._send("cancel", request=request)

    def close(self) -> None:
        """End the worker, whatever it is doing. Returns at once."""
        if self._closing:
            return
        self._closing = True
        self._process.kill()

    def _send(self, operation: str, **fields: Any) -> str:
        self._requests += 1
        request = {"id": str(self._requests), "op": operation, **fields}
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):  # it died: the reader says so
            stdin.write(orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE))
            stdin.flush()
        return str(request["id"])

    def _read(self) -> None:
        stdout, stdin = self._process.stdout, self._process.stdin
        assert stdout is not None
        assert stdin is not None
        with stdout:
            for line in stdout:
                message = _parse(line)
                if message is not None and not self._closing:
                    self._on_message(message)
        code = self._process.wait()
        if not self._closing:
            self._on_message({"type": "died", "explanation": _explain_death(code, self._last_stderr_line())})
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        self._stderr.close()

    def _last_stderr_line(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(size - _STDERR_TAIL, 0))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return one_line(lines[-1], 160) if lines else ""


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


def _parse(line: bytes) -> Message | None:
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return None
    return {key: sanitise(value) if isinstance(value, str) else value for key, value in message.items()}


def _explain_death(code: int, last_line: str) -> str:
    if code == -signal.SIGKILL:
        return "The chat worker was killed, by the kernel for lack of memory or by somebody."
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"The chat worker {how}{': ' + last_line if last_line else ', without a word'}"
