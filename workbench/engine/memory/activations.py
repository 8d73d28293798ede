"""What one decoder block keeps for its backward, and what that backward adds: bytes per token, tensor by tensor.

Counted in the code of transformers 5.23, peft 0.21 and bitsandbytes 0.50, and checked against their traced storages.
H is the hidden size, I the intermediate size; widths are in bytes (`Precision`).
"""

from dataclasses import dataclass

from workbench.engine.catalog.architecture import ALL_LINEAR, Architecture
from workbench.engine.catalog.layers import Block, Experts, LinearLayer
from workbench.engine.memory.case import MemoryCase, Precision

# Kernels keep their input alone. transformers writes gelu_new out: also x/2, tanh and 1 + tanh are kept.
_FURTHER_TENSORS = {"gelu_new": 3}

# The backward of an RMSNorm runs in fp32: four hidden states of 4 bytes live at once.
RMS_NORM_BACKWARD = 16


@dataclass(frozen=True, slots=True)
class BlockActivations:
    """Bytes of one block: `saved` per token until its backward, `backward` per token on top of that, `fixed` whatever
    the number of tokens."""

    saved: float
    backward: float
    fixed: float = 0


@dataclass(frozen=True, slots=True)
class Setting:
    """What the functions below share: the model, the case, its number formats and the adapted layers' names."""

    architecture: Architecture
    case: MemoryCase
    precision: Precision
    adapted: frozenset[str]

    @property
    def full(self) -> bool:
        """Whether every weight is trained."""
        return self.case.tuning == "full"

    @property
    def copies_inputs(self) -> bool:
        """Whether each adapter keeps its own copy of its input, for dropout or for a cast to its fp32 weights.

        Linear4bit and Linear8bitLt do not cast (peft/tuners/lora/bnb.py, under autocast).
        """
        casts = self.precision.quantization == "none" and self.precision.trained != self.precision.compute
        return not self.full and (self.case.lora_dropout > 0 or casts)


def block_activations(setting: Setting, block: Block) -> BlockActivations:
    """The bytes of one block, attention and MLP together."""
    hidden = setting.architecture.hidden_size
    attention, in_attention = _attention(setting, block)
    mlp, in_mlp, fixed = _experts(setting, block.experts) if block.experts else _mlp(setting, block)
    norms = setting.architecture.traits.norms_per_block * norm_saved(setting, hidden)
    # A norm behind the MLP is walked back before it, and the MLP before attention: what they kept is gone by then.
    behind = norm_saved(setting, hidden) if setting.architecture.traits.norms_per_block == 4 else 0
    # One gradient of the residual stream is always there.
    backward = max(in_mlp - behind, in_attention - mlp) + setting.precision.stream * hidden
    return BlockActivations(norms + attention + mlp, backward, fixed)


def head_activations(setting: Setting) -> float:
    """Bytes per token of the final norm: what it keeps, and its output."""
    hidden = setting.architecture.hidden_size
    return norm_saved(setting, hidden) + setting.precision.stream * hidden


def norm_saved(setting: Setting, size: int) -> int:
    """Bytes per token that one norm over `size` numbers keeps, its output not included."""
    traits, stream = setting.architecture.traits, setting.precision.stream
    if traits.layer_norm:
        return stream * size + 8  # its input, mean and 1/std (native_layer_norm)
    # RMSNorm keeps an fp32 copy of its input, and the normalised value when its weight is trained.
    normalised = 4 if traits.fp32_norm_weight else stream
    return 4 * size + (normalised * size if setting.full else 0)


