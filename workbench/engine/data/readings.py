"""A row of any format in one of few neutral shapes, from which every objective takes what it needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.engine.data import values
from workbench.engine.data.formats import Format
from workbench.engine.data.values import Message, Row, RowError, in_order


@dataclass(frozen=True, slots=True)
class Reading:
    """What a row says. A demonstration has `prompt` and `chosen`; a pair has `rejected` too; None where it has none."""

    prompt: list[Message] | None = None
    chosen: list[Message] | str | None = None
    rejected: list[Message] | str | None = None
    label: bool | None = None


def read(row: Row, form: Format) -> Reading:
    """The row, read as the format says. Raises RowError."""
    values.refuse_tools(row)
    return _READERS[form.name](row, form.columns)


def read_prompt(row: Row, form: Format) -> Reading:
    """The row as a prompt, with a reference answer where it has one. Raises RowError."""
    columns = form.columns
    values.refuse_tools(row)
    if form.name == "preference":
        return Reading(_preference(row, columns).prompt)
    if form.name in ("messages", "sharegpt"):
        turns = _listed(row, columns, "messages" if form.name == "messages" else "conversations")
        answered = turns[-1]["role"] == "assistant"
        in_order(turns, answered)
        return _conversation(turns) if answered else Reading(turns)
    prompt = in_order(_prompt(row, columns), answered=False)
    column = columns.get("completion") or columns.get("output")
    answer = row.get(column) if column else None
    if values.is_messages(answer):
        return Reading(prompt, values.messages(answer, str(column)))
    return Reading(prompt, answer if isinstance(answer, str) else None)


def _conversation(turns: list[Message]) -> Reading:
    """A whole conversation: its last message is the answer, everything before it the prompt."""
    in_order(turns)
    return Reading(turns[:-1], turns[-1:])


def _with_system(row: Row, columns: Mapping[str, str], turns: list[Message]) -> list[Message]:
    said = row.get(columns["system"]) if "system" in columns else None
    if said is None or (isinstance(said, str) and not said.strip()) or (turns and turns[0]["role"] == "system"):
        return turns
    return [{"role": "system", "content": values.text(said, columns["system"])}, *turns]


def _listed(row: Row, columns: Mapping[str, str], name: str) -> list[Message]:
    return _with_system(row, columns, values.messages(row.get(columns[name]), columns[name]))


def _prompt(row: Row, columns: Mapping[str, str]) -> list[Message]:
    """The prompt as messages, from whatever columns hold it."""
    for name in ("conversations", "messages"):
        if name in columns:
            return _listed(row, columns, name)
    column = columns.get("prompt") or columns["instruction"]
    value = row.get(column)
    if isinstance(value, list | dict):
        turns = values.messages(value, column)
    elif values.is_transcript(value):
        turns = values.transcript(value, column)
    else:
        said = values.text(value, column)
        extra = row.get(columns["input"]) if "input" in columns else None
        if extra is not None and not (isinstance(extra, str) and not extra.strip()):
            said = f"{said}\n\n{values.text(extra, columns['input'])}"
        turns = [*_history(row, columns), {"role": "user", "content": said}]
    return _with_system(row, columns, turns)


def _history(row: Row, columns: Mapping[str, str]) -> list[Message]:
    """LLaMA-Factory's earlier rounds: a list of [instruction, response]."""
    rounds = row.get(columns["history"]) if "history" in columns else None
    if rounds is not None and not isinstance(rounds, list):
        raise RowError(f"`{columns['history']}` is {values.kind_of(rounds)}, not a list of [instruction, response]")
    turns: list[Message] = []
    for pair in rounds or []:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise RowError("`history` is not a list of [instruction, response]")
        turns += [{"role": role, "content": values.text(said, "history")}
                  for role, said in zip(("user", "assistant"), pair, strict=True)]
    return turns


