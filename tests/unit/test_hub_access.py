"""The Hub's answers, from a real server on this machine, one that hangs and a port where nobody is."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local_hub import LocalHub, local_hub
from workbench.engine.hub import HubAnswer, within

# One process for many questions: the library reads its settings when it is imported.
ASK = """\
import json, sys
from tests.local_hub import LocalHub, local_hub
from workbench.engine.hub import ask_hub
print(json.dumps([[(answer := ask_hub(name, kind, float(seconds))).status, answer.message, answer.fix]
                  for name, kind, seconds in json.loads(sys.argv[1])]))
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[LocalHub]]:
    with local_hub(tmp_path) as (endpoint, handler):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        yield handler


def ask(*questions: tuple[str, str, float]) -> list[Any]:
    result = subprocess.run([sys.executable, "-c", ASK, json.dumps(questions)], capture_output=True, text=True,
                            timeout=120, env={**os.environ, "HF_TOKEN": "hf_sentinel"})
    assert result.returncode == 0, result.stderr
    answers: list[Any] = json.loads(result.stdout)
    assert "hf_sentinel" not in result.stdout + result.stderr
    return answers


def test_every_answer_has_its_sentence(hub: type[LocalHub]) -> None:
    names = ["open", "gated", "forbidden", "unknown", "bare", "busy", "broken", "nothing"]
    answers = ask(*((f"owner/{name}", "model", 30) for name in names), ("owner/bare", "dataset", 30),
                  ("owner/gated", "dataset", 30))
    assert [status for status, _, _ in answers] == ["ok", "gated", "gated", "missing", "missing", "busy", "unreachable",
                                                    "missing", "ok", "gated"]
    assert all(f"owner/{name}" in message for name, (_, message, _) in zip(names, answers, strict=False))
    assert all(fix for status, _, fix in answers if status != "ok")
    assert "hf auth login" in answers[1][2]
    assert "/datasets/owner/gated" in answers[9][2]
    # One question each, nothing tried again, with the user's token.
    assert [path for _, path, _ in hub.asked[:2]] == ["/owner/open/resolve/main/config.json",
                                                      "/owner/gated/resolve/main/config.json"]
    assert len(hub.asked) == len(answers)
    assert {token for _, _, token in hub.asked} == {"Bearer hf_sentinel"}


def test_a_hub_that_hangs_is_given_up(hub: type[LocalHub]) -> None:
    [(status, message, fix)] = ask(("owner/hangs", "model", 1.5))
    assert status == "unreachable"
    assert "did not answer within 1.5 s" in message or "timed out" in message
    assert "HF_ENDPOINT" in fix
    assert [path for _, path, _ in hub.asked] == ["/owner/hangs/resolve/main/config.json"]


def test_a_port_where_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    [(status, message, _)] = ask(("owner/name", "model", 30))
    assert status == "unreachable"
    assert f"127.0.0.1:{port}" in message


def test_nobody_is_asked_offline(hub: type[LocalHub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    [(status, message, fix)] = ask(("owner/open", "dataset", 30))
    assert (status, hub.asked) == ("offline", [])
    assert "HF_HUB_OFFLINE is set" in message
    assert "hf download --repo-type dataset owner/open" in fix


def test_the_wait_is_bounded_whatever_hangs() -> None:
    never = threading.Event()

    def hang() -> HubAnswer:
        never.wait(600)
        return HubAnswer("ok", "late")

    assert within(0.05, hang) is None
    assert within(60, lambda: HubAnswer("ok", "soon")) == HubAnswer("ok", "soon")
    never.set()
