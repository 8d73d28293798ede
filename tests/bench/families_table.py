"""Estimate against rehearsal for every family: `python -m tests.bench.families_table [--depth N] [family ...]`.

Each family is rehearsed at a middle size: the recipe's own trainer on transformers' own class, for full fine-tuning,
LoRA on all linear layers and QLoRA (nf4), with and without checkpointing. It shows whether the parameter count is
exact, both figures in MiB, and the error in per cent, or why one of the two says no. Six layers by default, so that the
rehearsal extrapolates.
"""

import argparse
import warnings
from collections.abc import Iterator
from typing import Any

from tests.families import small_config
from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.families import FAMILIES
from workbench.engine.errors import WorkbenchError
from workbench.engine.memory.estimate import estimate_memory
from workbench.engine.planning import memory_case
from workbench.engine.recipe import Recipe

BATCH, LENGTH, DEPTH = 4, 1024, 6
TUNINGS = ("full", "lora", "qlora")
MIB = 1024**2
NEAR = 5.0
"""Per cent."""
_GROWN = {"hidden_size", "n_embd", "d_model", "intermediate_size", "ffn_dim", "ffn_hidden_size", "q_lora_rank",
          "kv_lora_rank", "moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size",
          "intermediate_size_mlp", "word_embed_proj_dim"}  # fmt: skip


def middle_config(family: str, depth: int = 4) -> dict[str, Any]:
    """The small config with 6 heads of 8 made 24 heads of 64, and all inner sizes 32 times as large."""
    config = dict(small_config(family))
    for key, value in config.items():
        if key in _GROWN:
            config[key] = value * 32
        elif key in ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"):
            config[key] = 24
        elif key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"):
            # Gemma 3n's last layers share keys with earlier ones of both kinds: it keeps its own depth.
            config[key] = value if "num_kv_shared_layers" in config else depth
    heads = {"num_key_value_heads": 24 if "v_head_dim" in config else 8, "head_dim": 64, "num_kv_heads": 8}
    latent = {"qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 96}
    if "v_head_dim" in config:
        heads["head_dim"] = latent["qk_rope_head_dim"]
    config |= {key: value for key, value in (heads | latent).items() if key in config}
    positions = {key: LENGTH for key in ("n_positions", "max_position_embeddings") if key in config}
    if family == "gpt_neo":
        config["attention_types"] = [[["global", "local"], depth // 2]]
    if family == "falcon":
        config["multi_query"] = False  # its one key head is broadcast, which no kernel of SDPA takes
    return config | positions | {"vocab_size": 32000}


def attention_of(family: str) -> str:
    """Eager where a family has no other kernel."""
    row = FAMILIES[family]
    return "eager" if row.written_out or row.no_sdpa else "sdpa"


def recipe_of(family: str, tuning: str, **training: Any) -> Recipe:
    """SGD has no states, so that activations count for more."""
    settings = {"per_device_train_batch_size": BATCH, "max_length": LENGTH, "optim": "sgd",
                "gradient_accumulation_steps": 1, "attn_implementation": attention_of(family), **training}
    return Recipe.model_validate({"model": family, "dataset": "glossary", "tuning": tuning,
                                  "quantization": {"double_quantization": False}, "training": settings}, strict=False)


def compared(config: dict[str, Any], recipe: Recipe) -> tuple[int | str, int | str]:
    """Estimate and rehearsal in bytes, or what either says instead."""
    from workbench.worker.rehearsal.rehearse import rehearse_recipe

    estimate: int | str
    rehearsed: int | str
    try:
        estimate = estimate_memory(architecture_from_config(config), memory_case(recipe)).peak_bytes
    except WorkbenchError as error:
        estimate = error.message
    try:
        rehearsed = rehearse_recipe(recipe, config, lambda words, share: None)["peak_bytes"]
    except WorkbenchError as error:
        rehearsed = error.message
    except Exception as error:
        rehearsed = f"{type(error).__name__}: {error}"
    return estimate, rehearsed


def rows(family: str, depth: int) -> Iterator[tuple[str, bool, int | str, int | str]]:
    """Tuning, checkpointing, estimate and rehearsal, for one family."""
    config = middle_config(family, depth)
    for tuning in TUNINGS:
        for checkpointing in (True, False):
            recipe = recipe_of(family, tuning, gradient_checkpointing=checkpointing)
            yield tuning, checkpointing, *compared(config, recipe)


def exact(family: str, depth: int) -> str:
    """Whether the count is transformers' own."""
    from tests.families import meta_model

    config = middle_config(family, depth)
    found, true = architecture_from_config(config).parameters, meta_model(config).num_parameters()
    return "exact" if found == true else f"off by {found - true:+,}"


def main() -> None:
    """Print the table, and how many families lie within 5 % in all six settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=DEPTH)
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{'family':18}{'parameters':>12}  {'tuning':8}{'ckpt':6}{'estimate':>9}{'rehearsed':>10}{'error':>9}")
    near, far, silent = [], {}, {}
    for family in chosen.families:
        shown, worst = exact(family, chosen.depth), 0.0
        for tuning, checkpointing, estimate, rehearsed in rows(family, chosen.depth):
            line = f"{family:18}{shown:>12}  {tuning:8}{'on' if checkpointing else 'off':6}"
            shown = ""
            if isinstance(estimate, str) or isinstance(rehearsed, str):
                words = f"estimate: {estimate}" if isinstance(estimate, str) else f"rehearsal: {rehearsed}"
                print(f"{line}{words}", flush=True)
                silent[family] = words
                continue
            error = 100 * (estimate / rehearsed - 1)
            worst = max(worst, error, key=abs)
            print(f"{line}{estimate / MIB:>9,.0f}{rehearsed / MIB:>10,.0f}{error:>+8.1f}%", flush=True)
        if abs(worst) > NEAR:
            far[family] = worst
        elif family not in silent:
            near.append(family)
    print(f"\n{len(near)} of {len(chosen.families)} families within {NEAR:g} % in every setting.")
    print(f"Further off: {', '.join(f'{name} ({worst:+.1f} %)' for name, worst in far.items()) or 'none'}.")
    for family, words in silent.items():
        print(f"{family} says in a setting: {words}")


if __name__ == "__main__":
    main()
