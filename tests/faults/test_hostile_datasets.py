"""Data as people have it, through the real command line: accepted, or refused with line and reason."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCommand
from tests.hostile import control_bytes
from workbench import cli
from workbench.engine import inspection
from workbench.engine.runs.store import list_runs

pytestmark = pytest.mark.slow


def row(question: str = "What is LoRA?", answer: str = "Two small matrices.") -> str:
    return json.dumps({"prompt": question, "completion": answer}, ensure_ascii=False)


GOOD = [row(f"What is {number}?") for number in range(9)]
LINES = "\n".join(GOOD) + "\n"
# (content, what is said of it; None where nothing is wrong with it)
CASES: dict[str, tuple[bytes, str | None]] = {
    "byte order mark": (b"\xef\xbb\xbf" + LINES.encode(), None),
    "carriage returns": (LINES.replace("\n", "\r\n").encode(), None),
    "no last newline": (LINES.rstrip().encode(), None),
    "empty lines between": (LINES.replace("\n", "\n\n").encode(), None),
    "NUL bytes": (LINES.encode() + b"\0\0\0\n", "data.jsonl:10"),
    "NUL in a text": (LINES.encode() + row("a\0b").encode() + b"\n", "data.jsonl:10"),
    "ANSI escapes": (LINES.encode() + json.dumps({"prompt": "\x1b[31mred", "completion": "\x1b]52;c;aGk=\x07"}).encode()
                     + b"\n", "data.jsonl:10"),
    "lone surrogate": (LINES.encode() + b'{"prompt": "\\ud800", "completion": "b"}\n', "data.jsonl:10"),
    "bad JSON on line 7": ("\n".join([*GOOD[:6], '{"prompt": "a", ', *GOOD[6:]]).encode(), "data.jsonl:7"),
    "not UTF-8": ("\n".join(GOOD).encode() + '\n{"prompt": "Größe", "completion": "b"}\n'.encode("latin-1"),
                  "data.jsonl:10"),
    "UTF-16": (LINES.encode("utf-16"), "UTF-8"),
    "changing types": (LINES.encode() + b'{"prompt": 3, "completion": ["x"]}\n', "data.jsonl:10"),
    "missing column": (LINES.encode() + b'{"prompt": "a"}\n', "data.jsonl:10"),
    "a row of 20 MB": (LINES.encode() + json.dumps({"prompt": "a", "completion": "b", "notes": "long " * 4_000_000}
                                                   ).encode() + b"\n", "rows       10"),
    "1 MB to be learned": (LINES.encode() + row("long " * 200_000).encode() + b"\n", "data.jsonl:10"),
    "empty file": (b"", "is empty|no rows|holds no"),
    "only blank lines": (b"\n\n\n", "is empty|no rows|holds no"),
    "an array on a line": (LINES.encode() + b"[1, 2]\n", "data.jsonl:10"),
    "deep nesting": (LINES.encode() + b"[" * 100_000 + b"\n", "data.jsonl:10"),
}


@pytest.fixture(scope="module")
def inspector() -> Iterator[inspection.Inspector]:
    """One data worker for all of them: it takes seconds to start."""
    made = inspection.Inspector()
    yield made
    made.close()


@pytest.mark.parametrize("name", CASES)
def test_data_is_accepted_or_refused_with_line_and_reason(
        name: str, inspector: inspection.Inspector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    content, said = CASES[name]
    (tmp_path / "data.jsonl").write_bytes(content)
    monkeypatch.setattr(inspection, "Inspector", lambda: inspector)
    monkeypatch.setattr(inspector, "close", lambda: None)
    monkeypatch.setattr(sys, "argv", ["workbench", "data", str(tmp_path / "data.jsonl")])
    with pytest.raises(SystemExit) as left:
        cli.main()
    told = "".join(capsys.readouterr())
    assert "Traceback" not in told
    assert control_bytes(told) == []
    assert len(told) < 100_000, "a long row is not told at its length"
    if said is None:
        assert left.value.code == 0, told
        assert "rows       9" in told
    else:
        assert any(word in told for word in said.split("|")), told


@pytest.mark.parametrize("name", ["bad JSON on line 7", "byte order mark"])
def test_a_run_on_such_data_starts_or_says_why_not(name: str, workbench: RunCommand, tmp_path: Path) -> None:
    content, said = CASES[name]
    (tmp_path / "data.jsonl").write_bytes(content)
    settings: dict[str, Any] = {"max_steps": 1, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1}
    (tmp_path / "r.yaml").write_text(json.dumps({"model": "tiny-base", "dataset": "data.jsonl", "training": settings}))
    result = workbench("train", str(tmp_path / "r.yaml"))
    told = result.stdout + result.stderr
    assert "Traceback" not in told
    if said is None:
        assert result.returncode == 0, told
        return
    assert result.returncode in (1, 2)
    assert any(word in told for word in said.split("|")), told
    # Refused before it starts, or ended for that reason: never trained on the rest in silence.
    assert all(run.state == "failed" and run.step == 0 for run in list_runs())
