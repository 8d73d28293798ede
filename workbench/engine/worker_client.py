"""A warm worker's client: starts it, sends requests as JSON lines, passes on what it answers."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from workbench.engine.processes import child_environment
from workbench.engine.text import one_line, sanitise

Message = dict[str, Any]

SERVE = (sys.executable, "-m", "workbench.worker", "serve")
_STDERR_TAIL = 4096


class WorkerClient:
    """One worker process. `on_message` is called from a thread of the client's own, once per answer.

    Answers are the worker's (see worker/serve.py), their texts sanitised, and when the worker dies by itself a last
    {"type": "died", "explanation"}. The worker ends with `close`, and by itself when this process is gone: it reads
    the end of its stdin.
    """

    TITLE = "worker"
    """What a sentence about the process calls it."""

    def __init__(self, on_message: Callable[[Message], None], command: Sequence[str] = SERVE) -> None:
        self._on_message = on_message
        self._closing = False
        self._requests = 0
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the client)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
                                         start_new_session=True, env=child_environment())
        self._reader = threading.Thread(target=self._read, name="worker-answers", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def cancel(self, request: str) -> None:
        """Stop a request that is being answered."""
        self.send("cancel", request=request)

    def close(self) -> None:
        """End the worker, whatever it is doing. Returns at once."""
        if self._closing:
            return
        self._closing = True
        self._process.kill()

    def send(self, operation: str, **fields: Any) -> str:
        """Ask for an operation; returns the request's id."""
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
            explanation = _explain_death(self.TITLE, code, self._last_stderr_line())
            self._on_message({"type": "died", "explanation": explanation})
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        self._stderr.close()

    def _last_stderr_line(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(size - _STDERR_TAIL, 0))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return one_line(lines[-1], 160) if lines else ""


def _parse(line: bytes) -> Message | None:
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return None
    return {key: sanitise(value) if isinstance(value, str) else value for key, value in message.items()}


def _explain_death(title: str, code: int, last_line: str) -> str:
    if code == -signal.SIGKILL:
        return f"The {title} was killed, by the kernel for lack of memory or by somebody."
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"The {title} {how}{': ' + last_line if last_line else ', without a word'}"
