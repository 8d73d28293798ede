"""What fused kernels inside a block change against transformers' own code: bytes per token, to be added to its.

Read in Liger's ops/rms_norm.py and in the Unsloth kernels that fms-acceleration's foak plugin carries
(kernels/unsloth/rms_layernorm.py, fused_ops/unsloth_lora/bnb/fast_lora.py).
"""

from workbench.engine.catalog.layers import Block, LinearLayer
from workbench.engine.memory.activations import RMS_NORM_BACKWARD, Setting, block_activations, norm_saved
from workbench.engine.memory.litgpt import litgpt_block


def block_change(setting: Setting, block: Block) -> float:
    """Kept bytes per token that another model's code adds to one block, or saves (negative)."""
    if setting.case.kernels == "litgpt":
        return litgpt_block(setting, block) - block_activations(setting, block).saved
    change = 0.0
    if _norms_are_fused(setting):
        architecture, stream = setting.architecture, setting.precision.stream
        hidden = architecture.hidden_size
        # A fused RMSNorm keeps its very input in place of fp32 copies. The first norm's is the block's input, which
        # checkpointing keeps anyway.
        inputs = architecture.traits.norms_per_block - (1 if setting.case.gradient_checkpointing else 0)
        change += inputs * stream * hidden - architecture.traits.norms_per_block * norm_saved(setting, hidden)
        if architecture.qk_norm:
            size = (architecture.num_attention_heads + architecture.num_key_value_heads) * architecture.head_dim
            change += stream * size - norm_saved(setting, size)
    return change + _fused_adapters(setting, block)


def int8_inputs(setting: Setting, block: Block) -> float:
    """LLM.int8 keeps the input of every layer, frozen or not (bitsandbytes MatMul8bitLt, `ctx.tensors`), unless an
    adapter keeps the very same tensor. Attention keeps its output, which is its output layer's input."""
    if setting.precision.quantization != "int8":
        return 0
    groups = [layers for layers in (block.attention[:-1], block.mlp[:-1], block.mlp[-1:]) if layers]
    shared = [not setting.copies_inputs and any(layer.name in setting.adapted for layer in layers) for layers in groups]
    sizes = [0 if kept else layers[0].in_features for layers, kept in zip(groups, shared, strict=True)]
    return setting.precision.compute * sum(sizes)


def final_norm_change(setting: Setting) -> tuple[float, float]:
    """The same for the final norm: kept bytes, and those of its backward, which writes one gradient of 16 bits."""
    if not _norms_are_fused(setting):
        return 0, 0
    hidden, stream = setting.architecture.hidden_size, setting.precision.stream
    return stream * hidden - norm_saved(setting, hidden), (2 * stream - RMS_NORM_BACKWARD) * hidden


def recompute_change(setting: Setting) -> float:
    """Reentrant checkpointing, transformers 4's default, holds the recomputed output until the backward has ended."""
    reentrant = setting.case.gradient_checkpointing and setting.case.on_transformers_4
    return setting.precision.stream * setting.architecture.hidden_size if reentrant else 0


def _norms_are_fused(setting: Setting) -> bool:
    return setting.case.kernels in ("liger", "unsloth") and not setting.architecture.traits.layer_norm


def _fused_adapters(setting: Setting, block: Block) -> float:
    """Unsloth's adapters of a quantised base, with dropout: they keep their input once and what was dropped out of it
    for each layer, where PEFT also keeps masks. Only where all layers that share an input are adapted."""
    case, quantised = setting.case, setting.precision.quantization != "none"
    if case.kernels != "unsloth" or not quantised or not case.lora_dropout:
        return 0
    # The output layer's input is the tensor that attention keeps.
    groups = ((block.attention[:-1], False), (block.attention[-1:], True))
    return sum(_without_masks(setting, layers, kept) for layers, kept in groups)


def _without_masks(setting: Setting, layers: tuple[LinearLayer, ...], input_is_kept: bool) -> float:
    if not layers or not all(layer.name in setting.adapted for layer in layers):
        return 0
    size, width = layers[0].in_features, setting.precision.compute
    return size * ((0 if input_is_kept else width) - len(layers))
