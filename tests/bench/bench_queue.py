"""What supervisors that queue cost: memory and processor time. `python -m tests.bench.bench_queue [RUNS]`."""

import os
import sys
import tempfile
import time

import psutil

_SECONDS = 20.0


def main(runs: int) -> None:
    """Runs that wait behind one that is held, in a home of their own."""
    os.environ["WORKBENCH_HOME"] = tempfile.mkdtemp()
    from workbench.engine.runs.directory import create_run_directory
    from workbench.engine.runs.queue_file import hold_in_queue, join_queue
    from workbench.engine.runs.queue_rows import queue_rows

    waiting = [create_run_directory(f"waits-{number}") for number in range(runs)]
    for run in waiting:
        join_queue(run)
        hold_in_queue(run, True)
    processes = [psutil.Popen([sys.executable, "-m", "workbench.engine.runs.supervisor", run.id, "--queue"])
                 for run in waiting]
    try:
        while len([row for row in queue_rows() if row.state == "waiting"]) < runs:
            time.sleep(0.2)
        before = [sum(process.cpu_times()[:2]) for process in processes]
        time.sleep(_SECONDS)
        shares = [(sum(process.cpu_times()[:2]) - spent) / _SECONDS for process, spent in
                  zip(processes, before, strict=True)]
        resident = [process.memory_info().rss for process in processes]
        unique = [process.memory_full_info().uss for process in processes]
        print(f"{runs} waiting: {max(shares):.2%} of a core at most, {sum(shares):.2%} together; "
              f"{max(resident) / 2**20:.1f} MiB resident, {max(unique) / 2**20:.1f} MiB of their own")
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
