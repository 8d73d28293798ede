"""What scores answers in reinforcement learning, as functions in trl's form: one number for each completion."""

import importlib.util
import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import InputError
from workbench.engine.rewards import RewardSource, reward_source
from workbench.engine.text import one_line
from workbench.worker.adapters import check_artefact, put_on
from workbench.worker.loading import load_model, load_tokenizer

Reward = Callable[..., list[float | None]]
ANSWER_COLUMNS = ("answer", "solution")
# Conversations scored at once: bounds the activations beside the trained model.
_BATCH = 16


class LazyReward:
    """One entry of `rlhf.reward`, called as trl calls reward functions. Nothing of it is loaded or run before `load`:
    a trainer is also built to be rehearsed, or to show its data."""

    def __init__(self, reference: str, name: str, columns: Sequence[str], device: torch.device,
                 dtype: torch.dtype) -> None:
        """`name` is for its metrics; `columns` are those of the rows beside the prompt."""
        self.__name__ = name  # where trl looks for it
        self._reference, self._columns, self._device, self._dtype = reference, columns, device, dtype
        self._score: Reward | None = None

    def load(self) -> None:
        """Make it ready. Raises InputError."""
        if self._score is None:
            self._score = self._loaded(reward_source(self._reference))

    def __call__(self, **columns: Any) -> list[float | None]:
        """One score for each of `completions`."""
        self.load()
        assert self._score is not None
        return self._score(**columns)

    def _loaded(self, source: RewardSource) -> Reward:
        if source.kind == "function":
            return _Checked(_loaded(source), source)
        if source.kind == "model":
            assert source.path is not None
            return RewardModel(source.path, self._device, self._dtype)
        if source.kind == "exact-match":
            return _exact_match(self._columns)
        if source.kind == "regex":
            pattern = re.compile(source.value)
            return _by_text(lambda text: float(pattern.search(text) is not None))
        if source.kind == "length":
            wanted = int(source.value)
            return _by_text(lambda text: max(0.0, 1 - abs(len(text) - wanted) / wanted))
        return _by_text(_is_json)


def text_of(completion: Any) -> str:
    """An answer's text: trl gives a list of messages where the prompt is one."""
    return completion if isinstance(completion, str) else "".join(message["content"] for message in completion)


def _by_text(score: Callable[[str], float]) -> Reward:
    return lambda completions, **_: [score(text_of(completion).strip()) for completion in completions]


def _is_json(text: str) -> float:
    """1 for a JSON object or array: a bare number or string is what any answer may be by chance."""
    try:
        return float(isinstance(json.loads(text), dict | list))
    except (ValueError, RecursionError):
        return 0.0


def _exact_match(columns: Sequence[str]) -> Reward:
    name = next((name for name in ANSWER_COLUMNS if name in columns), None)
    if name is None:
        raise InputError("The reward exact-match compares with a column `answer` or `solution`, and the rows have "
                          f"{', '.join(f'`{column}`' for column in columns)}.", "Map it: dataset.columns: {answer: …}.")

    def score(completions: Sequence[Any], **rows: Any) -> list[float | None]:
        return [float(text_of(completion).strip() == str(wanted).strip())
                for completion, wanted in zip(completions, rows[name], strict=True)]
    return score


def _loaded(source: RewardSource) -> Callable[..., Any]:
    assert source.path is not None
    spec = importlib.util.spec_from_file_location(f"_reward_{source.path.stem}", source.path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickles look a module up by its name.
    sys.modules[spec.name] = module
    # Last, so that nothing beside the file stands in the way of a library.
    if (folder := str(source.path.parent)) not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise InputError(f"{source.path} cannot be loaded: {_told(error)}") from error
    function = getattr(module, source.value, None)
    if not callable(function):
        there = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        raise InputError(f"{source.path} has no function {source.value}.",
                         f"It has: {', '.join(there)}." if there else "Name one that is defined there.")
    return function  # type: ignore[no-any-return]


class _Checked:
    """A user's function: whatever goes wrong in it is one sentence that names it."""

    def __init__(self, function: Callable[..., Any], source: RewardSource) -> None:
        self._function = function
        self._where = f"The reward function {source.value} in {source.path}"

    def __call__(self, **columns: Any) -> list[float | None]:
        try:
            scores = self._function(**columns)
        except (Exception, SystemExit) as error:  # the user's own code may raise anything
            raise InputError(f"{self._where} failed: {_told(error)}",
                              "It is called with prompts, completions and the rows' columns, each a list: take those "
                              "that you do not use as **rest.") from error
        wanted = len(columns["completions"])
        hint = "It returns a list with one number, or None, for each completion."
        if not isinstance(scores, list | tuple):
            raise InputError(f"{self._where} returned {type(scores).__name__}, not a list.", hint)
        if len(scores) != wanted:
            raise InputError(f"{self._where} returned {len(scores)} rewards for {wanted} completions.", hint)
        return [self._number(score, hint) for score in scores]

    def _number(self, score: Any, hint: str) -> float | None:
        if score is None:
            return None
        try:
            number = float(score)
        except (TypeError, ValueError):
            raise InputError(f"{self._where} returned {one_line(repr(score), 60)} as a reward.", hint) from None
        if not math.isfinite(number):
            raise InputError(f"{self._where} returned {number} as a reward.", hint)
        return number


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(str(error), 200)}"


class RewardModel:
    """A reward model: a sequence classifier with one label, or an adapter of one on its base."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        """Load what the reward objective, or trl's RewardTrainer, wrote. Raises InputError or RunError."""
        source = resolve_model(str(folder))
        check_artefact(source)
        model = load_model(source, dtype=dtype, device=device, rewards=True)
        self.model = model if source.adapter is None else put_on(model, source.adapter, source.label)
        self.tokenizer, _ = load_tokenizer(source)
        self.model.config.get_text_config().pad_token_id = self.tokenizer.pad_token_id
        self.model.eval().requires_grad_(False)

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float | None]:
        """The scores of the answers."""
        return list(scores(self.model, self.tokenizer, [prompt + completion for prompt, completion
                                                         in zip(prompts, completions, strict=True)]))


def scores(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Any]) -> list[float]:
    """A reward model's score of each conversation (a list of messages) or text, which ends as trl's RewardTrainer lets
    it end."""
    found: list[float] = []
    for first in range(0, len(conversations), _BATCH):
        texts = [_rendered(text, tokenizer) for text in conversations[first:first + _BATCH]]
        rendered = not isinstance(conversations[0], str)
        inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right",
                           add_special_tokens=not rendered).to(model.device)
        with torch.inference_mode():
            found += model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, 0].tolist()
    return found


def _rendered(conversation: Any, tokenizer: PreTrainedTokenizerBase) -> str:
    if isinstance(conversation, str):
        end = str(tokenizer.eos_token)
        return conversation if conversation.endswith(end) else conversation + end
    return str(tokenizer.apply_chat_template(conversation, tokenize=False))
