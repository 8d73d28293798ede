"""What fits on which GPU: grouping, alignment at every width, and words for what is not known."""

import pytest

from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.hardware.cards import gpu_named
from workbench.engine.hardware.gpus import Gpu
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.comparison import compare_tunings
from workbench.tui.widgets.device_fits import device_lines, group_gpus

GIB = 2**30


def cards(*kinds: tuple[str, int, float | None]) -> list[Gpu]:
    """(name, how many, GiB free) of 80 GiB cards."""
    return [Gpu(0, "", name, 80 * GIB, round(free * GIB) if free is not None else None, None, None, None, None)
            for name, many, free in kinds for _ in range(many)]


def numbered(gpus: list[Gpu]) -> list[Gpu]:
    from dataclasses import replace

    return [replace(gpu, index=index) for index, gpu in enumerate(gpus)]


def lines_of(gpus: list[Gpu], width: int, ascii: bool = False) -> list[str]:
    architecture = architecture_from_config(resolve_model("meta-llama/Llama-3.1-8B").config)
    comparison = compare_tunings(architecture, MemoryCase(), gpus)
    return [line.plain for line in device_lines(comparison, "lora", gpus, width, ascii)]


def test_like_gpus_are_one_group_and_the_roomiest_comes_first() -> None:
    gpus = numbered(cards(("NVIDIA RTX 4090", 1, 23), ("NVIDIA A100", 2, 79), ("NVIDIA A100", 1, 78.5)))
    groups = group_gpus(gpus)
    assert [(group.name, len(group.gpus)) for group in groups] == [("A100", 3), ("RTX 4090", 1)]
    assert groups[0].free_bytes == round(78.5 * GIB)


def test_a_busy_gpu_is_a_group_of_its_own_and_a_silent_one_comes_last() -> None:
    gpus = numbered(cards(("NVIDIA H100", 1, None), ("NVIDIA H100", 3, 79), ("NVIDIA H100", 1, 12)))
    assert [(len(group.gpus), group.free_bytes) for group in group_gpus(gpus)] == [
        (3, 79 * GIB), (1, 12 * GIB), (1, None)]
    assert "free memory unknown" in "\n".join(lines_of(gpus, 66))
    assert "unknown" in lines_of(gpus, 66)[-3]


def test_each_group_is_judged_by_its_own_free_memory() -> None:
    gpus = numbered(cards(("NVIDIA A100", 2, 79), ("NVIDIA RTX 4090", 1, 23), ("NVIDIA T4", 1, 4)))
    text = lines_of(gpus, 66)
    verdicts = [line.split()[-3:] for line in text if line.strip().startswith("as set")]
    assert verdicts == [["fits", "fits", "fits"], ["no", "fits", "fits"], ["no", "no", "no"]]
    assert [line.split()[0] for line in text if line[:1].isalpha() and line[1] == " "] == ["a", "b", "c"]


def test_many_kinds_are_summed_up() -> None:
    gpus = numbered(cards(*((f"NVIDIA Card {i}", 1, 80 - i) for i in range(8))))
    assert lines_of(gpus, 66)[-1] == "5 more GPUs with less free memory"


@pytest.mark.parametrize("width", [35, 36, 44, 66, 120])
@pytest.mark.parametrize("ascii", [False, True])
def test_lines_keep_to_the_width_and_align_at_the_right(width: int, ascii: bool) -> None:
    gpus = numbered(cards(("NVIDIA A100-SXM4-80GB with a very long name indeed", 8, 79), ("NVIDIA RTX 4090", 1, 23)))
    text = lines_of(gpus, width, ascii)
    assert all(len(line) <= width for line in text)
    rows = [line for line in text if line.startswith(("What", "  "))]
    assert {len(line) for line in rows} == {width}
    if ascii:
        assert all(line.isascii() for line in text)


def test_without_a_gpu_it_says_what_the_figures_are_for() -> None:
    assert lines_of([], 36) == ["No GPU: figures for one with bf16.", "ctrl+g plans for a card by name."]


def test_a_card_that_is_not_here_is_said_to_be_idle_not_free() -> None:
    text = lines_of([gpu_named("H100-80GB")], 66)
    assert any("H100-80GB" in line and line.endswith("if idle") for line in text)
