"""The rollouts of reinforcement learning: what `generate` holds while completions are written."""

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.memory.case import MemoryCase, Precision

# Per number of the vocabulary and row: 16-bit logits, their fp32 copy, the warped copy and the probabilities
# (transformers generation/utils.py, _sample).
_SAMPLING_BYTES = 2 + 4 + 4 + 4


def key_value_bytes(architecture: Architecture, precision: Precision) -> int:
    """Bytes of keys and values per token of context: 2 * L * kv_heads * head_dim numbers."""
    numbers = 2 * architecture.num_key_value_heads * architecture.head_dim
    return precision.compute * architecture.num_hidden_layers * numbers


def rollout_rows(case: MemoryCase, batch: int) -> int:
    """Completions written at once: trl fills a whole optimizer step (steps_per_generation is
    gradient_accumulation_steps by default), `num_generations` of them to a prompt."""
    return batch * case.gradient_accumulation_steps


def generation_bytes(
    architecture: Architecture, case: MemoryCase, precision: Precision, batch: int, length: int
) -> tuple[float, float]:
    """Bytes of the cache and of the work around it, at the larger of the prompts' forward and the last token, for
    micro-batches of `batch` rows of `length` tokens."""
    rows, width = rollout_rows(case, batch), precision.compute
    per_token = key_value_bytes(architecture, precision)
    layer = per_token / architecture.num_hidden_layers
    sampling = rows * architecture.vocab_size * _SAMPLING_BYTES
    # The whole prompt goes through a block at once, without gradients: gate, up and their product, for each expert a
    # token goes to; three hidden states and a norm's fp32 copies.
    inner = max(
        b.experts.intermediate_size * b.experts.experts_per_token if b.experts
        else max(linear.out_features for linear in b.linears)
        for b in architecture.blocks
    )
    prompt = rows * max(length - case.answer_length(length), 1)
    forward = prompt * (3 * width * inner + (3 * width + 8) * architecture.hidden_size)
    cached = rows * length
    # DynamicCache concatenates: the old and the new keys of one layer for a moment.
    last = (cached * per_token, cached * layer / 2 + sampling)
    first = (prompt * per_token, forward + sampling)
    return max(first, last, key=sum)
