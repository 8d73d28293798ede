"""Estimate against trace for every family: `python -m tests.bench.families_table [family ...]`.

Each family is built at a middle size with transformers' own class and run forward and backward on fake tensors (as
tests/tracing.py has it), with full fine-tuning and LoRA on all linear layers, with and without checkpointing. The table
shows whether the parameter count is exact, the estimate and the trace in GiB, and the error in per cent.
"""

import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from tests.families import small_config
from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.families import FAMILIES
from workbench.engine.errors import InputError
from workbench.engine.memory.estimate import MemoryCase, estimate_memory
from workbench.engine.memory.terms import CUBLAS_WORKSPACES

BATCH, LENGTH = 4, 1024
GIB = 1024**3
_GROWN = {"hidden_size", "n_embd", "d_model", "intermediate_size", "ffn_dim", "ffn_hidden_size", "q_lora_rank",
          "kv_lora_rank", "moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size",
          "intermediate_size_mlp", "word_embed_proj_dim"}  # fmt: skip


def middle_config(family: str) -> dict[str, Any]:
    """The small config with 6 heads of 8 made 24 heads of 64, and all inner sizes 32 times as large."""
    config = dict(small_config(family))
    for key, value in config.items():
        if key in _GROWN:
            config[key] = value * 32
        elif key in ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"):
            config[key] = 24
    heads = {"num_key_value_heads": 24 if "v_head_dim" in config else 8, "head_dim": 64, "num_kv_heads": 8}
    latent = {"qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 96}
    if "v_head_dim" in config:
        heads["head_dim"] = latent["qk_rope_head_dim"]
    config |= {key: value for key, value in (heads | latent).items() if key in config}
    positions = {key: LENGTH for key in ("n_positions", "max_position_embeddings") if key in config}
    if family == "falcon":
        config["multi_query"] = False  # its one key head is broadcast, which no kernel of SDPA takes
    return config | positions | {"vocab_size": 32000}


def attention_of(family: str) -> str:
    """The kernel that causality takes on CUDA without a mask; eager where a family has no other."""
    row = FAMILIES[family]
    return "eager" if row.written_out or row.no_sdpa else "sdpa"


def rows(family: str) -> Iterator[tuple[str, bool, int | str, int | str]]:
    """Tuning, checkpointing, estimate and trace in bytes (or why not), for one family."""
    from tests.tracing import build, traced_peak

    config, attention = middle_config(family), attention_of(family)
    for tuning in ("full", "lora"):
        for checkpointing in (True, False):
            case = MemoryCase(
                tuning=tuning, per_device_train_batch_size=BATCH, max_length=LENGTH, optim="sgd",  # type: ignore[arg-type]
                gradient_checkpointing=checkpointing,
                attn_implementation="eager" if attention == "eager" else "flash_attention_2",
            )  # fmt: skip
            estimate: int | str
            traced: int | str
            try:
                estimate = estimate_memory(architecture_from_config(config), case).peak_bytes - CUBLAS_WORKSPACES
            except InputError as error:
                estimate = error.message
            try:
                model = build(config, tuning, attention)
                traced = traced_peak(model, BATCH, LENGTH, checkpointing, adapters=tuning == "lora")
            except Exception as error:
                traced = f"{type(error).__name__}: {error}"
            yield tuning, checkpointing, estimate, traced


def exact(family: str) -> str:
    """Whether the count is transformers' own."""
    from tests.families import meta_model

    config = middle_config(family)
    found, true = architecture_from_config(config).parameters, meta_model(config).num_parameters()
    return "exact" if found == true else f"off by {found - true:+,}"


def main(families: list[str]) -> None:
    """Print the table, and how many families lie within 5 % in all four settings."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(f"{'family':18}{'parameters':>12}  {'tuning':8}{'ckpt':6}{'estimate':>9}{'traced':>9}{'error':>9}")
    worst: dict[str, float] = {}
    for family in families:
        shown = exact(family)
        for tuning, checkpointing, estimate, traced in rows(family):
            line = f"{family:18}{shown:>12}  {tuning:8}{'on' if checkpointing else 'off':6}"
            if isinstance(estimate, str) or isinstance(traced, str):
                print(f"{line}{estimate if isinstance(estimate, str) else traced}"[:160], flush=True)
                continue
            error = 100 * (estimate / traced - 1)
            worst[family] = max(worst.get(family, 0.0), abs(error))
            print(f"{line}{estimate / GIB:>9.3f}{traced / GIB:>9.3f}{error:>+8.1f}%", flush=True)
            shown = ""
    near = sum(error <= 5 for error in worst.values())
    print(f"\n{near} of {len(families)} families within 5 % in every setting, {len(families) - len(worst)} not traced.")


if __name__ == "__main__":
    main(sys.argv[1:] or list(FAMILIES))
