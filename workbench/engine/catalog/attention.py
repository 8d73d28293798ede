"""Attention of a decoder block: separate, fused or latent projections, norms, rotary embedding, the kernel."""

from dataclasses import dataclass

from workbench.engine.catalog.builder import NORM_WEIGHTS, BlockBuilder
from workbench.engine.catalog.families import Family
from workbench.engine.catalog.reader import ConfigReader


@dataclass(frozen=True, slots=True)
class Latent:
    """Ranks and head sizes of multi-head latent attention. `query_rank` 0: queries are projected at once."""

    query_rank: int
    key_value_rank: int
    plain_dim: int
    rotary_dim: int


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Heads and their sizes; `value_dim` differs from `head_dim` in latent attention only."""

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    bias: bool
    out_bias: bool
    qk_norm: bool
    dropout: float
    softcap: bool = False
    """Scores are capped by tanh (Gemma 2), which fused SDPA cannot do."""
    latent: Latent | None = None

    @property
    def queries(self) -> int:
        """Numbers per token in all queries."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Numbers per token in all keys."""
        return self.kv_heads * self.head_dim


def read_latent(read: ConfigReader) -> Latent:
    """Latent attention's sizes. Raises InputError."""
    rank = 0 if read.value("q_lora_rank") is None else read.size("q_lora_rank")
    return Latent(rank, read.size("kv_lora_rank"), read.size("qk_nope_head_dim"), read.size("qk_rope_head_dim"))


def attend(b: BlockBuilder, family: Family, shape: AttentionShape, x: int) -> int:
    """The whole of attention on the normalised value `x`: its output projection's result."""
    query, key, value = _latent(b, family, shape, x) if shape.latent else _projections(b, family, shape, x)
    kernel = "written out" if family.written_out else "sinks" if family.sinks else "no sdpa" if family.no_sdpa else ""
    if shape.softcap:
        kernel = "softcap"
    elif family.scores:
        kernel = f"written out, {family.scores}"
    y = b.op("attention", (query, key, value), shape.heads * shape.value_dim, variant=kernel, heads=shape.heads,
             share=shape.dropout)  # fmt: skip
    if family.sinks:
        b.other_parameters += shape.heads
    # Kernels lay their output out as the queries: after a concatenation that needs a copy; scores written out do too.
    if family.rotary == "partial" or shape.latent or family.written_out:
        y = b.op("copy", (y,), b.width(y))
    if family.inner_norms:
        y = b.norm(y, family.norm)
    return b.linear(y, family.out, b.hidden, shape.out_bias, quantised=family.quantised)


def _projections(b: BlockBuilder, family: Family, shape: AttentionShape, x: int) -> tuple[int, int, int]:
    widths = (shape.queries, shape.keys, shape.keys)
    if len(family.qkv) == 1:
        product = b.linear(x, family.qkv[0], sum(widths), shape.bias, quantised=family.quantised)
        query, key, value = b.split(product, *widths, slices=family.slices)
    else:
        query, key, value = (b.linear(x, name, width, shape.bias, quantised=family.quantised)
                             for name, width in zip(family.qkv, widths, strict=True))  # fmt: skip
    if shape.qk_norm:
        kind = family.qk_norm_kind or family.norm
        query, key = (_head_norm(b, family, shape, kind, v) for v in (query, key))
    if family.rotary != "none":
        query, key = (b.op("rotary", (v,), b.width(v), variant=family.rotary) for v in (query, key))
    return query, key, value


def _head_norm(b: BlockBuilder, family: Family, shape: AttentionShape, kind: str, x: int) -> int:
    """A norm over each head, or over the whole projection (OLMo-2)."""
    if family.qk_norm == "full":
        return b.norm(x, kind)
    if family.qk_norm_each_head:
        return b.norm(x, kind, b.width(x))
    return b.norm(x, kind, shape.head_dim)


def _latent(b: BlockBuilder, family: Family, shape: AttentionShape, x: int) -> tuple[int, int, int]:
    """DeepSeek's: keys and values are expanded from one low-rank product; a part of each head is rotary, its key
    shared by all heads."""
    latent = shape.latent
    assert latent is not None
    if latent.query_rank:
        low = b.norm(b.linear(x, "q_a_proj", latent.query_rank, shape.bias), family.norm)
        query = b.linear(low, "q_b_proj", shape.queries)
    else:
        query = b.linear(x, "q_proj", shape.queries)
    plain, turned = b.split(query, shape.heads * latent.plain_dim, shape.heads * latent.rotary_dim)
    compressed = b.linear(x, "kv_a_proj_with_mqa", latent.key_value_rank + latent.rotary_dim, shape.bias)
    low, shared = b.split(compressed, latent.key_value_rank, latent.rotary_dim)
    low = b.norm(low, family.norm)
    turned, shared = (b.op("rotary", (v,), b.width(v), variant="half") for v in (turned, shared))
    query = b.op("concat", (plain, turned), shape.queries)
    expanded = b.linear(low, "kv_b_proj", shape.heads * (latent.plain_dim + shape.value_dim))
    plain_key, value = b.split(expanded, shape.heads * latent.plain_dim, shape.heads * shape.value_dim)
    return query, b.op("concat", (plain_key, shared), shape.queries), value


def norm_weights(kind: str, size: int) -> int:
    """Numbers a norm of `kind` over `size` holds."""
    return NORM_WEIGHTS[kind] * size
