"""The estimate against what others measured on real GPUs (tests/data/measured_peaks.csv)."""

from statistics import median

import pytest

from tests.measured import GIB, MeasuredRow, measured_rows

ROWS = measured_rows()


def group(*names: str) -> list[MeasuredRow]:
    return [row for row in ROWS if row.group in names]


def test_every_row_is_estimated() -> None:
    assert {name: len(group(name)) for name in ("stock", "fused loss", "static", "other")} == {
        "stock": 8, "fused loss": 9, "static": 28, "other": 16,
    }


def test_peaks_of_stock_and_fused_loss_runs() -> None:
    errors = [row.error for row in group("stock", "fused loss")]
    assert median(map(abs, errors)) <= 0.025
    assert min(errors) >= -0.05
    assert max(map(abs, errors)) <= 0.01


def test_what_stays_allocated_between_steps() -> None:
    assert max(abs(row.error) for row in group("static")) <= 0.01


def test_other_kernels_than_the_workbenchs_own() -> None:
    foak = [row for row in group("other") if "foak" in row.method]
    assert len(foak) == 11
    assert max(abs(row.error) for row in foak) <= 0.01
    litgpt = [row for row in group("other") if row.case.kernels == "litgpt"]
    assert len(litgpt) == 5
    assert max(abs(row.error) for row in litgpt) <= 0.03


@pytest.mark.parametrize("row", group("stock", "fused loss"), ids=lambda row: f"{row.model}-{row.method}")
def test_the_band_holds_what_was_measured(row: MeasuredRow) -> None:
    assert row.estimate.low_bytes < row.measured_gib * GIB < row.estimate.high_bytes
