"""What the memory probe is made of: the longest rows of a dataset, peaks by phase, and fingerprints of weights."""

from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from workbench.worker.memory_meter import MemoryMeter, release
from workbench.worker.undisturbed import Fingerprints
from workbench.worker.worst_case import worst_case

CPU = torch.device("cpu")


def test_the_longest_rows_make_the_worst_case() -> None:
    rows = Dataset.from_dict({"input_ids": [[1] * n for n in (3, 9, 2, 7, 8)], "labels": [[1]] * 5})

    def collate(chosen: list[dict[str, Any]]) -> dict[str, Any]:
        width = max(len(row["input_ids"]) for row in chosen)
        return {"input_ids": torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"]))
                                           for row in chosen])}

    found = worst_case(DataLoader(rows, batch_size=2, collate_fn=collate, shuffle=True), 1)
    assert (found.rows, found.tokens, found.looked_at) == (2, 9, None)
    assert found.batch["input_ids"].ne(0).sum().item() == 9 + 8
    few = worst_case(DataLoader(rows, batch_size=8, collate_fn=collate), 1)
    assert (few.rows, few.tokens) == (5, 9)
    stream = worst_case(DataLoader(rows.to_iterable_dataset(), batch_size=2, collate_fn=collate), 1)
    assert (stream.rows, stream.tokens) == (2, 9)
    assert stream.looked_at is not None


def test_of_a_pair_the_longer_answer_after_the_prompt_counts() -> None:
    pairs = Dataset.from_dict({"prompt_ids": [[1] * 5, [1], [1]], "chosen_ids": [[1] * 2, [1] * 6, [1] * 5],
                               "rejected_ids": [[1] * 2, [1], [1] * 5]})
    found = worst_case(DataLoader(pairs, batch_size=1, collate_fn=lambda rows: {"input_ids": torch.zeros(
        2, len(rows[0]["prompt_ids"]) + max(len(rows[0]["chosen_ids"]), len(rows[0]["rejected_ids"])))}), 1)
    assert (found.rows, found.tokens) == (1, 7)


def test_resident_memory_is_measured_by_phase() -> None:
    meter = MemoryMeter(CPU)
    release(CPU)
    with meter.phase("small"):
        pass
    with meter.phase("large"):
        held = torch.ones(64 << 20, dtype=torch.int8)
        del held
    small, large = (meter.phases[name].resident or 0 for name in ("small", "large"))
    assert large - small >= 60 << 20
    assert meter.peak.resident == large
    assert meter.peak.to_json() == {"resident": large}


def test_fingerprints_see_one_bit() -> None:
    parameters = [torch.nn.Parameter(torch.randn(300, 7).to(dtype)) for dtype in (torch.float32, torch.bfloat16)]
    prints = Fingerprints(parameters)
    assert prints.changed() == 0
    with torch.no_grad():
        parameters[1].view(-1).view(torch.int16)[5] ^= 1
    assert prints.changed() == 1


def test_joined_rows_and_rows_without_token_ids() -> None:
    rows = Dataset.from_dict({"input_ids": [[1] * 4, [1] * 6]})

    def joined(chosen: list[dict[str, Any]]) -> dict[str, Any]:
        return {"input_ids": torch.tensor([[token for row in chosen for token in row["input_ids"]]])}

    found = worst_case(DataLoader(rows, batch_size=2, collate_fn=joined), 1)
    assert (found.rows, found.tokens) == (2, 5)
    prompts = Dataset.from_dict({"prompt": ["short", "a much longer prompt"]})
    raw = worst_case(DataLoader(prompts, batch_size=1, collate_fn=lambda chosen: chosen), 1)
    assert (raw.batch, raw.rows, raw.tokens) == ([{"prompt": "a much longer prompt"}], 1, 0)
