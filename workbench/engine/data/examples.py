"""Rows as the canonical examples of an objective: what every trainer, check and screen is given.

`Message` is {"role", "content"}; an example has, by objective:
  sft     {"messages": [Message]}, which ends with the assistant
  cpt     {"text": str}
  rt      {"chosen": str, "rejected": str}
  dpo     {"prompt": [Message], "chosen": [Message], "rejected": [Message]}
  orpo    the same; "rejected" is None for a plain demonstration
  kto     {"prompt": [Message], "completion": [Message], "label": bool}
  reward  {"chosen": [Message], "rejected": [Message]}: whole conversations; strings where the data has no prompts
  rlhf    {"prompt": [Message], **other columns with plain values}, for the reward functions
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.engine.data.formats import FIELDS, Format, detect, list_columns
from workbench.engine.data.readers import read_rows, rows_by
from workbench.engine.data.readings import Reading, read, read_prompt
from workbench.engine.data.sources import DataError, files_of, resolve_dataset
from workbench.engine.data.streams import Meter
from workbench.engine.data.values import BadRow, Message, Row, RowError, kind_of, text
from workbench.engine.recipe_data import DatasetPart
from workbench.engine.text import nearest

__all__ = ["Located", "Rejected", "detect", "examples_of", "read_examples", "sequences"]

_MOST_FORMS = 1000
"""Sets of columns whose format is remembered."""
_LOOKED_AT = 20
"""Rows that are looked at for one whose columns fit, before the whole file is refused."""


@dataclass(frozen=True, slots=True)
class Located:
    """An example and where it came from: a 1-based line, or the number of the row where a file has no lines."""

    source: str
    line: int
    example: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that cannot be used, and why."""

    source: str
    line: int
    reason: str
    row: Any


def read_examples(part: DatasetPart, objective: str, base_dir: Path | None, meter: Meter | None = None,
                  on_format: Callable[[Format], None] = lambda _: None) -> Iterator[Located | Rejected]:
    """Every row of a local part, streamed. `meter` is told the bytes read, `on_format` what format was found.

    Raises DataError where the data as a whole cannot be used: no rows, no such columns, a file that is not readable.
    """
    source = resolve_dataset(part.path, base_dir)
    if source.path is None:
        raise DataError(f"{source.name} is on the Hub: its rows are read once it is downloaded.")
    nothing = True
    for path, name in files_of(source, part.split):
        by = rows_by(path, name)

        def note(form: Format, by: str = by) -> None:
            on_format(replace(form, why=form.why + by))

        for found in examples_of(read_rows(path, name, meter), part, objective, name, note):
            nothing = False
            yield found
    if nothing:
        raise DataError(f"{part.path} has no rows.")


def examples_of(rows: Iterable[tuple[int, Row | BadRow]], part: DatasetPart, objective: str, source_name: str,
                on_format: Callable[[Format], None] = lambda _: None) -> Iterator[Located | Rejected]:
    """The same for numbered rows from anywhere. Raises DataError where no row has columns that can be used."""
    converter: _Converter | None = None
    waiting: list[tuple[int, Row]] = []
    for number, row in rows:
        if isinstance(row, BadRow):
            yield Rejected(source_name, number, row.reason, row.row)
            continue
        if converter is not None:
            yield from converter.convert(number, row)
            continue
        waiting.append((number, row))
        converter = _Converter.starting(waiting, part, objective, source_name)
        if converter is not None:
            on_format(converter.form)
            for held in waiting:
                yield from converter.convert(*held)
            waiting.clear()
    if waiting:
        _refuse(waiting, part, objective, source_name)


def sequences(example: Mapping[str, Any]) -> list[str]:
    """The text of each sequence that the model is given for an example, without a template: two for a pair."""
    if "prompt" not in example:
        return [_text_of(example[name]) for name in ("messages", "text", "chosen", "rejected") if name in example]
    prompt = _text_of(example["prompt"])
    # What a prompt carries along for reward functions may have these names too, and is no list of messages.
    answers = [example[name] for name in ("chosen", "rejected", "completion") if isinstance(example.get(name), list)]
    return [prompt + _text_of(answer) for answer in answers] or [prompt]


def _text_of(value: list[Message] | str) -> str:
    return value if isinstance(value, str) else "".join(message["content"] for message in value)


def _refuse(waiting: list[tuple[int, Row]], part: DatasetPart, objective: str, source: str) -> None:
    number, row = waiting[0]
    where = f"{source}:{number}"
    mapping = part.columns or {}
    known = set().union(*(held.keys() for _, held in waiting))
    for name, column in mapping.items():
        if name not in FIELDS and objective != "rlhf":
            guess = nearest(name, FIELDS)
            raise DataError(f"`dataset.columns` maps {name!r}, which is not one of ours.",
                            f"Did you mean {guess}?" if guess else f"Ours: {', '.join(FIELDS)}.")
        if column not in known:
            guess = nearest(column, map(str, known))
            raise DataError(f"{source} has no column {column!r}, which `dataset.columns` maps to {name}.",
                            f"Did you mean {guess}?" if guess else f"Its columns: {list_columns(row)}.")
    detect(row, objective, mapping, part.format, where)
    raise DataError(f"{where}: its columns cannot be used.")


