"""Rows of the table whose shape a config's own flags decide: each function answers with the row for one config."""

from collections.abc import Callable
from dataclasses import replace

from workbench.engine.catalog.families import Family, Residual
from workbench.engine.catalog.reader import ConfigReader


def adapted(family: Family, read: ConfigReader) -> Family:
    """The family's row for this config. Raises InputError for a setting that is not described."""
    return _VARIANTS[family.variant](family, read) if family.variant else family


def _falcon(family: Family, read: ConfigReader) -> Family:
    """Falcon-7B: one norm, one key head; 40B and 180B: two norms, several key heads; RW: neither parallel nor shared.

    Keys of fewer heads are repeated for each query head in 40B's own code; SDPA takes no kernel for 7B's one head.
    """
    if read.flag("alibi"):
        family = replace(family, rotary="none", written_out=True)
    if read.flag("new_decoder_architecture"):
        two: Residual = "parallel, two norms" if read.value("num_ln_in_parallel_attn") in (None, 2) else "parallel"
        return replace(family, residual=two, kv_heads="num_kv_heads")
    shared = read.flag("multi_query")
    residual: Residual = "parallel" if read.flag("parallel_attn") else "pre"
    return replace(family, residual=residual, kv_heads="1" if shared else "num_kv_heads", no_sdpa=shared)


def _gpt_neox(family: Family, read: ConfigReader) -> Family:
    return replace(family, residual="parallel, two norms") if read.flag("use_parallel_residual", True) else family


def _stablelm(family: Family, read: ConfigReader) -> Family:
    return replace(family, residual="parallel") if read.flag("use_parallel_residual") else family


def _gpt_bigcode(family: Family, read: ConfigReader) -> Family:
    return replace(family, kv_heads="1") if read.flag("multi_query", True) else family


def _opt(family: Family, read: ConfigReader) -> Family:
    """OPT-350M normalises after each sum, and has no final norm."""
    if not read.flag("layer_norm_elementwise_affine", True):
        family = replace(family, norm="layer_plain")
    if read.flag("do_layer_norm_before", True):
        final = "none" if read.flag("_remove_final_layer_norm") else ""
        return replace(family, final_norm=final)
    return replace(family, residual="after", final_norm="none")


def _hyperclovax(family: Family, read: ConfigReader) -> Family:
    return replace(family, residual="sandwich") if read.flag("use_post_norm", True) else family


_VARIANTS: dict[str, Callable[[Family, ConfigReader], Family]] = {
    "falcon": _falcon, "gpt_neox": _gpt_neox, "stablelm": _stablelm, "gpt_bigcode": _gpt_bigcode, "opt": _opt,
    "hyperclovax": _hyperclovax,
}  # fmt: skip
