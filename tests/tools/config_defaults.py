"""Writes assets/config_defaults.json from the installed transformers: python -m tests.tools.config_defaults."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import orjson

import workbench
from workbench.engine.catalog.families import FAMILIES

ASSET = Path(workbench.__file__).parent / "assets" / "config_defaults.json"

# What shapes no parameter and no activation.
_IRRELEVANT = re.compile(
    r"transformers_version|architectures|output_.*|return_dict|dtype|chunk_size_feed_forward|is_encoder_decoder|id2label|"
    r"label2id|problem_type|.*_token_id|initializer.*|init_.*|.*_eps|.*epsilon|rope_.*|use_cache|pretraining_tp|summary_.*|"
    r"max_position_embeddings_.*|.*_coef|.*jitter.*|.*logit.*|_.*|.*std.*|scale_attn.*|sliding_window.*|attention_chunk_size"
)
_KEPT = frozenset({
    "attn_logit_softcapping", "final_logit_softcapping", "qk_layernorm", "layer_norm_elementwise_affine",
    "max_position_embeddings",
})  # fmt: skip


# What __post_init__ still reads of older files.
_OLD_NAMES = {"bloom": {"hidden_size": "n_embed"}, "falcon": {"hidden_size": "n_embed"}}


def defaults_of(model_type: str) -> dict[str, Any]:
    """The fields of a config class with a plain default, and the other names it knows them by."""
    from transformers import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[model_type]
    fields = {}
    for field in dataclasses.fields(config_class):
        plain = field.default is None or isinstance(field.default, (bool, int, float, str))
        if plain and (field.name in _KEPT or not _IRRELEVANT.fullmatch(field.name)):
            fields[field.name] = field.default
    aliases = {ours: theirs for ours, theirs in config_class.attribute_map.items() if theirs in fields}
    return {"fields": fields, "aliases": aliases | _OLD_NAMES.get(model_type, {})}


def main() -> None:
    """One line a family, sorted."""
    lines = [f'  "{name}": {orjson.dumps(defaults_of(name)).decode()}' for name in sorted(FAMILIES)]
    ASSET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
