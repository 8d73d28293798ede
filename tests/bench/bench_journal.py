"""What a long run costs its reader: `python tests/bench/bench_journal.py [MILLIONS]…` (1 by default); `--runs N`: what
a list of so many runs costs."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def measure(folder: Path, steps: int, size: int, damaged: int, last: int) -> tuple[float, float, float]:
    """(seconds to read it, peak RSS in MiB, milliseconds of a look at its end) of a journal; its state is checked."""
    import resource

    from tests.long_journal import Written, assert_folded
    from workbench.engine.runs.directory import RunDirectory
    from workbench.engine.runs.store import RunFollower, summarise

    run = RunDirectory(folder)
    began = time.perf_counter()
    follower = RunFollower(run)
    follower.refresh()
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    summarise(run)
    look = (time.perf_counter() - began) * 1e3
    assert_folded(follower, Written(size, damaged, last), steps)
    return seconds, peak / 1024, look


def main(millions: list[float]) -> None:
    """A table, of journals that are damaged, cut and twice resumed; `summary` is one look at the end."""
    from tests.long_journal import write_long_journal

    print(f"{'steps':>12} {'file':>9} {'read':>8} {'events/s':>10} {'peak RSS':>10} {'summary':>9}")
    for steps in (round(number * 1e6) for number in millions):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "20260101-100000-long-c0de"
            folder.mkdir()
            written = write_long_journal(folder / "events.jsonl", steps)
            # In a process of its own: what wrote the file is no part of what reading it takes.
            facts = map(str, (steps, written.size, written.damaged, written.last_step))
            output = subprocess.run([sys.executable, __file__, "--measure", str(folder), *facts], check=True,
                                    stdout=subprocess.PIPE, text=True).stdout
            seconds, peak, look = map(float, output.split())
            print(f"{steps:>12,} {written.size / 1e6:>6.0f} MB {seconds:>6.1f} s {steps / seconds:>10,.0f} "
                  f"{peak:>6.0f} MiB {look:>6.1f} ms", flush=True)


def list_many(runs: int) -> None:
    """Seconds to list so many runs, and what that adds to the peak memory."""
    import os
    import resource

    from tests.long_journal import write_many_runs
    from workbench.engine.runs.store import list_runs

    with tempfile.TemporaryDirectory() as folder:
        os.environ["WORKBENCH_HOME"] = folder
        write_many_runs(Path(folder), runs)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        found = len(list_runs())
        seconds = time.perf_counter() - began
        added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"{found:,} runs listed in {seconds:.1f} s, {added:.0f} MiB more at the peak")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(*measure(Path(sys.argv[2]), *map(int, sys.argv[3:])))
    elif sys.argv[1:2] == ["--runs"]:
        list_many(int(sys.argv[2]))
    else:
        main([float(argument) for argument in sys.argv[1:]] or [1.0])
