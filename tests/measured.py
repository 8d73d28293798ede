"""Rows that others measured on real A100s (tests/data/measured_peaks.csv), turned into cases of the estimate."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.estimate import MemoryEstimate, estimate_memory

DATA = Path(__file__).parent / "data"
GIB = 1024**3

# LitGPT names what its one qkv layer holds; the adapters have the shapes of PEFT's on separate layers.
_TARGETS = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
_QUANTIZATION = {"none": "none", "bnb nf4 double-quant": "nf4-double", "bnb.nf4": "nf4", "bnb.nf4-dq": "nf4-double"}


@dataclass(frozen=True)
class MeasuredRow:
    """One figure in GiB with its settings. `group`: stock, fused loss, static, or other (kernels and trainers that the
    workbench does not run)."""

    model: str
    method: str
    quant: str
    group: str
    case: MemoryCase
    measured_gib: float
    estimate: MemoryEstimate

    @property
    def estimate_gib(self) -> float:
        figure = self.estimate.static_bytes if self.group == "static" else self.estimate.peak_bytes
        return figure / GIB

    @property
    def error(self) -> float:
        """Relative: +0.01 is one per cent too much."""
        return self.estimate_gib / self.measured_gib - 1


def case_of(row: dict[str, str]) -> MemoryCase:
    """The settings of a row, from its columns and notes alone.

    What a source does not write down is its tool's default: fms-acceleration runs transformers' Trainer, whose AdamW
    was foreach in 4.45; its `foak` plugin brings Unsloth's kernels and loss, with `-liger` Liger's loss instead.
    PEFT's baseline calls prepare_model_for_kbit_training. LitGPT runs its own model, and pages the optimizer of a
    quantised one.
    """
    litgpt, quantization = row["source"].startswith("LitGPT"), _QUANTIZATION[row["quant"]]
    lora, foak = row["method"].startswith("LoRA"), "foak" in row["method"]
    dropout = re.search(r"dropout ([\d.]+)", row["notes"])
    kernels: Any = "litgpt" if litgpt else "unsloth" if foak else "transformers"
    return MemoryCase(
        tuning="full" if not lora else "lora" if quantization == "none" else "qlora",
        quantization=quantization,
        lora_r=int(row["rank"] or 1),
        lora_dropout=float(dropout[1]) if dropout else 0.0,
        target_modules=tuple(_TARGETS.get(name, name) for name in row["targets"].split()) or "all-linear",
        adapter_dtype="bfloat16" if row["dtype_weights"] == "bf16-true" else "auto",
        per_device_train_batch_size=int(row["batch"]),
        gradient_accumulation_steps=int(row["grad_accum"]),
        max_length=int(row["seq_len"]),
        gradient_checkpointing=row["grad_ckpt"] == "True",
        mixed_precision="bf16" if row["dtype_compute"].startswith("mixed") else "no",
        optim="paged_adamw_32bit" if litgpt and quantization != "none" else "adamw_torch",
        attn_implementation="flash_attention_2" if row["attn"] == "flash_attention_2" else "sdpa",
        loss_kernel="liger" if "liger" in row["method"] else "full_logits" if kernels == "transformers" else kernels,
        kernels=kernels,
        prepare_for_kbit="prepare_model_for_kbit_training" in row["notes"],
        num_processes=int(row["num_gpus"]),
        sharding="none" if row["num_gpus"] == "1" else "fsdp",
        packing=row["packing"] == "True" and row["attn"] != "flash_attention_2",
    )


def _group(row: dict[str, str]) -> str:
    if "static" in row["figure_kind"]:
        return "static"
    if row["source"].startswith("LitGPT"):
        return "other"
    if "liger" in row["method"]:
        return "fused loss"
    return "other" if "foak" in row["method"] else "stock"


def measured_rows() -> list[MeasuredRow]:
    """Every row, estimated."""
    configs: dict[str, Any] = orjson.loads((DATA / "model_configs.json").read_bytes())
    with (DATA / "measured_peaks.csv").open(newline="", encoding="utf-8") as lines:
        return [_measured(row, configs[row["model"]]) for row in csv.DictReader(lines)]


def _measured(row: dict[str, str], config: dict[str, Any]) -> MeasuredRow:
    case = case_of(row)
    estimate = estimate_memory(architecture_from_config(config), case)
    return MeasuredRow(row["model"], row["method"], row["quant"], _group(row), case, float(row["figure_gib"]), estimate)
