"""Which decoder a `config.json` is of: by transformers' names of today, and by others that stand on the Hub."""

from collections.abc import Mapping
from typing import Any

from workbench.engine.catalog.families import FAMILIES, Family
from workbench.engine.catalog.reader import REHEARSAL_HINT
from workbench.engine.errors import InputError

# Written for a repository's own code before transformers had the family: its fields' names, and what it left unsaid.
_RW = {"n_head": "num_attention_heads", "n_layer": "num_hidden_layers", "n_head_kv": "num_kv_heads"}
_FORMER: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "RefinedWebModel": ("falcon", _RW, {}),
    "RefinedWeb": ("falcon", _RW, {"new_decoder_architecture": True}),
    "stablelm_epoch": ("stablelm", {}, {}),
}

_HEADS = ("ForCausalLM", "LMHeadModel", "Model", "ForSequenceClassification", "ForTokenClassification",
          "ForQuestionAnswering")  # fmt: skip


_TEXT_ALONE = {"llama4"}
"""Composite `model_type`s of which AutoModelForCausalLM builds the text decoder alone."""


def family_of(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], Family]:
    """The config of the text decoder, and its row. Raises InputError."""
    config = _present_form(config)
    model_type, declared, text = config.get("model_type"), config.get("architectures"), config.get("text_config")
    if not (model_type is None or isinstance(model_type, str)):
        raise InputError(f"The config has model_type = {model_type!r}, which is no name.")
    if not (declared is None or (isinstance(declared, list) and all(isinstance(name, str) for name in declared))):
        raise InputError(f"The config has architectures = {declared!r}, which is no list of names.")
    names: list[str] = declared or []
    shown = ", ".join(names) or model_type or "of a config without architectures and model_type"
    if isinstance(text, Mapping):
        if model_type in _TEXT_ALONE and text.get("model_type") in FAMILIES:
            tied = config.get("tie_word_embeddings")
            inherited = {} if tied is None else {"tie_word_embeddings": tied}
            return {**inherited, **text}, FAMILIES[str(text["model_type"])]
        raise InputError(f"{shown} has towers beside its text decoder, which are not described.", hint=REHEARSAL_HINT)
    by_type = FAMILIES.get(model_type) if model_type is not None else None
    if by_type is not None and (not names or any(_names_family(name, by_type.model_class) for name in names)):
        return config, by_type
    of_class = next((family for family in FAMILIES.values() if family.model_class in names), None)
    if of_class is None:
        raise InputError(f"The architecture {shown} is not known to the estimate.", hint=REHEARSAL_HINT)
    if model_type is None:
        return config, of_class
    # transformers goes by model_type, so that this one would not be loaded as what its class says.
    raise InputError(f"The model_type {model_type!r} does not go with the architecture {of_class.model_class}.",
                     hint=f"transformers calls it {of_class.model_type!r}.")


def _present_form(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config under the names that transformers reads today; `auto_map` and its code play no part."""
    former = config.get("model_type")
    if not isinstance(former, str) or former not in _FORMER:
        return config
    model_type, names, unsaid = _FORMER[former]
    renamed = {names.get(name, name): value for name, value in config.items() if name != "architectures"}
    return {**unsaid, **renamed, "model_type": model_type}


def _names_family(name: str, model_class: str) -> bool:
    """Whether a class of `architectures` is of the family of `model_class`: with another head, in another spelling.

    transformers goes by `model_type` alone: AutoModelForCausalLM makes a causal model of a saved classifier too.
    """
    stems = [_stem(name.lower()), _stem(model_class.lower())]
    return stems[0] == stems[1] != ""


def _stem(name: str) -> str:
    return next((name.removesuffix(head) for head in map(str.lower, _HEADS) if name.endswith(head)), "")
