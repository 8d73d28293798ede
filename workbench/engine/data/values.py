"""Single values of a row: text, messages, labels, each checked as it is read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

Message = dict[str, str]
Row = dict[str, Any]

# ShareGPT's names and OpenAI's, as LLaMA-Factory, Axolotl and the datasets on the Hub use them.
ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "function_call": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "function_response": "tool",
}  # fmt: skip
_GOOD = {"true", "good", "desirable", "chosen", "accepted", "yes", "1", "1.0"}
_BAD = {"false", "bad", "undesirable", "rejected", "no", "0", "0.0", "-1", "-1.0"}
_FOLLOW = {("", "system"), ("", "user"), ("system", "user"), ("user", "assistant"), ("assistant", "user"),
           ("assistant", "tool"), ("tool", "tool"), ("tool", "assistant")}
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


class RowError(ValueError):
    """A row that cannot be used; the text says what is wrong with it, without saying where it is."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that a file holds but that cannot be read; `row` is its beginning, as far as there is one."""

    reason: str
    row: Any = None


def kind_of(value: Any) -> str:
    """What a value is, in words for a sentence: `a list`, `missing`."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "missing" if value is None else names.get(type(value), type(value).__name__)


def text(value: Any, column: str) -> str:
    """The value, which must be text with something in it. Raises RowError."""
    if not isinstance(value, str):
        raise RowError(f"`{column}` is {kind_of(value)}" + ("" if value is None else ", not text"))
    if not value.strip():
        raise RowError(f"`{column}` is empty")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RowError(f"`{column}` is not valid UTF-8 at its character {error.start + 1}") from None
    return value


def label(value: Any) -> bool | None:
    """Whether an answer is good: true or false, 1 or 0, or words such as good and bad; None for anything else."""
    word = str(value).strip().lower()
    return True if word in _GOOD else False if word in _BAD else None


def messages(value: Any, column: str) -> list[Message]:
    """A list of messages in OpenAI's or ShareGPT's layout as {role, content}. Raises RowError."""
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        refuse_tools(value)
        value = value["messages"]
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        value = _parsed(value, column)
    if not isinstance(value, list):
        raise RowError(f"`{column}` is {kind_of(value)}" + ("" if value is None else ", not a list of messages"))
    if not value:
        raise RowError(f"`{column}` has no messages")
    return [_message(entry) for entry in value]


def refuse_tools(holder: Mapping[str, Any]) -> None:
    """Raises RowError where a row or a prompt defines tools: the model would have to see them."""
    if holder.get("tools") not in (None, "", "[]", []):
        raise RowError("tool definitions (`tools`) are not supported yet")


def _parsed(value: str, column: str) -> Any:
    # Tables have no lists: a cell holds them as JSON.
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise RowError(f"`{column}` looks like a list but is not valid JSON") from None


def _message(entry: Any) -> Message:
    if not isinstance(entry, dict):
        raise RowError(f"a message is {kind_of(entry)}, not an object with role and content")
    name = entry.get("role", entry.get("from"))
    role = ROLES.get(name) if isinstance(name, str) else None
    if role and role == entry.get("role") and len(entry) == 2 and type(content := entry.get("content")) is str \
            and content.isascii() and content and not content.isspace():
        return entry  # as nearly all are: nothing to change, and no more to check
    if role is None:
        raise RowError(f"{name!r:.40} is not a role; roles are system, user, assistant and tool"
                       if name is not None else "a message has no role")
    if entry.get("tool_calls") or entry.get("function_call"):
        raise RowError("tool_calls are not supported yet")
    if entry.get("weight") == 0:
        raise RowError("a message has weight 0, which is not supported yet")
    content = entry.get("content", entry.get("value"))
    if isinstance(content, list):
        content = _joined(content)
    return {"role": role, "content": text(content, f"{name} content")}


def _joined(parts: list[Any]) -> str:
    # OpenAI's content parts: text only, since images and sound cannot be trained on here.
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else kind_of(part)
            raise RowError(f"a message holds {kind!s:.40}: only text is supported")
    return "".join(part["text"] for part in parts)


def in_order(turns: list[Message], answered: bool = True) -> list[Message]:
    """The conversation, checked: a system message only first, then user and assistant in turn, a tool's result after
    the assistant. `answered`: it must end with the assistant, else with anyone but the assistant. Raises RowError."""
    before = ""
    for number, turn in enumerate(turns, 1):
        role = turn["role"]
        if (before, role) not in _FOLLOW:
            after = f"after {before}" if before else "at the beginning"
            raise RowError(f"roles are out of order: message {number} is {role} {after}")
        before = role
    if answered and before != "assistant":
        raise RowError("the conversation does not end with the assistant, so there is nothing to learn")
    if not answered and before not in ("user", "tool"):
        raise RowError(f"the prompt ends with {before or 'nothing'}, not with the user")
    return turns


def is_transcript(value: Any) -> bool:
    """Whether a text is a conversation in the layout of Anthropic's HH-RLHF: `\\n\\nHuman: … \\n\\nAssistant: …`."""
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def transcript(value: Any, column: str) -> list[Message]:
    """The messages of a transcript; an unfinished last `Assistant:` is left out. Raises RowError."""
    pieces = _TURN.split(text(value, column).lstrip())
    turns = [{"role": "user" if who == "Human" else "assistant", "content": said.strip()}
             for who, said in zip(pieces[1::2], pieces[2::2], strict=True)]
    if turns and not turns[-1]["content"]:
        turns.pop()
    for turn in turns:
        text(turn["content"], f"a turn of {column}")
    return turns


def is_messages(value: Any) -> bool:
    """Whether a value is a list of messages by its first entry, or an object with such a list."""
    if isinstance(value, dict):
        value = value.get("messages")
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and \
        bool({"role", "from"} & value[0].keys())
