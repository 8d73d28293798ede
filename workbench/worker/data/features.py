"""The columns of canonical examples as Arrow types: said beforehand, so that no row is guessed at."""

from collections.abc import Mapping
from typing import Any

from datasets import Features, List, Value

# 64-bit offsets: a thousand rows of some megabytes each do not fit into 32-bit ones.
_TEXT = Value("large_string")
_MESSAGES = List({"role": Value("string"), "content": _TEXT})

_COLUMNS: dict[str, dict[str, Any]] = {
    "sft": {"messages": _MESSAGES},
    "cpt": {"text": _TEXT},
    "rt": {"chosen": _TEXT, "rejected": _TEXT},
    "dpo": {"prompt": _MESSAGES, "chosen": _MESSAGES, "rejected": _MESSAGES},
    "orpo": {"prompt": _MESSAGES, "chosen": _MESSAGES, "rejected": _MESSAGES},
    "kto": {"prompt": _MESSAGES, "completion": _MESSAGES, "label": Value("bool")},
    "reward": {"chosen": _MESSAGES, "rejected": _MESSAGES},
    "rlhf": {"prompt": _MESSAGES},
}


def features_of(objective: str, first: Mapping[str, Any]) -> Features:
    """The Arrow types of an objective's examples, of which `first` is one: rewards compare conversations or texts.

    Of the further columns that prompts may carry for reward functions, nothing is said.
    """
    if objective == "reward" and isinstance(first.get("chosen"), str):
        return Features({"chosen": _TEXT, "rejected": _TEXT})
    return Features(_COLUMNS[objective])
