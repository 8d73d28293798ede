"""What a block of LitGPT keeps: its own model, adapters and loop, which the workbench does not run but others measured.

Read in litgpt/model.py, litgpt/lora.py and litgpt/finetune/lora.py of the time of its resource tables (torch 2.1,
bitsandbytes 0.41), for adapters on queries, keys and values.
"""

from workbench.engine.catalog.operations import Block
from workbench.engine.errors import InputError
from workbench.engine.memory.activations import Setting, norm_saved


def litgpt_block(setting: Setting, block: Block) -> float:
    """Kept bytes per token of one block, without checkpointing. Raises InputError for a mixture of experts."""
    if block.experts:
        raise InputError(f"LitGPT's blocks of {setting.architecture.family} are not described.",
                         hint="Its blocks without experts are.")
    architecture, width = setting.architecture, setting.precision.compute
    hidden, heads = architecture.hidden_size, architecture.num_attention_heads
    queries, keys = heads * architecture.head_dim, architecture.num_key_value_heads * architecture.head_dim
    norms = sum(operation.kind == "norm" for operation in block.operations)
    saved = norms * (norm_saved(setting, hidden) + (width * hidden if architecture.traits.layer_norm else 0))
    # One A for all adapted parts reads one dropped-out input; index_copy, which puts their products in place
    # (LoRAQKVLinear.zero_pad), keeps its source.
    sizes = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
    saved += hidden * (width + (1 if setting.case.lora_dropout else 0))
    saved += width * sum(size for name, size in sizes.items() if name in setting.adapted)
    # Rotary embedding makes new queries and keys; values are a view of the whole qkv product. Grouped ones are repeated
    # for each query head, all three in copies.
    saved += width * (3 * queries if keys != queries else (queries + 2 * keys) + (queries + keys))
    saved += width * queries + 4 * heads  # attention's output and log-sum-exp
    # The inputs of activations and of the gate's product; frozen layers keep nothing.
    inner = max(linear.in_features for linear in block.linears if linear.part == "mlp")
    saved += width * inner * (3 if architecture.traits.gated else 1)
    if setting.precision.quantization != "none":
        # MatMul4Bit of bitsandbytes 0.41 keeps its input: the normalised one, attention's output, the MLP's product.
        saved += width * (hidden + queries + inner)
    return saved
