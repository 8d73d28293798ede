"""What is gathered while the rows of a dataset go by once, and the findings that come of it."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
import xxhash

from workbench.engine.data.examples import Located, Rejected
from workbench.engine.data.findings import Finding
from workbench.engine.data.formats import Format
from workbench.engine.data.seen import Seen
from workbench.engine.recipe_data import FindingId

MOST_REJECTED = 1000
_MOST_PLACES, _MOST_NAMED = 5, 3
"""Places kept for a finding, and named in its sentence."""
_MOST_SAMPLED = 2000
"""Examples kept to look at: evenly spread, between half as many and so many."""
_MOST_SAMPLED_BYTES = 8 << 20
_MOST_SHOWN = 10_000
"""Characters of a rejected row that are kept where it is longer."""
# C0 without tab and line ends, DEL, C1: what a terminal obeys and a reader does not see.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class Scan:
    """What is gathered over the parts of the training data, or of the evaluation data."""

    def __init__(self) -> None:
        self.forms: dict[tuple[str, str], Format] = {}
        self.rows = self.usable = self.examples = self.rejected_count = 0
        self.rejected: list[Rejected] = []
        self.seen = Seen()
        self.sources: list[str] = []
        self.equal = Places()
        self.control = Places()
        self.sample = Sample()
        self.stopped = False
        self.estimated = 0.0
        self.bytes_read = 0
        self.part_examples: list[int] = []
        self._part_rows = self._examples_before = 0
        self._last: Located | Rejected | None = None

    def add(self, found: Located | Rejected) -> None:
        """The next example or rejected row."""
        before, self._last = self._last, found
        if self.sources[-1:] != [found.source]:
            self.sources.append(found.source)
        same_row = before is not None and (before.source, before.line) == (found.source, found.line)
        if not same_row:
            self.rows += 1
            self._part_rows += 1
        if isinstance(found, Rejected):
            self.rejected_count += 1
            if len(self.rejected) < MOST_REJECTED:
                self.rejected.append(_shortened(found))
            return
        self.usable += not same_row
        self.examples += 1
        written = orjson.dumps(found.example)
        self.seen.add(xxhash.xxh3_64_intdigest(written), len(self.sources) - 1, found.line)
        if _may_have_control(written) and _has_control(found.example):
            self.control.add(found)
        if _equal_pair(found.example, before.example if same_row and isinstance(before, Located) else None):
            self.equal.add(found)
        self.sample.add(found, len(written))

    def end_part(self, done: int, size: int | None = None) -> None:
        """A part's rows have all been read, or, given its `size`, `done` bytes of it: the others are estimated."""
        self.stopped = self.stopped or size is not None
        scale = size / done if size and done else 1.0
        self.estimated += self._part_rows * scale
        self.part_examples.append(round((self.examples - self._examples_before) * scale))
        self.bytes_read += done
        self._part_rows, self._examples_before, self._last = 0, self.examples, None

    def skip_part(self) -> None:
        """A part is not read."""
        self.part_examples.append(0)

    def note(self, path: str) -> Callable[[Format], None]:
        """What is told of the formats of a part."""

        def noted(form: Format) -> None:
            self.forms.setdefault((path, form.name), form)

        return noted

    def named(self, places: Iterable[tuple[int, int]]) -> list[str]:
        """Places as (number of the source, line) in words: file:line."""
        return [f"{self.sources[source]}:{line}" for source, line in places]


class Places:
    """How many times something was found, and where at first."""

    @classmethod
    def of(cls, *several: "Places") -> "Places":
        """Several in one."""
        made = cls()
        made.count = sum(places.count for places in several)
        made.first = [place for places in several for place in places.first][:_MOST_PLACES]
        return made

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, found: Located) -> None:
        """Once more."""
        self.count += 1
        if len(self.first) < _MOST_PLACES:
            self.first.append(f"{found.source}:{found.line}")


