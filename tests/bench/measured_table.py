"""Prints every measured row beside its estimate: python tests/bench/measured_table.py."""

import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.measured import MeasuredRow, measured_rows
from workbench.console import table


def main() -> None:
    """Row by row, then median and worst by group."""
    rows = measured_rows()
    print(table(("MODEL", "METHOD", "QUANT", "KERNELS", "LOSS", "BATCH", "LENGTH", "FIGURE", "MEASURED", "ESTIMATE",
                 "ERROR %", "MOMENT"), [_cells(row) for row in rows], right=(5, 6, 8, 9, 10)))
    print()
    for group in ("stock", "fused loss", "static", "other"):
        errors = [100 * row.error for row in rows if row.group == group]
        print(f"{group:<11} {len(errors):>2} rows: median |error| {median(map(abs, errors)):.2f} %, "
              f"worst {max(errors, key=abs):+.2f} %, lowest {min(errors):+.2f} %")


def _cells(row: MeasuredRow) -> tuple[str, ...]:
    case = row.case
    return (row.model.rpartition("/")[2], row.method, row.quant, case.kernels, case.loss_kernel,
            str(case.per_device_train_batch_size), str(case.max_length), "static" if row.group == "static" else "peak",
            f"{row.measured_gib:.3f}", f"{row.estimate_gib:.3f}", f"{100 * row.error:+.2f}",
            row.estimate.peak_moment.removeprefix("the "))


if __name__ == "__main__":
    main()
