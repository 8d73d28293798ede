"""Forty runs for two GPUs while supervisors are killed, the order is changed, runs are held and the queue's file is
overwritten: `python -m tests.faults.queue_soak [SEED…]`. Exits 1 when two ran on one GPU at once, or one never ran."""

import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from tests.faults.test_queue_real import GIB, NVML, ROOT, Process, start
from workbench.engine.atomic import write_json
from workbench.engine.errors import RunError
from workbench.engine.runs.directory import RunDirectory, create_run_directory
from workbench.engine.runs.queue_file import damaged_files, hold_in_queue, join_queue, move_in_queue, queue_file
from workbench.engine.runs.queue_rows import queue_rows

RUNS = 40
AT_ONCE = 8
_SECONDS = 300.0


class Soak:
    """Runs of random needs and lengths, and what is done to them. Mutable."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.runs: list[RunDirectory] = []
        self.processes: list[Process] = []
        self.killed: set[int] = set()

    @property
    def living(self) -> list[int]:
        """Runs whose supervisor lives, by number."""
        return [number for number, process in enumerate(self.processes) if process.poll() is None]

    def go_on(self) -> bool:
        """Do one thing; whether there is more to do."""
        if len(self.runs) < RUNS and len(self.living) < AT_ONCE and self.random.random() < 0.7:
            self._add()
        elif self.living:
            with suppress(RunError):
                self._disturb(self.random.choice(self.living))
        return bool(self.living) or len(self.runs) < RUNS

    def _add(self) -> None:
        need, gpus = self.random.choice([(8, []), (20, ["0"]), (20, []), (60, []), (60, ["GPU-large"])])
        run = create_run_directory(f"run-{len(self.runs)}")
        write_json(run.plan, {"plan": {"tuning": "full", "gpus": [{}],
                                       "tunings": {"full": {"high_bytes": need * GIB}}},
                              "recipe": {"hardware": {"gpus": gpus}}})
        join_queue(run)
        self.runs.append(run)
        start(self.processes, run, self.random.choice([0.05, 0.3, 1.0]),
              self.random.choice(["finished", "finished", "failed"]))

    def _disturb(self, number: int) -> None:
        what = self.random.random()
        if what < 0.15:
            self.processes[number].send_signal(signal.SIGKILL)
            self.killed.add(number)
        elif what < 0.4:
            move_in_queue(self.runs[number], self.random.choice(["up", "down", "first", "last"]))
        elif what < 0.55 and len(self.runs) < RUNS:
            hold_in_queue(self.runs[number], True)
        elif what < 0.59:
            queue_file().write_bytes(b"\0damaged")
        else:
            for row in queue_rows():
                hold_in_queue(row.run, False)

    def ran(self) -> dict[str, list[tuple[float, float]]]:
        """By GPU, the times between which workers ran."""
        times: dict[str, list[tuple[float, float]]] = {}
        for run in self.runs:
            if (run.path / "ran").exists():
                began, ended, gpu = (run.path / "ran").read_text().split()
                times.setdefault(gpu, []).append((float(began), float(ended)))
        return times


def main(seed: int) -> bool:
    """One home, forty runs; whether all went well."""
    home = Path(tempfile.mkdtemp())
    (home / "nvml").mkdir()
    (home / "nvml" / "pynvml.py").write_text(NVML)
    os.environ.update(WORKBENCH_HOME=str(home), PYTHONPATH=f"{home / 'nvml'}{os.pathsep}{ROOT}",
                      CARDS=str(home / "cards.json"))
    write_json(home / "cards.json", [{"uuid": "GPU-small", "total": 24 * GIB, "free": 23 * GIB},
                                     {"uuid": "GPU-large", "total": 80 * GIB, "free": 79 * GIB}])
    soak, began = Soak(seed), time.monotonic()
    while soak.go_on() and time.monotonic() - began < _SECONDS:
        time.sleep(soak.random.random() * 0.25)
    time.sleep(2)  # workers that lost their supervisors
    times = soak.ran()
    overlaps = sum(one[1] > other[0] for gpu in times.values() for one, other in pairwise(sorted(gpu)))
    never = [number for number, run in enumerate(soak.runs) if not (run.path / "ran").exists()
             and number not in soak.killed]
    print(f"seed {seed}: {len(soak.runs)} runs in {time.monotonic() - began:.0f} s, "
          f"{', '.join(f'{len(ran)} on {gpu}' for gpu, ran in sorted(times.items()))}; {len(soak.killed)} supervisors "
          f"killed, {len(damaged_files())} damaged files; {overlaps} overlaps, {len(never)} that never ran", flush=True)
    for process in soak.processes:
        process.kill()
        process.wait()
    return not overlaps and not never


if __name__ == "__main__":
    results = [main(int(seed)) for seed in sys.argv[1:] or ["1"]]
    sys.exit(0 if all(results) else 1)