class Sample:
    """Evenly spread examples of a stream whose length is not known: every n-th, n doubling as it fills."""

    def __init__(self) -> None:
        self.kept: list[tuple[Located, int]] = []
        self._step, self._count, self._bytes = 1, 0, 0

    @property
    def examples(self) -> tuple[Located, ...]:
        """Those kept."""
        return tuple(found for found, _ in self.kept)

    def add(self, found: Located, size: int) -> None:
        """The next example; it takes `size` bytes."""
        if self._count % self._step == 0:
            self.kept.append((found, size))
            self._bytes += size
        self._count += 1
        while len(self.kept) > 1 and (len(self.kept) > _MOST_SAMPLED or self._bytes > _MOST_SAMPLED_BYTES):
            self.kept = self.kept[::2]
            self._step *= 2
            self._bytes = sum(size for _, size in self.kept)


def _shortened(found: Rejected) -> Rejected:
    """The rejected row, its content cut where keeping a thousand such would fill the memory."""
    written = repr(found.row)
    if len(written) <= _MOST_SHOWN:
        return found
    return Rejected(found.source, found.line, found.reason, written[:_MOST_SHOWN] + "…")


def _may_have_control(written: bytes) -> bool:
    """A look at an example's JSON that most are done with: only these bytes can stand for a control character."""
    return b"\\u00" in written or b"\\b" in written or b"\\f" in written or b"\x7f" in written or b"\xc2" in written


def _has_control(value: Any) -> bool:
    if isinstance(value, str):
        return _CONTROL.search(value) is not None
    if isinstance(value, Mapping):
        return any(map(_has_control, value.values()))
    return isinstance(value, list) and any(map(_has_control, value))


def _equal_pair(example: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Whether both answers of a pair are the same; `before` is the other example of the same row (kto)."""
    if before is not None and "label" in example:
        return bool(example["completion"] == before["completion"] and example["label"] != before["label"])
    chosen = example.get("chosen")
    # Among what a prompt carries along, the names say nothing.
    return (isinstance(chosen, list) or "prompt" not in example) and chosen is not None and \
        bool(chosen == example.get("rejected"))


def findings_of(train: Scan, held_out: Scan) -> tuple[int, tuple[Finding, ...]]:
    """(duplicates among the training examples, everything found)."""
    duplicates, again = train.seen.repeated(_MOST_PLACES)
    overlap, shared = held_out.seen.shared(train.seen, _MOST_PLACES)
    about = "About " if train.seen.scale > 1 else ""
    both = [Places.of(train.equal, held_out.equal), Places.of(train.control, held_out.control)]
    found: list[tuple[FindingId, int, str, str, list[str]]] = [
        ("duplicates", duplicates, f"{about}{_rows(duplicates, 'repeats', 'repeat')} an earlier row word for word",
         "Repeated rows are learned more than others, and an eval_fraction may put one copy on each side.",
         train.named(again)),
        ("equal-pair", both[0].count, f"{_rows(both[0].count, 'has', 'have')} the same chosen and rejected answer",
         "Nothing can be learned from such a pair.", both[0].first),
        ("control-characters", both[1].count, f"{_rows(both[1].count, 'has', 'have')} control characters in the text",
         "They cannot be seen, such as the codes of terminal colours, and the model learns to write them.",
         both[1].first),
        ("eval-overlap", overlap, f"{about}{_rows(overlap, 'is', 'are')} in the evaluation data and in the training "
         "data",
         "An evaluation on rows that were trained on measures memory.", held_out.named(shared)),
    ]
    return duplicates, (*_rejected(train, held_out), *(
        Finding(name, count, f"{words}: {_listed(count, places[:_MOST_NAMED])}.", hint, tuple(places))
        for name, count, words, hint, places in found if count))


def _rejected(train: Scan, held_out: Scan) -> tuple[Finding, ...]:
    rejected = [*train.rejected, *held_out.rejected]
    if not rejected:
        return ()
    count = train.rejected_count + held_out.rejected_count
    places = tuple(f"{row.source}:{row.line}" for row in rejected[:_MOST_PLACES])
    more = f" ({_rows(count - 1, 'more cannot', 'more cannot')} be used)" if count > 1 else ""
    return (Finding("rejected-rows", count, f"{places[0]}: {rejected[0].reason}{more}.",
                    "Rows that a run sets aside are kept in its rejected_rows.jsonl.", places),)


def _rows(count: int, one: str, several: str) -> str:
    return f"{count:,} row {one}" if count == 1 else f"{count:,} rows {several}"


def _listed(count: int, places: list[str]) -> str:
    return ", ".join(places) + (", …" if count > len(places) else "")
