"""Measures this machine's GPU: peak memory of every objective and tuning against estimate and rehearsal, and speed.

    python -m tests.gpu.measure                    # on a CUDA machine: about 6 minutes on one H200, no network needed
    python -m tests.gpu.measure --device cpu       # the same code on the built-in model: resident memory, labelled so
    pytest tests/gpu                               # measures and asserts; skips without CUDA

Models have random weights of the catalogue's configurations (`cases.py`), so nothing is downloaded. Rows are written to
tests/gpu/measured_<gpu>_<date>.json as they come: commit that file, and the estimator is tested against it
(test_measured_rows.py). No new case begins once `--budget` seconds are spent; what was left out is said.
"""

import argparse
import importlib
import importlib.util
import logging
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print the table, write the rows; the document that was written."""
    options = _options(arguments)
    # Models are written to memory where there is such a file system: their files are read back at once.
    shared = "/dev/shm" if options.device == "cuda" and _has_room("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shared, prefix="workbench-gpu-") as folder:
        os.environ |= {"WORKBENCH_HOME": str(Path(folder) / "home"), "HF_HUB_OFFLINE": "1",
                       "TOKENIZERS_PARALLELISM": "false"}
        warnings.filterwarnings("ignore")
        logging.disable(logging.WARNING)
        try:
            return _measure(options, Path(folder))
        finally:
            logging.disable(logging.NOTSET)


def _has_room(folder: str) -> bool:
    """Whether the largest model that is measured can be written there; containers often have 64 MiB."""
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > 40 * 1024**3


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.measure")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", default="", help="only the cases whose id has this in it")
    parser.add_argument("--budget", type=float, default=450.0, help="seconds after which no new case begins")
    parser.add_argument("--no-rehearsal", action="store_true", help="leave the rehearsals out")
    parser.add_argument("--no-speed", action="store_true", help="leave the comparisons of speed out")
    parser.add_argument("--out", type=Path, help="where to write the rows; default: beside this file")
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import torch

    from tests.gpu.cases import cpu_cases, cuda_cases
    from tests.gpu.training import measure
    from workbench.engine.atomic import write_json
    from workbench.engine.runs.launcher import library_versions
    from workbench.worker.loading import device_name

    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("No CUDA device here. Dry run on the CPU: python -m tests.gpu.measure --device cpu")
    name, began = device_name(device), time.monotonic()
    out = options.out or HERE / f"measured_{re.sub('[^a-z0-9]+', '-', name.lower())}_{time.strftime('%Y%m%d')}.json"
    document: dict[str, Any] = {"device": device.type, "gpu": name, "date": time.strftime("%Y-%m-%d"),
                                "versions": library_versions(), "rows": [], "speed": [], "left_out": []}
    for case in (cuda_cases if device.type == "cuda" else cpu_cases)():
        if options.only not in case.id:
            continue
        if time.monotonic() - began > options.budget * 0.7:
            document["left_out"].append(case.id)
            continue
        started = time.monotonic()
        row = measure(case, folder, device)
        row["seconds"] = round(time.monotonic() - started, 1)
        document["rows"].append(row)
        print(line(row), flush=True)
        write_json(out, document, durable=False)
    if not options.no_speed:
        document["speed"] = _speed(folder, device)
    if not options.no_rehearsal:
        _rehearse(document["rows"], began + options.budget)
    write_json(out, document, durable=False)
    report(document, time.monotonic() - began, out)
    return document


def _speed(folder: Path, device: Any) -> list[dict[str, Any]]:
    from tests.gpu.cases import TINY, Case
    from tests.gpu.speed import chat_speed, training_speed

    if device.type == "cpu":
        tiny = Case(TINY, "lora", batch=2, length=48)
        jobs = [(training_speed, tiny, 20), (chat_speed, tiny, 24)]
    else:
        small = Case("Qwen/Qwen3-0.6B", "lora")
        jobs = [(training_speed, small, 40), (training_speed, Case("meta-llama/Llama-3.2-1B", "full"), 30),
                (chat_speed, small, 200)]
    found = []
    for job, case, amount in jobs:
        try:
            found.append(job(case, folder, device, amount))
        except Exception as error:  # one comparison must not lose the rows
            found.append({"id": f"{job.__name__} {case.id}", "error": f"{type(error).__name__}: {str(error)[:300]}"})
    return found


def _rehearse(rows: list[dict[str, Any]], deadline: float) -> None:
    """Rehearse what was measured, four at a time on the host's cores; those after the deadline are left out."""
    if importlib.util.find_spec("workbench.engine.rehearsal") is None:
        return
    from workbench.engine.recipe import Recipe

    rehearse = importlib.import_module("workbench.engine.rehearsal").rehearse

    def one(row: dict[str, Any]) -> None:
        if row["error"] is not None or time.monotonic() > deadline:
            return
        recipe = Recipe.model_validate({**row["recipe"], "objective": "sft"})
        recipe = recipe.model_copy(update={"objective": row["objective"]})
        try:
            found = rehearse(recipe, None, lambda words, share: None, lambda: time.monotonic() > deadline)
        except Exception as error:  # said in the row: a rehearsal that fails is a result too
            row["rehearsal_error"] = f"{type(error).__name__}: {str(error)[:300]}"
        else:
            row["rehearsed"] = found.peak_bytes

    with ThreadPoolExecutor(max_workers=max(min((os.cpu_count() or 2) // 4, 4), 1)) as pool:
        list(pool.map(one, rows))


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    from workbench.engine.figures import count, gib

    if row["error"] is not None:
        return f"{row['id']:<58} {row['error'][:100]}"
    measured = row.get("allocated") or row.get("resident")
    kind = "allocated" if row.get("allocated") else "resident"
    cells = [f"{gib(measured, 2):>10} {kind}", f"{gib(row.get('reserved'), 2):>10} reserved"]
    for name in ("estimated", "rehearsed"):
        value = row.get(name)
        off = f"{value / row['allocated'] - 1:+7.1%}" if value and row.get("allocated") else ""
        cells.append(f"{gib(value, 2):>10} {name} {off}")
    return f"{row['id']:<58} " + "  ".join(cells) + f"  {count(row.get('tokens_per_second')):>7} tokens/s"


def report(document: dict[str, Any], seconds: float, out: Path) -> None:
    """The table, the medians, and where the rows are."""
    rows = document["rows"]
    print(f"\n{document['gpu']}, {', '.join(f'{name} {version}' for name, version in document['versions'].items())}")
    for row in rows:
        print(line(row))
    for name in ("estimated", "rehearsed"):
        errors = sorted(abs(error) for error in off_by(rows, name))
        if errors:
            print(f"{name}: median error {errors[len(errors) // 2]:.1%}, "
                  f"worst under-estimate {min(0.0, *off_by(rows, name)):.1%}, {len(errors)} rows")
    for entry in document["speed"]:
        print(entry["id"], entry.get("error") or
              f"{entry['ours']:,.0f} tokens/s, bare {entry['bare']:,.0f}, ratio {entry['ratio']:.3f}")
    if document["left_out"]:
        print(f"left out for lack of time: {', '.join(document['left_out'])}")
    print(f"{len(rows)} rows in {seconds:.0f} s, written to {out}")


def off_by(rows: list[dict[str, Any]], name: str) -> list[float]:
    """Predicted over measured `max_memory_allocated`, less 1, of the rows that have both."""
    return [row[name] / row["allocated"] - 1 for row in rows if row.get(name) and row.get("allocated")]


if __name__ == "__main__":
    main()