def _answer(row: Row, column: str, prompt: list[Message]) -> list[Message]:
    """The answer to a prompt, from a text, a message or a list of them."""
    value = row.get(column)
    if isinstance(value, dict) and {"role", "from"} & value.keys():
        value = [value]
    if isinstance(value, list | dict):
        turns = values.messages(value, column)
        if turns[0]["role"] != "assistant":
            raise RowError(f"`{column}` begins with {turns[0]['role']}, not with the assistant")
    else:
        turns = [{"role": "assistant", "content": values.text(value, column)}]
    in_order([*prompt, *turns])
    return turns


def _prompt_completion(row: Row, columns: Mapping[str, str]) -> Reading:
    prompt = _prompt(row, columns)
    return Reading(prompt, _answer(row, columns.get("completion") or columns["output"], prompt))


def _kto(row: Row, columns: Mapping[str, str]) -> Reading:
    column = columns["label"]
    label = values.label(row.get(column))
    if label is None:
        value = row.get(column)
        raise RowError(f"the label `{column}` is {value!r:.40}, not true or false" if value is not None
                       else f"the label `{column}` is missing")
    if "completion" in columns:
        found = _prompt_completion(row, columns)
    else:
        found = _conversation(_listed(row, columns, "messages" if "messages" in columns else "conversations"))
    return Reading(found.prompt, found.chosen, label=label)


def _preference(row: Row, columns: Mapping[str, str]) -> Reading:
    chosen = row.get(columns["chosen"])
    rejected = row.get(columns["rejected"]) if "rejected" in columns else None
    if chosen is None:
        raise RowError(f"`{columns['chosen']}` is missing")
    whole = _whole(chosen, columns["chosen"])
    if whole is not None:
        if rejected is None:
            return _conversation(whole)
        other = _whole(rejected, columns["rejected"])
        if other is None:
            raise RowError(f"`{columns['chosen']}` is a whole conversation and `{columns['rejected']}` is not")
        return _split(whole, other)
    if not {"prompt", "conversations", "messages"} & columns.keys():
        raise RowError(f"`{columns['chosen']}` is an answer without its prompt")
    prompt = _prompt(row, columns)
    return Reading(prompt, _answer(row, columns["chosen"], prompt),
                   None if rejected is None else _answer(row, columns["rejected"], prompt))


def _whole(value: Any, column: str) -> list[Message] | None:
    """The value as a conversation that has its prompt in it; None when it is an answer alone."""
    if values.is_transcript(value):
        return values.transcript(value, column)
    if values.is_messages(value):
        turns = values.messages(value, column)
        return turns if turns[0]["role"] != "assistant" else None
    return None


def _split(chosen: list[Message], rejected: list[Message]) -> Reading:
    """The prompt is what both begin with, up to the last answer at the latest."""
    in_order(chosen)
    in_order(rejected)
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    while shared and not (chosen[shared]["role"] == rejected[shared]["role"] == "assistant"):
        shared -= 1
    if not shared:
        raise RowError("`chosen` and `rejected` answer different prompts")
    return Reading(chosen[:shared], chosen[shared:], rejected[shared:])


def _texts(row: Row, columns: Mapping[str, str]) -> Reading:
    return Reading(None, values.text(row.get(columns["chosen"]), columns["chosen"]),
                   values.text(row.get(columns["rejected"]), columns["rejected"]))


_READERS: dict[str, Callable[[Row, Mapping[str, str]], Reading]] = {
    "messages": lambda row, columns: _conversation(_listed(row, columns, "messages")),
    "sharegpt": lambda row, columns: _conversation(_listed(row, columns, "conversations")),
    "alpaca": _prompt_completion,
    "prompt-completion": _prompt_completion,
    "preference": _preference,
    "kto": _kto,
    "accepted-rejected": _texts,
    "text": lambda row, columns: Reading(None, values.text(row.get(columns["text"]), columns["text"])),
    "prompts": lambda row, columns: Reading(_prompt(row, columns)),
}
