"""The corpus: an endless, seeded stream of documents, half plain text and half conversations."""

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from workbench.worker.tiny_base import puzzles, questions
from workbench.worker.tiny_base.grammar import Scene
from workbench.worker.tiny_base.prose import PROSE, story
from workbench.worker.tiny_base.questions import Pair
from workbench.worker.tiny_base.records import blocks

CHAT_SHARE = 0.62
"""Share of documents that are conversations; they are shorter than plain text, so about half of the tokens."""

_SYSTEM = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "Answer in short sentences.",
    "You are a friendly assistant who answers simple questions.",
    "Be brief and clear.",
    "You answer questions about everyday things.",
)
_ASK = (
    "{}",
    "{}",
    "{}",
    "{}",
    "{}",
    "{}",
    "I have a question. {}",
    "Please answer: {}",
    "Hello! {}",
    "Tell me: {}",
)
_STORY = (
    "Tell me a story.",
    "Can you tell me a short story?",
    "Write a short story.",
    "Please tell me a story.",
)

_HOLDABLE: tuple[tuple[Callable[[random.Random], Pair], int], ...] = (
    (questions.about_thing, 19),
    (questions.about_animal, 11),
    (questions.about_food, 6),
    (questions.about_job, 6),
    (questions.about_place, 5),
    (puzzles.word_facts, 5),
    (puzzles.arithmetic, 7),
    (puzzles.calendar, 3),
    (puzzles.reading, 8),
    (puzzles.field_terms, 6),
)
_FIXED: tuple[tuple[Callable[[random.Random], Pair], int], ...] = (
    (questions.about_term, 17),
    (questions.why, 9),
    (questions.how, 10),
    (questions.when, 7),
    (questions.difference, 8),
    (questions.fixed, 11),
    (questions.world_facts, 4),
    (puzzles.unknown_word, 4),
    (puzzles.echo, 7),
)


@dataclass(frozen=True)
class Document:
    """One training document: plain `text`, or `messages` of a conversation; exactly one is set."""

    text: str = ""
    messages: tuple[tuple[str, str], ...] = ()

    def as_chat(self) -> list[dict[str, str]]:
        """The messages as a chat template takes them."""
        return [{"role": role, "content": content} for role, content in self.messages]


def is_held_out(question: str) -> bool:
    """Whether a question is kept for validation: one in 25, by its text alone, in every run."""
    return zlib.crc32(question.encode()) % 25 == 0


def _pair(rng: random.Random, held_out: bool) -> Pair:
    table = _HOLDABLE if held_out else _HOLDABLE + _FIXED
    makers, weights = zip(*table, strict=True)
    while True:
        maker = rng.choices(makers, weights)[0]
        pair: Pair = maker(rng)
        if held_out and pair[0] in questions.fixed_questions():
            continue
        holdable = any(maker is known for known, _ in _HOLDABLE)
        if is_held_out(pair[0]) == held_out or not holdable:
            return pair


def conversation(rng: random.Random, held_out: bool = False) -> Document:
    """One to three questions with their answers, sometimes after a system message."""
    messages: list[tuple[str, str]] = []
    if rng.random() < 0.2:
        messages.append(("system", rng.choice(_SYSTEM)))
    if not held_out and rng.random() < 0.03:
        messages += [("user", rng.choice(_STORY)), ("assistant", story(rng))]
        return Document(messages=tuple(messages))
    if not held_out and rng.random() < 0.02:
        template = rng.choice([block for block in blocks("stories") if "{pet}" in block])
        text = Scene(rng).fill(template)
        messages += [("user", "Tell me a story about an animal."), ("assistant", text)]
        return Document(messages=tuple(messages))
    for _ in range(rng.choices((1, 2, 3), (7, 2, 1))[0]):
        question, answer = _pair(rng, held_out)
        messages += [("user", rng.choice(_ASK).format(question)), ("assistant", answer)]
    return Document(messages=tuple(messages))


def plain(rng: random.Random) -> Document:
    """A story, a description, an explanation, a list: text without roles."""
    makers, weights = zip(*PROSE, strict=True)
    return Document(text=rng.choices(makers, weights)[0](rng))


def documents(seed: int, held_out: bool = False) -> Iterator[Document]:
    """Documents without end; the same seed gives the same documents.

    With `held_out`, only conversations whose questions training never sees (their facts may occur there in
    other words).
    """
    rng = random.Random(seed)
    while True:
        if held_out or rng.random() < CHAT_SHARE:
            yield conversation(rng, held_out)
        else:
            yield plain(rng)
