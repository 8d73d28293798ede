"""A journal that was cut, damaged, repeated, put back or written to a full disk: what is left is shown, and goes on."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.journal import Event, Journal, JournalReader, read_tail
from workbench.engine.runs.state import RunState
from workbench.engine.runs.store import RunFollower

OURS = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PARTS: list[tuple[str, dict[str, Any]]] = [
    ("queued", {}), ("started", {"pid": 1}),
    ("loaded", {"parameters": 9, "trainable_parameters": 3, "total_steps": 6, "device": "cpu"}),
    *(("step", {"step": n, "total_steps": 6, "metrics": {"train/loss": 3.0 / n, "train/grad_norm": 1.0}})
      for n in (1, 2, 3)),
    ("checkpoint", {"step": 2, "path": "checkpoints/step-00000002", "verified": True, "removed": []}),
    ("resumed", {"step": 2}), ("started", {"pid": 2}),
    *(("step", {"step": n, "total_steps": 6, "metrics": {"train/loss": "nan" if n == 4 else 1.0 / n}})
      for n in (3, 4, 5)),
    ("alert", {"level": "warning", "message": "Größe \\ [b]"}), ("ended", {"outcome": "stopped"}),
]
EVENTS: list[Event] = [{"v": 1, "seq": n, "time": 1.8e9 + n, "elapsed": n / 2, "type": kind, **fields}
                       for n, (kind, fields) in enumerate(PARTS)]
LINES = [orjson.dumps(event) + b"\n" for event in EVENTS]


def folded(events: list[Event]) -> str:
    state = RunState()
    for event in events:
        state.apply(event)
    return shown(state)


def shown(state: RunState) -> str:
    """All that a state says, but for what it counted."""
    series = {name: (list(s.steps), list(s.values), list(s.elapsed)) for name, s in sorted(state.metrics.items())}
    counted = ("metrics", "repeated", "unknown", "_seq")
    return repr((series, {name: value for name, value in vars(state).items() if name not in counted}))


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "20260101-100000-cut-c0de")
    directory.path.mkdir()
    return directory


def followed(run: RunDirectory) -> RunFollower:
    follower = RunFollower(run)
    follower.refresh()
    return follower


def test_a_journal_is_cut_at_every_byte_and_goes_on(run: RunDirectory) -> None:
    data = b"".join(LINES)
    for cut in range(len(data) + 1):
        run.events.write_bytes(data[:cut])
        whole = data[:cut].count(b"\n")
        follower = followed(run)
        assert shown(follower.state) == folded(EVENTS[:whole])
        assert follower.corrupt == 0, "half a line at the end is waited for"
        with Journal(run.events) as journal:
            journal.append("alert", level="info", message="on again")
        follower.refresh()
        assert follower.state.alerts[-1].message == "on again"
        events = list(JournalReader(run.events).read())
        numbers, times = [event["seq"] for event in events], [event["elapsed"] for event in events]
        # Cut right before its newline, the last line was whole and comes back.
        assert numbers == list(range(len(numbers)))
        assert times == sorted(times)
        assert len(events) - 1 in (whole, whole + 1)


@given(noise=st.lists(st.tuples(st.integers(0, len(LINES)), st.one_of(
    st.binary(max_size=80).filter(lambda b: b"\n" not in b and b.strip() and not b.startswith(b"{")),
    st.sampled_from([b"{", b"null", b"[1]", b"\x00" * 9, b'{"type":"step"', b"\xef\xbb\xbf", b"\xff\xfe{}\x00"]))),
    max_size=12))
@OURS
def test_garbage_between_lines_is_skipped_and_counted(noise: list[tuple[int, bytes]], run: RunDirectory) -> None:
    lines = list(LINES)
    for place, junk in sorted(noise, key=lambda item: -item[0]):
        lines.insert(place, junk + b"\n")
    run.events.write_bytes(b"".join(lines))
    follower = followed(run)
    assert shown(follower.state) == folded(EVENTS)
    assert follower.corrupt == len(noise)


@given(copies=st.lists(st.tuples(st.integers(0, len(LINES) - 1), st.integers(0, len(LINES))), max_size=8))
@OURS
def test_a_line_that_stands_there_again_changes_nothing(copies: list[tuple[int, int]], run: RunDirectory) -> None:
    lines = list(LINES)
    for source, after in sorted(copies, key=lambda item: -max(item)):
        lines.insert(max(source, after) + 1, LINES[source])
    run.events.write_bytes(b"".join(lines))
    follower = followed(run)
    assert shown(follower.state) == folded(EVENTS)
    assert follower.corrupt == follower.state.repeated == len(copies)


@given(late=st.sets(st.integers(0, len(LINES) - 2), max_size=5))
@OURS
def test_lines_out_of_order_are_left_out(late: set[int], run: RunDirectory) -> None:
    """Each of them stands behind the line that follows it: told by number and time, it is no news."""
    rest = [number for number in range(len(LINES)) if number not in late]
    order = [*rest, *sorted(late)]
    run.events.write_bytes(b"".join(LINES[number] for number in order))
    follower = followed(run)
    assert shown(follower.state) == folded([EVENTS[number] for number in rest])
    assert follower.state.repeated == len(late)


WORDS = st.text(max_size=8)
VALUES = st.recursive(st.none() | st.booleans() | st.integers(-2**53, 2**63) | st.floats() | WORDS,
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
                      max_leaves=5)
FIELDS = ["type", "seq", "elapsed", "time", "step", "metrics", "outcome", "path", "removed", "level", "message", "v",
          "epoch", "total_steps", "evidence", "changes", "parameters", "reason", "id", "result"]


@given(change=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4), place=st.integers(0, len(LINES) - 1),
       kind=st.sampled_from([*sorted({kind for kind, _ in PARTS}), "probed", "paused", "restarted", "from-tomorrow"]))
@settings(OURS, max_examples=300)
def test_lines_of_another_version_never_trip_a_reader(change: dict[str, Any], place: int, kind: str,
                                                      run: RunDirectory) -> None:
    if "elapsed" in change:
        change.pop("seq", None)
    before = {"seq": place - 1, "elapsed": place / 2 - 0.25}
    strange = orjson.dumps({**EVENTS[place], **before, "v": 2, "type": kind, **change}) + b"\n"
    run.events.write_bytes(b"".join([*LINES[:place], strange, *LINES[place:]]))
    follower = followed(run)
    assert follower.state.journal_state == "stopped", "the lines after it count"
    with Journal(run.events) as journal:
        journal.append("started")
    assert followed(run).state.journal_state == "running"


def test_another_file_in_its_place_is_read_from_its_start(run: RunDirectory, tmp_path: Path) -> None:
    run.events.write_bytes(b"".join(LINES))
    run.samples.write_bytes(b'{"step":1,"prompt":"a","text":"b"}\n')
    follower = followed(run)
    other = tmp_path / "copy"
    other.write_bytes(b"".join(LINES[:5]))
    other.replace(run.events)
    assert follower.refresh()
    assert shown(follower.state) == folded(EVENTS[:5])
    assert len(follower.samples) == 1
    run.events.write_bytes(b"".join(LINES[:4]))
    assert follower.refresh()
    assert shown(follower.state) == folded(EVENTS[:4])
    with run.events.open("ab") as file:
        file.write(b"".join(LINES[4:]))
    follower.refresh()
    assert shown(follower.state) == folded(EVENTS)
    run.events.write_bytes(b"")
    run.samples.write_bytes(b"")
    assert follower.refresh()
    assert (shown(follower.state), follower.samples) == (folded([]), [])
    assert not follower.refresh()


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """Files can grow to `size` bytes and no further: the write that crosses it is cut short, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", range(0, 120, 7))
def test_what_fits_only_in_part_spoils_no_other_line(room: int, run: RunDirectory) -> None:
    with Journal(run.events) as journal:
        journal.append("started")
        with full_at(run.events.stat().st_size + room):
            for _ in range(3):
                with suppress(OSError):
                    journal.append("alert", level="info", message="lost")
        journal.append("ended", outcome="failed", cause="disk")
    follower = followed(run)
    assert follower.state.cause == "disk"
    assert len(follower.state.alerts) < 3
    assert follower.corrupt <= 3 - len(follower.state.alerts)
    assert follower.state.repeated == 0


def test_a_long_last_line_hides_neither_the_end_nor_the_number(run: RunDirectory) -> None:
    with Journal(run.events) as journal:
        journal.append("started")
        journal.append("ended", outcome="failed", explanation="x" * 200_000)
    assert read_tail(run.events)[-1]["type"] == "ended"
    with run.events.open("ab") as file:
        file.write(b"\x00" * 100_000 + b"\n")
    with Journal(run.events) as journal:
        journal.append("resumed", step=0)
    assert read_tail(run.events)[-1]["seq"] == 2
