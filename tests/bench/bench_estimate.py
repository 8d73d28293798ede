"""Prints what a memory table costs, a whole plan, and a batch of cases: python tests/bench/bench_estimate.py."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workbench.console import table
from workbench.engine.catalog import architecture
from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.hardware.cards import gpu_named
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.cases_file import results
from workbench.engine.memory.comparison import compare_tunings
from workbench.engine.memory.lines import model_lines
from workbench.engine.memory.suggestions import suggest

MODELS = ("Qwen/Qwen3-0.6B", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B", "Qwen/Qwen3-30B-A3B",
          "google/gemma-2-27b", "deepseek-ai/DeepSeek-V3")  # fmt: skip
SETTINGS: dict[str, MemoryCase] = {
    "defaults": MemoryCase(),
    "packing": MemoryCase(packing=True),
    "eager attention": MemoryCase(attn_implementation="eager"),
    "all stored": MemoryCase(tuning="full", gradient_checkpointing=False, per_device_train_batch_size=32),
    "rlhf": MemoryCase(objective="rlhf"),
}
CARDS = ("B200", "H200", "H100-80GB", "A100-40GB", "L40S", "RTX-4090", "T4", "RTX-3060")
# Too little for any of the models: every suggestion is tried, and none is enough.
NOTHING_FITS = 1024**3 // 4


def milliseconds(work: Callable[[], object], times: int = 50, before: Callable[[], None] = lambda: None) -> float:
    """The median of `times` calls in the processor's time, which other processes do not stretch."""
    taken = []
    for _ in range(times):
        before()
        start = time.thread_time()
        work()
        taken.append(1000 * (time.thread_time() - start))
    return median(taken)


def forget() -> None:
    """As in a new process: no config has been read, no block been followed."""
    architecture._read.cache_clear()
    model_lines.cache_clear()


def costs(config: dict[str, object], case: MemoryCase) -> list[float]:
    """A table on 1 and on 8 different GPUs and suggestions, each at first sight and at a later change of the length."""
    gpus = [gpu_named(name, index) for index, name in enumerate(CARDS)]
    lengths = count(case.max_length)

    def changed() -> MemoryCase:
        return replace(case, max_length=next(lengths))

    works: list[Callable[[], object]] = [
        lambda: compare_tunings(architecture_from_config(config), changed(), gpus[2:3]),
        lambda: compare_tunings(architecture_from_config(config), changed(), gpus),
        lambda: suggest(architecture_from_config(config), changed(), 12 * 1024**3),
        lambda: suggest(architecture_from_config(config), changed(), NOTHING_FITS),
    ]
    return [cost for work in works for cost in (milliseconds(work, 25, forget), milliseconds(work))]


def plans() -> list[tuple[str, str]]:
    """Whole plans, past runs and suggestions included."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WORKBENCH_HOME"] = folder
        from tests.unit.test_calibration import HOST, RECIPE, write_run
        from workbench.engine.planning import make_plan
        from workbench.engine.runs.history import read_history

        for number in range(200):
            write_run(Path(folder), number)
        first = milliseconds(read_history, 1)
        rows = [("past runs, 200 at first", f"{first:.2f}"), ("past runs, later", f"{milliseconds(read_history):.2f}")]
        for name in MODELS:
            recipe = RECIPE.model_copy(update={"model": name})
            gpus = [gpu_named(card, index) for index, card in enumerate(CARDS)]
            for title, cards in (("8 GPUs", gpus), ("RTX-3060", gpus[-1:])):
                cost = milliseconds(lambda r=recipe, g=cards: make_plan(r, None, g, HOST))
                rows.append((f"plan of {name} on {title}", f"{cost:.2f}"))
        return rows


def main() -> None:
    """Full, LoRA and QLoRA: peak, fit, largest batch and longest rows on each GPU, and the suggestions."""
    rows, worst = [], 0.0
    for name in MODELS:
        for title, case in SETTINGS.items():
            figures = costs(resolve_model(name).config, case)
            worst = max(worst, *figures)
            rows.append((name, title, *(f"{value:.2f}" for value in figures)))
    print("milliseconds of processor time, from config.json on, at first and at a later keystroke:")
    print(table(("MODEL", "SETTINGS", *(title for name in ("1 GPU", "8 GPUS", "SUGGESTIONS", "NOTHING FITS")
                                        for title in (name, "LATER"))),
                rows, right=tuple(range(2, 10))))  # fmt: skip
    print(f"the slowest: {worst:.2f}\n")
    print(table(("WHOLE PLANS", "MS"), plans(), right=(1,)))
    line = json.dumps({"id": 1, "model": MODELS[1], "tuning": "lora"}).encode()
    batch = milliseconds(lambda: list(results([line] * 1000, None)), 3, forget)
    print(f"\nworkbench estimate --cases: {batch / 1000:.2f} ms a case")


if __name__ == "__main__":
    main()
