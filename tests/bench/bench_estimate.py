"""Prints what a memory table costs, and a batch of cases: python tests/bench/bench_estimate.py."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))

from workbench.console import table
from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.hardware.cards import gpu_named
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.cases_file import results
from workbench.engine.memory.comparison import compare_tunings
from workbench.engine.memory.suggestions import suggest

MODELS = ("Qwen/Qwen3-0.6B", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B", "Qwen/Qwen3-30B-A3B")
SETTINGS: dict[str, MemoryCase] = {
    "defaults": MemoryCase(),
    "packing": MemoryCase(packing=True),
    "eager attention": MemoryCase(attn_implementation="eager"),
    "rlhf": MemoryCase(objective="rlhf"),
}


def milliseconds(work: Callable[[], object], times: int = 50) -> tuple[float, float]:
    """The medians of `times` calls: of the processor's time, and by the clock, which other processes stretch."""
    cpu, clock = [], []
    for _ in range(times):
        start, began = time.thread_time(), time.perf_counter()
        work()
        cpu.append(1000 * (time.thread_time() - start))
        clock.append(1000 * (time.perf_counter() - began))
    return median(cpu), median(clock)


def main() -> None:
    """Full, LoRA and QLoRA: peak, fit, largest batch and longest rows on two different GPUs, and the suggestions."""
    gpus = [gpu_named("H100-80GB"), gpu_named("RTX 4090", 1)]
    rows = []
    for name in MODELS:
        config = resolve_model(name).config
        for title, case in SETTINGS.items():
            whole = milliseconds(lambda c=config, k=case: compare_tunings(architecture_from_config(c), k, gpus))
            one = milliseconds(lambda c=config, k=case: compare_tunings(architecture_from_config(c), k, gpus[:1]))
            model = architecture_from_config(config)
            advice = milliseconds(lambda m=model, k=case: suggest(m, k, 12 * 1024**3))
            rows.append((name, title, *(f"{value:.2f}" for value in (one[0], whole[0], whole[1], advice[0]))))
    print("milliseconds of processor time, from config.json on:")
    print(table(("MODEL", "SETTINGS", "1 GPU", "2 GPUS", "2 GPUS BY CLOCK", "SUGGESTIONS"), rows, right=(2, 3, 4, 5)))
    line = json.dumps({"id": 1, "model": MODELS[1], "tuning": "lora"}).encode()
    batch, _ = milliseconds(lambda: list(results([line] * 1000, None)), times=3)
    print(f"\nworkbench estimate --cases: {batch / 1000:.2f} ms a case")


if __name__ == "__main__":
    main()
