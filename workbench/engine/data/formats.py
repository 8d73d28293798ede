"""Which format the rows of a dataset have: by their columns and, where names leave it open, by their values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from workbench.engine.data.sources import DataError
from workbench.engine.data.values import Row, is_messages, is_transcript, label
from workbench.engine.text import nearest, one_line


@dataclass(frozen=True)
class Format:
    """A detected format: its `name`, `why` it was taken for that and what is learned from it, and which column is
    what: `columns[our name] = their name`."""

    name: str
    why: str
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)


# Other names that columns have in the wild; the first entry is ours and wins over all others.
_NAMES = {
    "messages": ("messages",),
    "conversations": ("conversations", "conversation"),
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "prompt": ("prompt", "question", "query", "instruction", "problem", "input"),
    "instruction": ("instruction",),
    "input": ("input", "context"),
    "completion": ("completion", "response", "answer", "output", "solution"),
    "output": ("output", "response"),
    "chosen": ("chosen", "accepted", "preferred", "preferred_output", "response_j"),
    "rejected": ("rejected", "dispreferred", "non_preferred_output", "response_k"),
    "label": ("label", "kto_tag"),
    "text": ("text", "content"),
}
FIELDS = tuple(_NAMES)
_LISTED = 12
"""Columns that a message names."""


class Columns:
    """The columns of a row by our names: as the recipe maps them, else by their own."""

    def __init__(self, row: Row, mapping: Mapping[str, str]) -> None:
        self.row = row
        self.mapping = mapping
        taken = set(mapping.values())
        self._own = {str(name).strip().lower(): name for name in row if name not in taken}
        self.ambiguous: dict[str, tuple[str, ...]] = {}

    def find(self, name: str) -> str | None:
        """The column that is `name`, or None. Where several could be, none is, and `ambiguous` lists them."""
        if name in self.mapping:
            return self.mapping[name]
        found = [self._own[other] for other in _NAMES[name] if other in self._own]
        if not found or len(found) == 1 or _NAMES[name][0] in self._own:
            return found[0] if found else None
        if name == "prompt" and len(found) == 2 and found[1].strip().lower() == "input":
            return found[0]  # Alpaca's input belongs to its instruction
        self.ambiguous[name] = tuple(found)
        return None

    def take(self, *needed: str, optional: tuple[str, ...] = ()) -> dict[str, str] | None:
        """Our names and theirs, when all needed ones are there."""
        found = {name: self.find(name) for name in _NAMES if name in needed or name in optional}
        if any(found[name] is None for name in needed):
            return None
        return {name: column for name, column in found.items() if column is not None}


def _prompt(columns: Columns, *needed: str, optional: tuple[str, ...] = ()) -> dict[str, str] | None:
    extra = ("input",) if (columns.find("prompt") or "").strip().lower() == "instruction" else ()
    if "input" in columns.mapping:
        extra = ("input",)
    return columns.take("prompt", *needed, optional=(*extra, "system", *optional))


def _conversation(name: str) -> Callable[[Columns], dict[str, str] | None]:
    def find(columns: Columns) -> dict[str, str] | None:
        pair = _preference(columns)
        if pair is not None and name in pair:
            return None  # it is the prompt of the chosen answer
        return columns.take(name, optional=("system",))

    return find


def _alpaca(columns: Columns) -> dict[str, str] | None:
    return columns.take("instruction", "output", optional=("input", "system", "history"))


def _preference(columns: Columns) -> dict[str, str] | None:
    chosen = columns.find("chosen")
    value = columns.row.get(chosen) if chosen else None
    if is_transcript(value) and columns.find("prompt") is None:
        return columns.take("chosen", optional=("rejected",))
    if is_messages(value) and isinstance(value, list):
        first = value[0].get("role", value[0].get("from"))
        if first not in ("assistant", "gpt"):
            return columns.take("chosen", optional=("rejected",))
    found = _prompt(columns, "chosen", optional=("rejected",))
    for name in ("conversations", "messages"):
        found = found or columns.take(name, "chosen", optional=("rejected", "system"))
    return found


def _kto(columns: Columns) -> dict[str, str] | None:
    column = columns.find("label")
    if column is None or label(columns.row.get(column)) is None:
        return None
    found = _prompt(columns, "completion", "label")
    for name in ("messages", "conversations"):
        found = found or columns.take(name, "label", optional=("system",))
    return found


def _pair_of_texts(columns: Columns) -> dict[str, str] | None:
    found = columns.take("chosen", "rejected")
    if found is None or columns.find("prompt") is not None or _preference(columns) is not None:
        return None
    return found


FORMATS: dict[str, Callable[[Columns], dict[str, str] | None]] = {
    "preference": _preference,
    "kto": _kto,
    "messages": _conversation("messages"),
    "sharegpt": _conversation("conversations"),
    "alpaca": _alpaca,
    "prompt-completion": lambda columns: _prompt(columns, "completion"),
    "accepted-rejected": _pair_of_texts,
    "text": lambda columns: columns.take("text"),
    "prompts": lambda columns: _prompt(columns, optional=("completion",)),
}
"""Every format, the most telling first, with what finds its columns."""

_DEMONSTRATIONS = ("messages", "sharegpt", "alpaca", "prompt-completion")
_LAST_ANSWER = "what comes before the last answer is the prompt, and that answer is kept as `answer`"
_PROMPTS = "the other columns go to the reward functions, a reference answer as `answer`"
USES: dict[str, dict[str, str]] = {
    "sft": {**dict.fromkeys(_DEMONSTRATIONS, ""), "preference": "the chosen answers are learned"},
    "cpt": {"text": ""},
    "rt": {"accepted-rejected": "", "preference": "the answers are compared without their prompts"},
    "dpo": {"preference": ""},
    "orpo": {"preference": "rows without a rejected answer are demonstrations",
             **dict.fromkeys(_DEMONSTRATIONS, "each row is a demonstration")},
    "kto": {"kto": "", "preference": "each chosen answer counts as good, each rejected one as bad"},
    "reward": {"preference": "", "accepted-rejected": "the texts are compared without prompts"},
    "rlhf": {"alpaca": _LAST_ANSWER, "prompts": _PROMPTS, "messages": _LAST_ANSWER, "sharegpt": _LAST_ANSWER,
             "preference": "the prompts alone are used"},
}
"""The formats that each objective can use, what it looks for first, and what it makes of those that are not its own."""

NEEDS = {
    "sft": ("`messages`, `conversations`, `instruction` + `output`, or `prompt` + `completion`",
            "{prompt: …, completion: …}"),
    "cpt": ("`text`", "{text: …}"),
    "rt": ("`chosen` + `rejected`, as texts", "{chosen: …, rejected: …}"),
    "dpo": ("`prompt` + `chosen` + `rejected`", "{prompt: …, chosen: …, rejected: …}"),
    "orpo": ("`prompt` + `chosen` + `rejected`, or demonstrations as for sft",
             "{prompt: …, chosen: …, rejected: …}"),
    "kto": ("`prompt` + `completion` + `label` (true or false)", "{prompt: …, completion: …, label: …}"),
    "reward": ("`chosen` + `rejected`, and `prompt` where there is one", "{prompt: …, chosen: …, rejected: …}"),
    "rlhf": ("`prompt`", "{prompt: …}"),
}
"""For each objective the columns it needs, and how a mapping of others to them begins."""


def detect(row: Row, objective: str | None = None, mapping: Mapping[str, str] | None = None,
           only: str | None = None, where: str = "the data") -> Format:
    """The format of a row: the first that the objective can use (None: any).

    `mapping` says which column is what (ours: theirs), `only` is the format by name; both win over what names
    suggest. Raises DataError, which names the columns and says what is needed and how to map them.
    """
    mapping = mapping or {}
    columns = Columns(row, {name: column for name, column in mapping.items() if name in _NAMES})
    uses = USES[objective] if objective else dict.fromkeys(FORMATS, "")
    if only is not None:
        _check_format(only, objective, where)
        uses = {only: uses[only]}
    for name, use in uses.items():
        found = FORMATS[name](columns)
        if found is None or not columns.mapping.keys() <= found.keys():
            continue
        if name == "preference" and "rejected" not in found and objective not in ("orpo", "rlhf"):
            continue
        if only is None and objective in ("sft", "orpo") and name != "preference":
            _refuse_labelled(columns, objective, where)
        return Format(name, _why(found, columns.mapping, use, only), found)
    raise _unusable(columns, objective, only, where)


def _refuse_labelled(columns: Columns, objective: str, where: str) -> None:
    found = _kto(columns)
    if found is None or ("completion" not in found and found["label"] != "kto_tag"):
        return
    raise DataError(f"{where}: the column `{found['label']}` says which answers are good and which are bad; "
                    f"{objective} would learn them all.",
                    "Use `objective: kto`, or say `dataset.format` (such as prompt-completion) to learn them all.")


def _check_format(name: str, objective: str | None, where: str) -> None:
    if name not in FORMATS:
        guess = nearest(name, FORMATS)
        raise DataError(f"{where}: {name!r} is not a format.",
                        f"Did you mean {guess}?" if guess else f"Formats: {', '.join(FORMATS)}.")
    if objective and name not in USES[objective]:
        raise DataError(f"{where}: {objective} cannot use the format {name}.",
                        f"It can use: {', '.join(USES[objective])}.")


def _why(found: Mapping[str, str], mapping: Mapping[str, str], use: str, only: str | None) -> str:
    named = [f"`{column}`" if column.strip().lower() == name else f"`{column}` (as {name})"
             for name, column in found.items()]
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    start = "the recipe says so; it" if only else "it"
    kinds = "a column" if len(named) == 1 else "columns"
    said = ", as the recipe maps them" if mapping else ""
    return f"{start} has {kinds} {listed}{said}" + (f"; {use}" if use else "")


def list_columns(row: Row) -> str:
    """The names of a row's columns for a sentence."""
    names = [one_line(str(name), 40) for name in sorted(row, key=str)]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more or "(none)"


def _unusable(columns: Columns, objective: str | None, only: str | None, where: str) -> DataError:
    needs, example = NEEDS[objective or "sft"]
    whose = f"format {only}" if only else objective or "no objective"
    message = f"{where}: {whose} cannot use the columns {list_columns(columns.row)}."
    for name, several in columns.ambiguous.items():
        message = f"{where}: any of {', '.join(f'`{column}`' for column in several)} could be the {name}."
    hint = f"Say which column is which: `dataset.columns: {example}`."
    if not columns.ambiguous:
        hint = f"It needs {needs}. {hint}" if not only else hint
        hint = _other_objective(columns, objective, only) + hint
    return DataError(message, hint)


def _other_objective(columns: Columns, objective: str | None, only: str | None) -> str:
    if objective is None or only:
        return ""
    for name, find in FORMATS.items():
        if find(columns) is not None and name not in USES[objective] and name != "prompts":
            able = [other for other, formats in USES.items() if name in formats]
            return f"It looks like {name}, for {' or '.join(able)}. "
    return ""