def _attention(setting: Setting, block: Block) -> tuple[float, float]:
    """Kept bytes per token, and what eager attention needs on the way back."""
    architecture, c = setting.architecture, setting.precision.compute
    queries = architecture.num_attention_heads * architecture.head_dim
    keys = architecture.num_key_value_heads * architecture.head_dim
    # Query, key, value and output; fused kernels keep one fp32 log-sum-exp a head.
    saved = kept_inputs(setting, block.attention[:-1]) + c * 2 * (queries + keys)
    if architecture.qk_norm:
        saved += norm_saved(setting, queries + keys)
    if architecture.traits.fused:
        saved += c * (queries + keys)  # the values are a view that keeps the whole qkv product
    of_output = kept_inputs(setting, block.attention[-1:])
    # The output layer reads the very tensor that attention keeps, unless it had to be copied or cast.
    if setting.copies_inputs or architecture.traits.concatenated_rotary:
        saved += of_output
    if setting.case.attn_implementation == "eager":
        # Softmax in fp32 and in 16 bits, a number per head and key; keys and values repeated for each query head.
        scores = architecture.num_attention_heads * setting.case.max_length
        return saved + (4 + c) * scores + 2 * c * (queries - keys), (8 + c) * scores
    saved += 4 * architecture.num_attention_heads
    if row := _mask_row(setting.case):
        # With a mask, SDPA takes the memory-efficient kernel: the mask in the query's type, keys and values repeated.
        saved += c * row + 2 * c * (queries - keys)
    return saved, 0


def _mask_row(case: MemoryCase) -> int:
    """Keys in one row of SDPA's mask; 0 where causality alone does. Padding needs a mask, and packed rows more so."""
    if case.attn_implementation != "sdpa":
        return 0
    if case.packing:
        return case.per_device_train_batch_size * case.max_length
    return case.max_length if case.per_device_train_batch_size > 1 else 0


def _mlp(setting: Setting, block: Block) -> tuple[float, float, float]:
    traits, c = setting.architecture.traits, setting.precision.compute
    inner = c * block.intermediate_size
    further = _FURTHER_TENSORS.get(setting.architecture.activation, 0)
    entry = kept_inputs(setting, block.mlp[:-1])
    if traits.parallel_residual and not setting.copies_inputs:
        entry = 0  # the very tensor that attention's layers keep
    product = kept_inputs(setting, block.mlp[-1:])
    # Gated: gate, up and act(gate). Plain: the activation's input.
    saved = entry + product + inner * ((3 if traits.gated_mlp else 1) + further)
    # Walking back, with the product gone: the gradients of product, act(gate) and up.
    backward = max(inner * (3 if traits.gated_mlp or further else 2) - product, inner)
    if block.mlp[-1].name in setting.adapted and setting.copies_inputs and setting.precision.quantization == "none":
        # The product and its cast to the adapter's fp32, in the (recomputed) forward, beside four hidden states.
        in_forward = inner + 4 * block.intermediate_size
        backward = max(backward, in_forward + 4 * setting.precision.stream * setting.architecture.hidden_size)
    return saved, backward, 0


def _experts(setting: Setting, experts: Experts) -> tuple[float, float, float]:
    """Each token is copied to its experts: a copy keeps gate, up, act(gate) and its output; trained experts also keep
    their input and product, and adapters on experts a merged copy of all weights (peft's target_parameters)."""
    c, inner, hidden = setting.precision.compute, experts.intermediate_size, experts.hidden_size
    adapted = not setting.full and setting.case.target_modules == ALL_LINEAR
    trained = setting.full or adapted
    saved = experts.experts_per_token * c * ((4 * inner + 2 * hidden) if trained else (3 * inner + hidden))
    router = c * hidden if trained else 0
    backward = experts.experts_per_token * c * inner * (2 if trained else 3)
    return saved + router, backward, c * experts.parameters if adapted else 0


def kept_inputs(setting: Setting, linears: tuple[LinearLayer, ...]) -> float:
    """Bytes per token of inputs kept by linear layers that read the same tensor. Frozen ones keep none."""
    c, precision = setting.precision.compute, setting.precision
    size = linears[0].in_features
    if setting.full:
        # Autocast casts an fp32 input anew for each layer that reads it.
        return c * size * (len(linears) if precision.stream > c else 1)
    targets = sum(linear.name in setting.adapted for linear in linears)
    if not setting.copies_inputs:
        return c * size if targets else 0
    if setting.case.lora_dropout > 0:
        return targets * size * (1 + c)  # a mask of one byte, and the dropped-out input
    # PEFT casts the input to the adapter's fp32; autocast casts it back, layer by layer.
    return targets * size * (c if precision.autocast else precision.trained)