@dataclass
class _Converter:
    """The rows of one file, from its first usable row on."""

    form: Format
    part: DatasetPart
    objective: str
    source: str
    forms: dict[Any, Format] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    @classmethod
    def starting(cls, waiting: list[tuple[int, Row]], part: DatasetPart, objective: str,
                 source: str) -> "_Converter | None":
        """The format of the latest row, or None where more rows may be looked at. Raises DataError."""
        number, row = waiting[-1]
        mapping = part.columns or {}
        if set(mapping.values()) <= row.keys() and (objective == "rlhf" or mapping.keys() <= set(FIELDS)):
            # A column that is null here says nothing of the format where others do.
            for columns in ({name: value for name, value in row.items() if value is not None}, row):
                try:
                    form = detect({**columns, **{name: row[name] for name in mapping.values()}}, objective, mapping,
                                  part.format, f"{source}:{number}")
                except DataError:
                    continue
                return cls(form, part, objective, source)
        if len(waiting) >= _LOOKED_AT:
            _refuse(waiting, part, objective, source)
        return None

    def convert(self, number: int, row: Row) -> Iterator[Located | Rejected]:
        try:
            for example in self._examples(row):
                yield Located(self.source, number, example)
        except RowError as fault:
            yield Rejected(self.source, number, str(fault), row)

    def _examples(self, row: Row) -> list[dict[str, Any]]:
        if self.objective == "rlhf":
            return [self._prompt(row)]
        return _EXAMPLES[self.objective](read(row, self._form(row)))

    def _form(self, row: Row) -> Format:
        """The file's format; for orpo the row's own, since pairs and demonstrations may stand side by side."""
        if self.objective != "orpo" or self.part.format:
            return self.form
        filled = {name: value for name, value in row.items() if value is not None}
        key = tuple((name, type(value)) for name, value in filled.items())
        if key not in self.forms:
            if len(self.forms) >= _MOST_FORMS:
                self.forms.clear()
            try:
                self.forms[key] = detect(filled, "orpo", self.part.columns)
            except DataError:
                self.forms[key] = self.form
        return self.forms[key]

    def _prompt(self, row: Row) -> dict[str, Any]:
        found = read_prompt(row, self.form)
        mapping = self.part.columns or {}
        theirs = {column: name for name, column in mapping.items() if name not in FIELDS}
        used = {column for name, column in self.form.columns.items() if name != "completion"}
        extras = {theirs.get(name, str(name)): value for name, value in row.items() if name not in used}
        for name in ("prompt", "completion", "tools"):
            extras.pop(name, None)
        answer = found.chosen
        if answer is not None:
            extras.setdefault("answer", answer if isinstance(answer, str) else answer[-1]["content"])
        return {"prompt": found.prompt, **{name: self._plain(name, value) for name, value in extras.items()
                                           if value is None or isinstance(value, bool | int | float | str)}}

    def _plain(self, name: str, value: Any) -> Any:
        """A value for a reward function, of the kind that the column had at first."""
        if value is None:
            return None
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise RowError(f"`{name}` is a number of more than 64 bits")
        first = self.kinds.setdefault(name, kind_of(value))
        if kind_of(value) != first:
            raise RowError(f"`{name}` is {kind_of(value)} ({value!r:.20}) where earlier rows have {first}")
        return text(value, name) if isinstance(value, str) and value.strip() else value


def _pair(found: Reading) -> dict[str, Any]:
    if found.rejected is None:
        raise RowError("the rejected answer is missing")
    return {"prompt": found.prompt, "chosen": found.chosen, "rejected": found.rejected}


def _sft(found: Reading) -> list[dict[str, Any]]:
    return [{"messages": [*(found.prompt or []), *_turns(found.chosen)]}]


def _rt(found: Reading) -> list[dict[str, Any]]:
    pair = _pair(found)
    return [{side: _one_text(pair[side], side) for side in ("chosen", "rejected")}]


def _one_text(answer: list[Message] | str, side: str) -> str:
    if isinstance(answer, str):
        return answer
    if len(answer) > 1:
        raise RowError(f"`{side}` has {len(answer)} messages: response tuning compares single texts")
    return answer[0]["content"]


def _orpo(found: Reading) -> list[dict[str, Any]]:
    return [{"prompt": found.prompt, "chosen": found.chosen, "rejected": found.rejected}]


def _kto(found: Reading) -> list[dict[str, Any]]:
    if found.label is not None:
        return [{"prompt": found.prompt, "completion": found.chosen, "label": found.label}]
    pair = _pair(found)
    return [{"prompt": found.prompt, "completion": pair[side], "label": side == "chosen"}
            for side in ("chosen", "rejected")]


def _reward(found: Reading) -> list[dict[str, Any]]:
    pair = _pair(found)
    if isinstance(pair["chosen"], str):
        return [{"chosen": pair["chosen"], "rejected": pair["rejected"]}]
    return [{side: [*(found.prompt or []), *pair[side]] for side in ("chosen", "rejected")}]


def _turns(answer: list[Message] | str | None) -> list[Message]:
    return answer if isinstance(answer, list) else []


_EXAMPLES: dict[str, Callable[[Reading], list[dict[str, Any]]]] = {
    "sft": _sft,
    "cpt": lambda found: [{"text": found.chosen}],
    "rt": _rt,
    "dpo": lambda found: [_pair(found)],
    "orpo": _orpo,
    "kto": _kto,
    "reward": _reward,
}
