"""A conversation with one model or two: the same prompts, each side with its own answers."""

from dataclasses import dataclass, field
from typing import Literal

from workbench.engine.chat_client import Message, Side

Finish = Literal["stop", "length", "cancelled"]
_STOPPED_BY = {"stop": "EOS", "length": "length limit", "cancelled": "you"}


@dataclass
class Answer:
    """One side's answer, growing while it is generated; `statistics` is empty until it is done."""

    text: str = ""
    statistics: str = ""
    failure: str = ""


@dataclass
class Turn:
    """A prompt and what each side answered."""

    prompt: str
    answers: dict[Side, Answer] = field(default_factory=dict)


@dataclass
class Conversation:
    """The turns so far."""

    turns: list[Turn] = field(default_factory=list)

    def messages(self, side: Side, index: int) -> list[dict[str, str]]:
        """What a model is given to answer turn `index`: its own earlier answers between the prompts."""
        messages = []
        for turn in self.turns[:index]:
            answer = turn.answers.get(side)
            if answer is not None and answer.text:
                messages += [{"role": "user", "content": turn.prompt}, {"role": "assistant", "content": answer.text}]
        return [*messages, {"role": "user", "content": self.turns[index].prompt}]

    def unanswered(self, side: Side) -> list[int]:
        """The turns that this side has not answered, oldest first."""
        return [index for index, turn in enumerate(self.turns) if side not in turn.answers]


def statistics(done: Message) -> str:
    """A `done` answer's figures in a line: `34 tokens · first 0.12 s · 96 tok/s · stopped by EOS`."""
    tokens = done["tokens"]
    parts = [f"{tokens} token{'' if tokens == 1 else 's'}"]
    if done["time_to_first_token"] is not None:
        parts.append(f"first {done['time_to_first_token']:.2f} s")
    if done["tokens_per_second"] is not None:
        parts.append(f"{done['tokens_per_second']:.0f} tok/s")
    return " · ".join([*parts, f"stopped by {_STOPPED_BY[done['finish']]}"])
