"""What past runs cost a keystroke in Plan: `python tests/bench/bench_history.py [RUNS]` (10,000 by default)."""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(runs: int) -> None:
    """A home of so many ended runs; the first plan, and those after it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WORKBENCH_HOME"] = folder
        from tests.tui.synthetic import H200, HOST
        from tests.unit.test_calibration import RECIPE, write_run
        from workbench.engine.planning import make_plan
        from workbench.engine.runs.history import read_history

        for number in range(runs):
            write_run(Path(folder), number)
        began = time.perf_counter()
        found = len(read_history())
        print(f"{runs:,} runs: {found} read in {(time.perf_counter() - began) * 1e3:.0f} ms, once")
        for name, work in (("history", read_history), ("whole plan", lambda: make_plan(RECIPE, None, [H200], HOST))):
            work()
            times = []
            for _ in range(200):
                began = time.perf_counter()
                work()
                times.append(time.perf_counter() - began)
            print(f"{name} at a keystroke: median {median(times) * 1e3:.3f} ms, slowest {max(times) * 1e3:.3f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
