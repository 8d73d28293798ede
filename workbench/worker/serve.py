"""The warm worker behind Chat and Data: JSON lines on stdin and stdout, one job at a time, cancelled in between.

Requests: {id, op: load, target} · {id, op: chat, messages, side, max_new_tokens, temperature, top_p, seed} ·
{op: cancel, request} · {op: quit}. Answers: {id, type: progress, text} · {id, type: loaded, sides, titles, device} ·
{id, type: token, text} · {id, type: done, text, tokens, time_to_first_token, tokens_per_second, finish} ·
{id, type: error, message, hint, input}. What looks at data: inspection_jobs.py.
"""

import os
import queue
import sys
import threading
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from workbench.engine.chat_target import ChatTarget
from workbench.engine.errors import InputError, WorkbenchError
from workbench.engine.text import one_line
from workbench.worker.inspection_jobs import InspectionJobs

if TYPE_CHECKING:
    from workbench.worker.chat import ChatModel

Request = dict[str, Any]


def main() -> int:
    """Serve until stdin ends or says quit; then leave at once, whatever is being computed."""
    # Libraries print to stdout; what they say must not mix with the protocol.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    server = Server(answers)
    threading.Thread(target=server.work, name="jobs", daemon=True).start()
    server.read(sys.stdin.buffer)
    sys.stderr.flush()
    os._exit(0)


class Server:
    """Reads requests in one thread and does them in another, so that a cancel is heard while a model speaks."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers = answers
        self._jobs: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._chat: ChatModel | None = None
        self._inspection = InspectionJobs(self._answer, self._cancelled.__contains__)

    def read(self, requests: BinaryIO) -> None:
        """Take requests until they end."""
        for line in requests:
            request = _parse(line)
            if request is None:
                self._answer(None, "error", message="A request was not a JSON object with an id.", hint=None)
            elif request["op"] == "quit":
                return
            elif request["op"] == "cancel":
                self._cancelled.add(str(request.get("request")))
            else:
                self._jobs.put(request)

    def work(self) -> None:
        """Do one job after another."""
        jobs = {"load": self._load, "chat": self._reply, "inspect": self._inspection.inspect,
                "render": self._inspection.render}
        while True:
            request = self._jobs.get()
            try:
                job = jobs.get(request["op"])
                if job is None:
                    raise InputError(f"There is no operation {request['op']!r}.")
                job(request)
            except Exception as error:  # a job that fails must not take the worker along
                traceback.print_exc()
                message, hint = _explain(error)
                self._answer(request["id"], "error", message=message, hint=hint, input=isinstance(error, InputError))
            self._cancelled.discard(request["id"])

    def _load(self, request: Request) -> None:
        def progress(text: str) -> None:
            self._answer(request["id"], "progress", text=text)

        if self._chat is not None:
            self._chat.close()
            self._chat = None
        progress("loading libraries")
        from workbench.worker.chat import ChatModel

        self._chat = chat = ChatModel(ChatTarget.from_json(request["target"]), progress)
        self._answer(request["id"], "loaded", sides=list(chat.titles), titles=chat.titles, device=chat.device)

    def _reply(self, request: Request) -> None:
        if self._chat is None:
            raise InputError("No model is loaded.")
        reply = self._chat.reply(
            request["messages"], request["side"], max_new_tokens=request["max_new_tokens"],
            temperature=request["temperature"], top_p=request.get("top_p"), seed=request["seed"],
            on_text=lambda text: self._answer(request["id"], "token", text=text),
            cancelled=lambda: request["id"] in self._cancelled)
        self._answer(request["id"], "done", **asdict(reply))

    def _answer(self, request: str | None, kind: str, **fields: Any) -> None:
        line = orjson.dumps({"id": request, "type": kind, **fields}, option=orjson.OPT_APPEND_NEWLINE)
        try:
            self._answers.write(line)
        except BrokenPipeError:
            os._exit(0)  # nobody listens any more


def _parse(line: bytes) -> Request | None:
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    valid = isinstance(request, dict) and isinstance(request.get("op"), str)
    return request if valid and (isinstance(request.get("id"), str) or request["op"] == "quit") else None


def _explain(error: Exception) -> tuple[str, str | None]:
    if isinstance(error, WorkbenchError):
        return error.message, error.hint
    kind, text = type(error).__name__, one_line(str(error), 300)
    if kind == "OutOfMemoryError" or "out of memory" in text.lower() or isinstance(error, MemoryError):
        return f"There is not enough memory: {text}", "Stop a run that uses the GPU, or choose a smaller model."
    if kind == "SafetensorError":
        return f"The weights are damaged: {text}", "Download or save the model again."
    if isinstance(error, OSError):
        return text, "Check the model id, the network, and `hf auth login` for gated models."
    return f"{kind}: {text}", None
