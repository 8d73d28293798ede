"""Chat: a base with its adapter, or a trained model beside its base, and answers streamed token by token."""

import gc
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel
from transformers.generation.streamers import BaseStreamer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from workbench.engine.catalog.models import ModelSource, read_config, resolve_model
from workbench.engine.chat_conversation import Finish
from workbench.engine.chat_target import ChatTarget
from workbench.engine.errors import InputError, RunError
from workbench.engine.runs.manifest import verify
from workbench.worker.adapters import put_on, refuse_strange_adapter
from workbench.worker.loading import load_model, load_tokenizer, pick_device, pick_dtype

_REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Reply:
    """A finished answer. Times in seconds; `tokens_per_second` counts the tokens after the first."""

    text: str
    tokens: int
    time_to_first_token: float | None
    tokens_per_second: float | None
    finish: Finish


class ChatModel:
    """A target that is loaded and answers as it was trained ("tuned"), or as it was before ("base")."""

    def __init__(self, target: ChatTarget, progress: Callable[[str], None]) -> None:
        """Load it. Raises InputError or RunError for what is damaged, missing or would run code."""
        self._target = target
        self._progress = progress
        self._device = pick_device()
        self._dtype = pick_dtype("auto", self._device)
        self._check_trained()
        self._tokenizer = self._load_tokenizer()
        self._models: dict[str, PreTrainedModel | PeftModel] = {}
        if target.model is not None:
            self._models["tuned"] = self._load(ModelSource(target.title, "folder", target.model,
                                                           read_config(target.model)))
        elif target.adapter is not None:
            self._models["tuned"] = self._models["base"] = self._load_adapter(target.adapter)
        else:
            self._models["base"] = self._load(resolve_model(target.base))

    @property
    def titles(self) -> dict[str, str]:
        """The sides there are, and what to call each."""
        tuned = {"tuned": self._target.title} if self._target.trained is not None else {}
        return {**tuned, "base": self._target.base_title}

    @property
    def device(self) -> str:
        """Where it computes, and in what precision."""
        return f"{self._device.type} {str(self._dtype).removeprefix('torch.')}"

    def reply(self, messages: list[dict[str, str]], side: str, *, max_new_tokens: int, temperature: float,
              top_p: float | None, seed: int, on_text: Callable[[str], None],
              cancelled: Callable[[], bool]) -> Reply:
        """Answer a conversation; `on_text` gets the pieces as they come, `cancelled` is asked at every token."""
        began = time.perf_counter()
        model = self._side(side)
        inputs = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True,
                                                     return_tensors="pt").to(self._device)
        room = self._room(inputs["input_ids"].shape[1])
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, **({"top_p": top_p} if top_p else {})}
        ends = self._end_tokens(model)
        stream = _TokenStream(self._tokenizer, on_text, cancelled)
        torch.manual_seed(seed)
        is_base_under_adapter = side == "base" and isinstance(model, PeftModel)
        with torch.inference_mode(), model.disable_adapter() if is_base_under_adapter else nullcontext():
            try:
                model.generate(**inputs, **sampling, max_new_tokens=min(max_new_tokens, room), use_cache=True,
                               eos_token_id=ends, pad_token_id=self._tokenizer.pad_token_id, streamer=stream)
                finish: Finish = "stop" if stream.tokens and stream.tokens[-1] in ends else "length"
            except _CancelledError:
                finish = "cancelled"
        text = self._tokenizer.decode(stream.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Reply(text.strip(), len(stream.tokens), *stream.pace(began), finish)

    def close(self) -> None:
        """Free the memory that the weights take."""
        self._models.clear()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _side(self, side: str) -> PreTrainedModel | PeftModel:
        if side not in self.titles:
            raise InputError(f"{self._target.title} has no side called {side!r}.")
        if side not in self._models:
            self._progress(f"loading {self._target.base_title} to compare with")
            self._models[side] = self._load(resolve_model(self._target.base))
        return self._models[side]

    def _load(self, source: ModelSource) -> PreTrainedModel:
        self._progress(f"loading {source.name}")
        quantization = self._target.quantization if source.path != self._target.model else None
        return load_model(source, dtype=self._dtype, device=self._device, quantization=quantization).eval()

    def _load_adapter(self, adapter: Path) -> PeftModel:
        base = self._load(resolve_model(self._target.base))
        return put_on(base, adapter, self._target.title).eval()

    def _load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The one that was saved with the training, for it has the template that was trained on."""
        trained = self._target.trained
        if trained is not None and (trained / "tokenizer_config.json").is_file():
            config = read_config(trained) if (trained / "config.json").is_file() else {}
            return load_tokenizer(ModelSource(self._target.title, "folder", trained, config))[0]
        return load_tokenizer(resolve_model(self._target.base))[0]

    def _check_trained(self) -> None:
        trained = self._target.trained
        if trained is None:
            return
        if self._target.verified_by_manifest and (fault := verify(trained)) is not None:
            raise RunError(f"{trained} is not loaded: {fault}.", "Chat with another checkpoint: RUN:step.")
        if self._target.adapter is not None:
            refuse_strange_adapter(self._target.adapter)

    def _end_tokens(self, model: PreTrainedModel | PeftModel) -> list[int]:
        own = model.generation_config.eos_token_id
        ends = own if isinstance(own, list) else [own]
        return sorted({end for end in (*ends, self._tokenizer.eos_token_id) if end is not None})

    def _room(self, prompt_tokens: int) -> int:
        """Tokens that an answer may have before the context is full."""
        config = next(iter(self._models.values())).config.get_text_config()
        context = getattr(config, "max_position_embeddings", None)
        if context is None:
            return 1 << 30
        if prompt_tokens >= context:
            raise InputError(f"The conversation has {prompt_tokens} tokens, and {self._target.title} reads at most "
                             f"{context}.", "Start a new conversation.")
        return int(context) - prompt_tokens


class _CancelledError(Exception):
    """Raised through `generate` between two tokens."""


class _TokenStream(BaseStreamer):
    """Takes tokens from `generate`, gives text whose characters are complete."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: Callable[[str], None],
                 cancelled: Callable[[], bool]) -> None:
        self._tokenizer = tokenizer
        self._on_text = on_text
        self._cancelled = cancelled
        self._seen_prompt = False
        # Text is known up to `_read`; the tokens from `_context` on are decoded with the next ones, because what a
        # token says can depend on those before it (spaces, characters of several bytes).
        self._context = self._read = 0
        self._first = self._last = 0.0
        self.tokens: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        """The prompt first, then one token at a time."""
        if not self._seen_prompt:
            self._seen_prompt = True
        else:
            self._last = time.perf_counter()
            self._first = self._first or self._last
            self.tokens += value.flatten().tolist()
            self._say(final=False)
        if self._cancelled():
            raise _CancelledError

    def end(self) -> None:
        """Give what was held back."""
        self._say(final=True)

    def pace(self, began: float) -> tuple[float | None, float | None]:
        """Seconds from `began` to the first token, and tokens a second after it."""
        if not self.tokens:
            return None, None
        later = len(self.tokens) - 1
        return self._first - began, later / (self._last - self._first) if later else None

    def _say(self, final: bool) -> None:
        before = self._decode(self.tokens[self._context:self._read])
        now = self._decode(self.tokens[self._context:])
        if len(now) > len(before) and (final or not now.endswith(_REPLACEMENT)):
            self._context, self._read = self._read, len(self.tokens)
            self._on_text(now[len(before):])

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
