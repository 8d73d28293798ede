"""The soak of tests/faults/kill_soak.py, a short one: some deaths at random moments, none of which changes a figure."""

from pathlib import Path

import pytest

from tests.faults.kill_soak import soak

pytestmark = pytest.mark.slow


def test_runs_say_the_same_whoever_was_killed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    lines: list[str] = []
    kills = soak(worker_kills=3, supervisor_kills=1, seed=7, say=lines.append)
    assert [kill.who for kill in kills] == ["worker"] * 3 + ["supervisor"]
    assert all(kill.identical for kill in kills), "\n".join(lines)
