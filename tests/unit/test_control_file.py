"""The control file between who orders and who obeys."""

import os
from pathlib import Path

import pytest

from workbench.engine.runs import control
from workbench.engine.runs.control import ControlReader, send_command
from workbench.engine.runs.directory import create_run_directory


def test_an_order_that_meets_the_setting_aside_is_given_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run_directory("orders")
    monkeypatch.setattr(control, "lock_holder", lambda _: 1)
    reader = ControlReader(run)
    write, moved = os.write, []

    def write_late(descriptor: int, data: bytes) -> int:
        if not moved:
            moved.append(os.rename(run.control, run.path / "control-1.jsonl"))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", write_late)
    sent = send_command(run, "stop")
    assert moved
    assert reader.read() == [sent]
