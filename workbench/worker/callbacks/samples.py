"""The same prompts, answered again and again while the model learns."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.tokenization_utils_base import BatchEncoding, PreTrainedTokenizerBase

from workbench.engine.recipe import SampleSettings
from workbench.worker.callbacks.stopwatch import Stopwatch
from workbench.worker.reporter import Reporter

# Prompts answered at once: bounds the KV cache, which the estimate does not know.
_BATCH = 8


class SamplesCallback(TrainerCallback):
    """Answers the prompts at step 0, at every sampling step, on request and at the end.

    `chat` asks each prompt as a user's message. Without it the text is simply continued, as by what was trained on bare
    text: general fine-tuning and response tuning. `rows` are held-out ones, for callbacks that look at some.
    """

    def __init__(self, settings: SampleSettings, tokenizer: PreTrainedTokenizerBase, reporter: Reporter,
                 stopwatch: Stopwatch, seed: int, chat: bool = True) -> None:
        self._settings = settings
        self._tokenizer = tokenizer
        self._reporter = reporter
        self._stopwatch = stopwatch
        self._seed = seed
        self._chat = chat
        self._last_step = -1
        self._asked = False
        self._pausing = False
        self.rows: Iterable[dict[str, Any]] = ()

    def ask(self) -> None:
        """Sample after the current step."""
        self._asked = True

    def go_on_from(self, step: int) -> None:
        """What was sampled at this step is there; at the last one its worker may have died before it did."""
        self._last_step = step if self._reporter.said(f'"type":"sample","step":{step},') else -1

    def pause(self) -> None:
        """The end of training will not be its end."""
        self._pausing = True

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                       model: PreTrainedModel | None = None, **kwargs: Any) -> None:
        """What the model says before it has learned anything."""
        if state.global_step == 0:
            self._sample(model, 0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                    model: PreTrainedModel | None = None, **kwargs: Any) -> None:
        """Sample when it is time or somebody asked."""
        every = self._settings.every_steps
        if self._asked or (every and state.global_step % every == 0):
            self._asked = False
            self._sample(model, state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                     model: PreTrainedModel | None = None, **kwargs: Any) -> None:
        """What the model says now."""
        if not self._pausing:
            self._sample(model, state.global_step)

    def _sample(self, model: PreTrainedModel | None, step: int) -> None:
        if model is None or step == self._last_step:
            return
        self._last_step = step
        with self._stopwatch.pause():
            prompts, texts = self._ask(model)
        if prompts:
            self._reporter.samples(step, prompts, texts)

    def _ask(self, model: PreTrainedModel) -> tuple[list[str], list[str]]:
        """(prompts, answers)."""
        prompts, texts = list(self._settings.prompts), list[str]()
        for first in range(0, len(prompts), _BATCH):
            texts += answer(model, self._tokenizer, prompts[first:first + _BATCH], seed=self._seed, chat=self._chat,
                            max_new_tokens=self._settings.max_new_tokens, temperature=self._settings.temperature)
        return prompts, texts


def answer_first(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: SampleSettings,
                 chat: bool = True) -> None:
    """Answer the first batch of prompts at full length, for the memory it takes."""
    answer(model, tokenizer, list(settings.prompts[:_BATCH]), max_new_tokens=settings.max_new_tokens,
           min_new_tokens=settings.max_new_tokens, temperature=settings.temperature, seed=0, chat=chat)


def answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], *, max_new_tokens: int,
           temperature: float, seed: int, min_new_tokens: int = 0, chat: bool = True) -> list[str]:
    """One answer per prompt, generated as one left-padded batch; the training's random state is left as it was."""
    inputs = _inputs(tokenizer, prompts, chat).to(model.device)
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []), evaluating(model):
        torch.manual_seed(seed)
        # Of a model that diverged nothing could be drawn, and on a GPU the failure would take the device with it: that
        # its loss is no number is said in its place, at the next log.
        output = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], **sampling,
                                max_new_tokens=max_new_tokens, use_cache=True, min_new_tokens=min_new_tokens or None,
                                pad_token_id=tokenizer.pad_token_id, remove_invalid_values=True)
    new_tokens = output[:, inputs["input_ids"].shape[1]:]
    return [text.strip() for text in tokenizer.batch_decode(new_tokens, skip_special_tokens=True)]


def _inputs(tokenizer: PreTrainedTokenizerBase, prompts: list[str], chat: bool) -> BatchEncoding:
    if not chat:
        return tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    inputs: BatchEncoding = tokenizer.apply_chat_template(
        [[{"role": "user", "content": prompt}] for prompt in prompts], add_generation_prompt=True, return_dict=True,
        return_tensors="pt", padding=True, tokenizer_kwargs={"padding_side": "left"})
    return inputs


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """The model in evaluation mode and without gradients, afterwards as it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)
