"""Forms of `config.json` on the Hub that name a known decoder otherwise than transformers does today."""

from collections.abc import Mapping
from typing import Any

# Written for a repository's own code before transformers had the family: its fields' names, and what it left unsaid.
_RW = {"n_head": "num_attention_heads", "n_layer": "num_hidden_layers", "n_head_kv": "num_kv_heads"}
_FORMER: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "RefinedWebModel": ("falcon", _RW, {}),
    "RefinedWeb": ("falcon", _RW, {"new_decoder_architecture": True}),
    "stablelm_epoch": ("stablelm", {}, {}),
}

_HEADS = ("ForCausalLM", "LMHeadModel", "Model", "ForSequenceClassification", "ForTokenClassification",
          "ForQuestionAnswering")  # fmt: skip


def present_form(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config under the names that transformers reads today; `auto_map` and its code play no part."""
    former = config.get("model_type")
    if not isinstance(former, str) or former not in _FORMER:
        return config
    model_type, names, unsaid = _FORMER[former]
    renamed = {names.get(name, name): value for name, value in config.items() if name != "architectures"}
    return {**unsaid, **renamed, "model_type": model_type}


def names_family(name: str, model_class: str) -> bool:
    """Whether a class of `architectures` is of the family of `model_class`: with another head, in another spelling.

    transformers goes by `model_type` alone: AutoModelForCausalLM makes a causal model of a saved classifier too.
    """
    stems = [_stem(name.lower()), _stem(model_class.lower())]
    return stems[0] == stems[1] != ""


def _stem(name: str) -> str:
    return next((name.removesuffix(head) for head in map(str.lower, _HEADS) if name.endswith(head)), "")
