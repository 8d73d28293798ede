"""The training job: from a run directory to a trained model, every ending explained."""

import logging
import signal
import sys
import traceback
from contextlib import suppress

from workbench.engine.runs.directory import RunDirectory, find_run
from workbench.engine.runs.inquest import ending_of_exception
from workbench.engine.runs.liveness import acquire_lock
from workbench.engine.runs.postmortem import EXIT_UNWRITABLE, STOPPED, Ending
from workbench.worker.beat import beating
from workbench.worker.reporter import Reporter
from workbench.worker.stopping import Beginning, PauseRequestedError, StopRequestedError, stop_while_loading

HAS_A_WORKER = 3


def main(run_id: str, checkpoint: str | None = None) -> int:
    """Train a run, from one of its checkpoints on where one is given, by its path in the run's directory.

    0 when it finished, was stopped or paused, 1 when it failed; its journal says which and why. 3 when the run has a
    worker: two would write into one journal.
    """
    run = find_run(run_id)
    lock = acquire_lock(run.worker_lock)
    if lock is None:
        print(f"{run.id} already has a worker", file=sys.stderr)
        return HAS_A_WORKER
    with beating(run.beat):
        return _work(run, checkpoint)


def _work(run: RunDirectory, checkpoint: str | None) -> int:
    reporter = Reporter(run)
    reporter.started()
    signal.signal(signal.SIGTERM, stop_while_loading)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    beginning = Beginning.of(run, checkpoint)
    ending: Ending | None
    try:
        reporter.phase("loading libraries")
        # Here, not above: these take seconds, and the run is on screen meanwhile.
        from workbench.worker.training import train

        ending = train(run, beginning, reporter)
    except StopRequestedError:
        ending = STOPPED
    except PauseRequestedError:
        reporter.paused(beginning.step, checkpoint)
        ending = None
    except Exception as error:  # the journal must say how every run ended
        with suppress(OSError):  # the log is on the disk that may be full
            traceback.print_exc()
        ending = ending_of_exception(run, error)
    if ending is None:
        return 0
    try:
        reporter.ended(ending)
    except OSError:
        return EXIT_UNWRITABLE  # the supervisor has a reserve, and says it
    return 1 if ending.outcome == "failed" else 0
