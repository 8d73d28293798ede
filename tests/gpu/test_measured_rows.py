"""The estimate against every row that was ever measured on a GPU and committed: no GPU is needed for this."""

import json
from pathlib import Path
from statistics import median

import pytest

from tests.gpu.measure import HERE, off_by
from tests.gpu.training import estimated

FILES = sorted(HERE.glob("measured_*.json"))


@pytest.mark.skipif(not FILES, reason="no GPU was measured yet: python -m tests.gpu.measure, and commit its rows")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_estimate_meets_the_measured_rows(path: Path) -> None:
    document = json.loads(path.read_text())
    assert document["device"] == "cuda"
    rows = [{**row, "estimated": estimated(row)} for row in document["rows"] if row["error"] is None]
    assert [row["id"] for row in rows if row["estimated"] is None] == []
    errors = off_by(rows, "estimated")
    assert len(errors) == len(rows) > 0
    assert median(abs(error) for error in errors) <= 0.03
    assert min(errors) >= -0.05
