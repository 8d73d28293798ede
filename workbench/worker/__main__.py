"""The worker's entry: `python -m workbench.worker train RUN-ID [--from CHECKPOINT]`; `serve` and `rehearse` for the
screen."""

import faulthandler
import logging
import os
import sys
import warnings

from workbench.engine.streams import redact_streams


def main(arguments: list[str]) -> int:
    """Do one job; the exit code says how it went."""
    # A crash in native code leaves its Python frames in the log: all the evidence there is.
    faulthandler.enable()
    redact_streams()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # OpenMP's threads spin 300,000 rounds while they wait, taking the cores from whatever else runs: two processes then
    # slow each other twentyfold. A thousand rounds cost one alone nothing (the demo: 51 s, else 58 s).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # What the libraries will drop one day is ours to mend, and would fill the log that the user reads.
    warnings.simplefilter("ignore", FutureWarning)
    # bitsandbytes asks for a package that fetches compiled code from the Hub, at every import on a CPU.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    match arguments:
        case ["train", run_id, *checkpoint] if not checkpoint or (checkpoint[0] == "--from" and len(checkpoint) == 2):
            from workbench.worker.train import main as train

            return train(run_id, *checkpoint[1:])
        case ["serve"]:
            # Threads that spin while they wait would halve the speed of a run on the same CPU.
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            from workbench.worker.serve import main as serve

            return serve()
        case ["rehearse"]:
            from workbench.worker.rehearsal.job import main as rehearse

            return rehearse()
    print("usage: python -m workbench.worker train RUN-ID [--from checkpoints/step-…] | serve | rehearse",
          file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
