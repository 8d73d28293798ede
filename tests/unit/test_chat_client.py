"""The client passes on what its worker says, and says so when the worker dies."""

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from workbench.engine.chat_client import SERVE, ChatClient, GenerationSettings, Message
from workbench.engine.chat_target import resolve_chat_target

Start = Callable[[str], tuple[ChatClient, "queue.Queue[Message]"]]


@pytest.fixture
def start() -> Iterator[Start]:
    """A client of a worker that is the given Python program."""
    clients = []

    def start(program: str) -> tuple[ChatClient, "queue.Queue[Message]"]:
        answers: queue.Queue[Message] = queue.Queue()
        clients.append(ChatClient(answers.put, (sys.executable, "-c", program)))
        return clients[-1], answers

    yield start
    for client in clients:
        client.close()


def test_requests_go_out_and_answers_come_back(start: Start) -> None:
    client, answers = start("import json, sys\n"
                            "for line in sys.stdin:\n"
                            "    r = json.loads(line)\n"
                            "    print(json.dumps({'id': r['id'], 'type': 'seen', 'request': r}), flush=True)\n")
    target = resolve_chat_target("tiny-base")
    assert client.load(target) == "1"
    assert answers.get(timeout=20)["request"] == {"id": "1", "op": "load", "target": target.to_json()}
    assert client.chat([{"role": "user", "content": "hi"}], "base", GenerationSettings(seed=3)) == "2"
    assert answers.get(timeout=20)["request"] == {
        "id": "2", "op": "chat", "messages": [{"role": "user", "content": "hi"}], "side": "base", "temperature": 0.0,
        "max_new_tokens": 256, "seed": 3, "top_p": None}
    client.cancel("2")
    assert answers.get(timeout=20)["request"]["request"] == "2"


def test_what_is_no_message_is_skipped_and_texts_are_sanitised(start: Start) -> None:
    _, answers = start("import sys\nprint('noise')\nprint('[1]')\nprint('{}')\n"
                       "print('{\"type\": \"token\", \"text\": \"a\\\\u001b[31mb\"}', flush=True)\nsys.stdin.read()")
    assert answers.get(timeout=20) == {"type": "token", "text": "a\\x1b[31mb"}


def test_a_death_is_explained_by_the_last_line_of_stderr(start: Start) -> None:
    _, answers = start("import sys\nprint('one\\n\\x1b[1mbroken', file=sys.stderr)\nsys.exit(3)")
    died = answers.get(timeout=20)
    assert died == {"type": "died", "explanation": "The chat worker ended with exit code 3: \\x1b[1mbroken"}


def test_a_kill_is_named(start: Start) -> None:
    client, answers = start("import sys\nsys.stdin.read()")
    os.kill(client.pid, signal.SIGKILL)
    assert "killed" in answers.get(timeout=20)["explanation"]
    client.cancel("1")  # to a dead worker: no exception


def test_close_ends_the_worker_without_a_word(start: Start) -> None:
    client, answers = start("import time\ntime.sleep(600)")
    client.close()
    client._reader.join(20)
    assert client._process.returncode == -signal.SIGKILL
    assert answers.empty()


def test_the_worker_leaves_when_its_stdin_ends() -> None:
    done = subprocess.run(SERVE, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"")


def test_the_worker_answers_nonsense_with_an_error() -> None:
    done = subprocess.run(SERVE, input=b'nonsense\n{"op": "quit"}\n', capture_output=True, timeout=60)
    assert b'"type":"error"' in done.stdout
    assert done.stdout.count(b"\n") == 1
