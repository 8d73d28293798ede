"""What may score an answer in reinforcement learning: the words of `rlhf.reward`, and what each of them stands for."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workbench.engine.catalog.models import resolve_model
from workbench.engine.catalog.trained import is_reward_model
from workbench.engine.errors import InputError

RewardKind = Literal["exact-match", "json", "regex", "length", "function", "model"]
_KINDS = "exact-match, json, regex:PATTERN, length:CHARACTERS, module:function, or a reward run or its folder"
_FUNCTION = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*|.*\.py):(?P<name>[A-Za-z_]\w*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class RewardSource:
    """One reward. `value` is the pattern, the number of characters or the function's name; `path` the file that holds
    the function, or the folder that holds the model."""

    kind: RewardKind
    value: str = ""
    path: Path | None = None

    @property
    def reference(self) -> str:
        """As a recipe says it, the same in any folder."""
        if self.kind == "function":
            return f"{self.path}:{self.value}"
        return str(self.path) if self.kind == "model" else f"{self.kind}:{self.value}" if self.value else self.kind


def reward_names(references: Sequence[str]) -> list[str]:
    """What the rewards' metrics are called by, rewards/NAME/mean: the function, the kind, or `reward-model`; numbered
    where several are called the same."""
    names: list[str] = []
    for reference in references:
        word = reference.partition(":")[0]
        name = word if word in _READERS else "reward-model"
        if word not in _READERS and _FUNCTION.fullmatch(reference):
            name = reference.rpartition(":")[2]
        count = sum(name == other.partition("#")[0] for other in names)
        names.append(f"{name}#{count + 1}" if count else name)
    return names


def reward_source(reference: str, base_dir: Path | None = None) -> RewardSource:
    """What one entry of `rlhf.reward` means; paths and modules start from `base_dir`. Nothing is run.

    Raises InputError for what is none of these, or does not exist.
    """
    word, _, value = reference.partition(":")
    if reader := _READERS.get(word):
        return reader(value, reference)
    if function := _FUNCTION.fullmatch(reference):
        return _function(function["module"], function["name"], base_dir)
    return RewardSource("model", path=_model(reference, base_dir))


def _plain(kind: RewardKind) -> Callable[[str, str], RewardSource]:
    def read(value: str, reference: str) -> RewardSource:
        if value:
            raise InputError(f"{reference!r}: the reward {kind} takes nothing after a colon.")
        return RewardSource(kind)
    return read


def _regex(value: str, reference: str) -> RewardSource:
    try:
        re.compile(value)
    except re.error as error:
        raise InputError(f"{reference!r} is not a regular expression: {error}.") from None
    if not value:
        raise InputError("The reward regex: needs a pattern, such as regex:Answer: .+")
    return RewardSource("regex", value)


def _length(value: str, reference: str) -> RewardSource:
    if not value.isdecimal() or int(value) < 1:
        raise InputError(f"{reference!r}: a length is a number of characters, such as length:80.")
    return RewardSource("length", value)


_READERS: dict[str, Callable[[str, str], RewardSource]] = {
    "exact-match": _plain("exact-match"), "json": _plain("json"), "regex": _regex, "length": _length}


def _function(module: str, name: str, base_dir: Path | None) -> RewardSource:
    path = Path(module if module.endswith(".py") else module.replace(".", "/") + ".py").expanduser()
    path = (base_dir or Path.cwd()) / path
    if not path.is_file():
        raise InputError(f"The reward function {name} is looked for in {path}, which does not exist.",
                         "Put the module beside the recipe.")
    return RewardSource("function", name, path.resolve())


def _model(reference: str, base_dir: Path | None) -> Path:
    try:
        source = resolve_model(reference, base_dir)
    except InputError as error:
        raise InputError(f"{reference!r} is no reward: {error.message}", f"A reward is {_KINDS}.") from None
    if not is_reward_model(source):
        raise InputError(f"{reference} writes text and gives no scores.",
                         "Train a reward model on pairs first (objective: reward), and name its run.")
    folder = source.adapter or source.path
    if folder is None:
        raise InputError(f"The reward model {reference} is not on this disk.", "Download it first.")
    return folder
