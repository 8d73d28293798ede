"""What a large dataset costs: `python tests/bench/bench_data.py [GB]` (2 by default), in a temporary folder.

Seconds to the first rows and to a plan, the rate of the whole check, and the resident memory of a process that does
nothing else. A row is a conversation of about a kilobyte, as chat datasets have.
"""

import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workbench.engine.data.check import check_structure
from workbench.engine.data.examples import read_examples
from workbench.engine.data.sources import DataError
from workbench.engine.hardware.host import host_snapshot
from workbench.engine.planning import make_plan
from workbench.engine.recipe import Recipe

SEEN_AT_FIRST = 500
"""Rows that the Data screen shows at first."""
_TEXT = """the model learns from each row of data and a rank of sixteen is enough for most tasks when batch size
learning rate and weight decay are chosen with care so that loss falls while memory stays below its limit"""


def write(path: Path, size: int) -> int:
    """So many bytes of conversations, no two alike; returns the rows."""
    noise, rows, words = random.Random(0), 0, _TEXT.split()
    texts = [" ".join(noise.choices(words, k=noise.randint(20, 120))) for _ in range(2000)]
    with path.open("wb", 1 << 20) as file:
        while file.tell() < size:
            rows += 1
            said = [f"{rows}: {noise.choice(texts)}", *noise.choices(texts, k=noise.choice((1, 1, 3)))]
            file.write(orjson.dumps({"messages": [
                {"role": ("user", "assistant")[turn % 2], "content": text} for turn, text in enumerate(said)]}) + b"\n")
    return rows


def recipe(path: Path) -> Recipe:
    """The file with a recipe's defaults."""
    return Recipe.model_validate({"model": "tiny-base", "dataset": str(path)})


def first_rows(path: Path) -> str:
    """The rows that are shown at first."""
    part = recipe(path).dataset.parts[0]
    return f"{len(list(islice(read_examples(part, 'sft', None), SEEN_AT_FIRST))):,} rows"


def plan_twice(path: Path) -> str:
    """A plan, and the same again."""
    plan = make_plan(recipe(path), None, [], host_snapshot())
    once = time.perf_counter()
    make_plan(recipe(path), None, [], host_snapshot())
    return f"{plan.size[0]} rows; the second took {(time.perf_counter() - once) * 1e3:.1f} ms"


def whole_check(path: Path) -> str:
    """Every row."""
    began = time.process_time()
    report = check_structure(recipe(path), None)
    seconds = time.process_time() - began
    return (f"{report.rows:,} rows, {report.duplicates} duplicates; {report.bytes_read / seconds / 1e6:.0f} MB and "
            f"{report.rows / seconds:,.0f} rows a second of the processor")


def bad_line(path: Path) -> str:
    """The seventh line of a copy of the beginning, broken."""
    with path.open("rb") as file:
        lines = list(islice(file, 1000))
    lines[6] = b"{broken\n"
    broken = path.with_name("broken.jsonl")
    broken.write_bytes(b"".join(lines))
    try:
        return make_plan(recipe(broken), None, [], host_snapshot()).problems[0].message
    except DataError as error:
        return error.message


def measured(work: Callable[[Path], str], path: Path) -> tuple[str, float, float, float]:
    """(what was done, seconds, those of the processor, peak resident memory in MiB), in a process of its own."""
    began, busy = time.perf_counter(), time.process_time()
    said = work(path)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    return said, seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def apart(work: Callable[[Path], str], path: Path) -> tuple[Any, ...]:
    """`measured`, in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measured, work, path).result()


def main(gigabytes: float) -> None:
    """One file, every way to look at it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.jsonl"
        began = time.perf_counter()
        rows = write(path, round(gigabytes * 1e9))
        print(f"{path.stat().st_size / 1e9:.2f} GB, {rows:,} rows, written in {time.perf_counter() - began:.0f} s")
        for work in (first_rows, plan_twice, bad_line, whole_check):
            said, seconds, busy, resident = apart(work, path)
            print(f"{work.__name__:<12} {seconds:8.3f} s, processor {busy:6.3f} s  peak {resident:6.0f} MiB  {said}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
