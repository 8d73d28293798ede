"""The journal: one writer, readers that never trip."""

import math
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.engine.runs.journal import (
    Journal,
    JournalReader,
    decode_number,
    encode_number,
    find_ending,
    find_rest,
    read_tail,
)


def test_events_are_numbered_across_writers(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for word in ("one", "two"):
        with Journal(path) as journal:
            journal.append("phase", phase=word)
            journal.append("phase", phase=word)
    assert [event["seq"] for event in JournalReader(path).read()] == [0, 1, 2, 3]
    assert path.stat().st_mode & 0o777 == 0o600


@given(cut=st.integers(min_value=0, max_value=400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_journal_cut_anywhere_loses_at_most_the_last_line(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("journal") / "events.jsonl"
    with Journal(path) as journal:
        for step in range(5):
            journal.append("step", step=step, metrics={"train/loss": 1.0})
    data = path.read_bytes()
    cut = min(cut, len(data))
    path.write_bytes(data[:cut])
    complete = data[:cut].count(b"\n")
    reader = JournalReader(path)
    assert [event["step"] for event in reader.read()] == list(range(complete))
    with Journal(path) as journal:
        journal.append("ended", outcome="failed")
    assert [event["type"] for event in reader.read()][-1] == "ended"
    # Cut right before its newline, the last line is whole and comes back once it is sealed.
    half = data[:cut].rpartition(b"\n")[2]
    assert reader.corrupt == (1 if half and not half.endswith(b"}}") else 0)


def test_a_partial_line_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"type":"a"}\n{"type":')
    reader = JournalReader(path)
    assert [event["type"] for event in reader.read()] == ["a"]
    with path.open("ab") as file:
        file.write(b'"b"}\n')
    assert [event["type"] for event in reader.read()] == ["b"]
    assert reader.corrupt == 0


@pytest.mark.parametrize("garbage", [b"not json", b"\xff\xfe\x00", b"[1,2]", b"null", b'{"a":'])
def test_damaged_lines_are_skipped_and_counted(garbage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"type":"a"}\n' + garbage + b'\n{"type":"b"}\n')
    reader = JournalReader(path)
    assert [event["type"] for event in reader.read()] == ["a", "b"]
    assert reader.corrupt == 1


def test_an_endless_line_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x" * (40 << 20) + b'\n{"type":"b"}\n')
    reader = JournalReader(path)
    assert [event["type"] for event in reader.read()] == ["b"]
    assert reader.corrupt >= 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, 1.5])
def test_every_number_survives(value: float, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Journal(path) as journal:
        journal.append("step", metrics={"train/loss": value})
    raw = orjson.loads(path.read_bytes())["metrics"]["train/loss"]
    assert raw is not None
    decoded = decode_number(raw)
    assert decoded is not None
    assert decoded == value or (math.isnan(decoded) and math.isnan(value))
    assert encode_number(decoded) == raw


def test_control_characters_never_reach_the_file_raw(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Journal(path) as journal:
        journal.append("alert", message="\x1b]52;c;aGk=\x07 and \x9b31m")
    (event,) = JournalReader(path).read()
    assert "\x1b" not in event["message"]
    assert "\x9b" not in event["message"]
    assert "\\x1b]52" in event["message"]


def test_tail_is_bounded_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Journal(path) as journal:
        for step in range(2000):
            journal.append("step", step=step, metrics={})
    tail = read_tail(path, size=5000)
    assert tail[-1]["step"] == 1999
    assert len(tail) < 100
    assert [event["step"] for event in tail] == list(range(tail[0]["step"], 2000))
    assert read_tail(tmp_path / "none") == []


def test_a_paused_run_rests_and_a_resumed_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Journal(path) as journal:
        journal.append("started")
        journal.append("paused", step=3)
        rest = find_rest(path)
        assert rest is not None
        assert (rest["type"], find_ending(path)) == ("paused", None)
        journal.append("resumed", step=3)
        assert find_rest(path) is None
        journal.append("ended", outcome="finished")
        assert find_ending(path) == find_rest(path)
        assert find_ending(path) is not None


def test_time_goes_on_where_the_writer_before_stopped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"v":1,"seq":0,"time":1.0,"elapsed":500.0,"type":"started"}\n')
    with Journal(path) as journal:
        journal.append("phase", phase="a")
    assert read_tail(path)[-1]["elapsed"] >= 500
