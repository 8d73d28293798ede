"""What planning needs to know of a dataset: rows, characters, tokens, and a fingerprint; read once per version."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import xxhash

from workbench.engine.data.conversations import read_conversations
from workbench.engine.data.formats import Format
from workbench.engine.data.values import Message

# Enough rows for a mean within about 2 %, few enough to tokenise in a blink.
_TOKEN_SAMPLE = 2000


@dataclass(frozen=True)
class DatasetFacts:
    """A local dataset at a glance. `fingerprint` is the xxh3-128 of the file."""

    path: Path
    format: Format
    rows: int
    fingerprint: str
    sample: tuple[tuple[Message, ...], ...] = field(compare=False, repr=False)
    """Evenly spaced rows."""


@dataclass(frozen=True)
class TokenFacts:
    """Tokens of the text in a row, chat template not counted: mean and maximum over a sample of the rows."""

    mean: float
    longest: int


def dataset_facts(path: Path, max_rows: int | None) -> DatasetFacts:
    """Read a local dataset, or recall it when the file has not changed. Raises DataError naming the bad line."""
    stat = path.stat()
    return _facts(path, max_rows, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _facts(path: Path, max_rows: int | None, modified: int, size: int) -> DatasetFacts:
    conversations = read_conversations(path, max_rows)
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    step = max(len(conversations.rows) // _TOKEN_SAMPLE, 1)
    return DatasetFacts(path, conversations.format, len(conversations.rows), digest.hexdigest(),
                        conversations.rows[::step])


def token_facts(facts: DatasetFacts, model_folder: Path | None) -> TokenFacts | None:
    """Count with the model's own tokenizer; None when its tokenizer.json is not on this disk."""
    if model_folder is None or not (model_folder / "tokenizer.json").is_file():
        return None
    return _count(facts, model_folder / "tokenizer.json")


@lru_cache(maxsize=8)
def _count(facts: DatasetFacts, tokenizer_file: Path) -> TokenFacts | None:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except Exception:  # the library raises a bare Exception for a file it cannot read
        return None
    texts = ["".join(message["content"] for message in row) for row in facts.sample]
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    return TokenFacts(sum(lengths) / len(lengths), max(lengths))
