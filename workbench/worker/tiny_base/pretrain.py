"""Pre-training: the architecture, fixed-length blocks of whole documents, one loop with a time limit."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.worker.tiny_base.corpus import Document, documents
from workbench.worker.tiny_base.tokenizer import MAX_LENGTH

BLOCK, LONG_BLOCK = 256, 512
TOKENS_PER_STEP = 2048
_WARMUP_STEPS = 60
_LONG_FROM = 0.92
_VALIDATION_BLOCKS = 96
_REPORT_STEPS = 100


@dataclass(frozen=True)
class Validation:
    """Mean loss per token in nats: fresh documents of the corpus, and conversations that were held out."""

    loss: float
    held_out_loss: float

    @property
    def perplexity(self) -> float:
        """exp of the loss on fresh documents."""
        return math.exp(self.loss)

    @property
    def held_out_perplexity(self) -> float:
        """exp of the loss on held-out conversations."""
        return math.exp(self.held_out_loss)


@dataclass(frozen=True)
class Outcome:
    """What a finished pre-training run measured."""

    steps: int
    tokens: int
    seconds: float
    validation: Validation


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A fresh Llama with about 3.7 million parameters, float32. Sizes are multiples of 64, which NF4 needs."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attention_dropout=0.0,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def encode(document: Document, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The document's token ids: rendered by the chat template, or plain text with an end token."""
    if document.messages:
        text = tokenizer.apply_chat_template(document.as_chat(), tokenize=False)
    else:
        text = document.text + str(tokenizer.eos_token)
    ids: list[int] = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def blocks(stream: Iterator[Document], tokenizer: PreTrainedTokenizerFast, length: int) -> Iterator[list[int]]:
    """Blocks of `length` tokens. Each starts with a document; what exceeds a block is dropped, not carried over."""
    block: list[int] = []
    for document in stream:
        block += encode(document, tokenizer)
        if len(block) >= length:
            yield block[:length]
            block = []


def batch(source: Iterator[list[int]], rows: int) -> torch.Tensor:
    """The next `rows` blocks as one tensor of shape (rows, length)."""
    return torch.tensor(list(islice(source, rows)))


@torch.no_grad()
def validate(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> Validation:
    """Losses on documents of another seed and on held-out questions; the same blocks for every call."""
    model.eval()
    losses = []
    for held_out in (False, True):
        source = blocks(documents(seed + 1_000_003, held_out), tokenizer, BLOCK)
        total = 0.0
        for _ in range(_VALIDATION_BLOCKS // 16):
            ids = batch(source, 16)
            total += float(model(input_ids=ids, labels=ids).loss)
        losses.append(total / (_VALIDATION_BLOCKS // 16))
    model.train()
    return Validation(*losses)


def optimizer_for(model: LlamaForCausalLM, learning_rate: float) -> torch.optim.AdamW:
    """AdamW with weight decay on the matrices only."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)


def rate_at(peak: float, step: int, progress: float) -> float:
    """The learning rate: linear warm-up by steps times a cosine by `progress`, the share of time used (0 to 1)."""
    return peak * min(1.0, (step + 1) / _WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * progress))


def _train_step(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, ids: torch.Tensor, rate: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    # float32 weights and optimizer; bfloat16 only inside the products, 1.6 times as fast on CPUs with AVX512-BF16
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def pretrain(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    minutes: float,
    seed: int,
    learning_rate: float,
    save: Callable[[int], None],
    save_every: float = 180.0,
) -> Outcome:
    """Train for `minutes` of wall-clock time; the cosine schedule follows the clock, so every run ends at rate 0.

    `save(step)` is called every `save_every` seconds.
    """
    optimizer = optimizer_for(model, learning_rate)
    stream = documents(seed)
    length = BLOCK
    source = blocks(stream, tokenizer, length)
    start = saved = time.monotonic()
    step = tokens = 0
    running = 0.0
    model.train()
    while (progress := (time.monotonic() - start) / (60 * minutes)) < 1:
        if progress > _LONG_FROM and length == BLOCK:
            length = LONG_BLOCK
            source = blocks(stream, tokenizer, length)
        ids = batch(source, TOKENS_PER_STEP // length)
        rate = rate_at(learning_rate, step, progress)
        running += _train_step(model, optimizer, ids, rate)
        step += 1
        tokens += ids.numel()
        if step % _REPORT_STEPS == 0:
            speed = tokens / (time.monotonic() - start)
            print(
                f"step {step:5d}  {100 * progress:5.1f} %  loss {running / _REPORT_STEPS:.4f}  "
                f"rate {rate:.2e}  {speed:,.0f} tokens/s",
                flush=True,
            )
            running = 0.0
        if time.monotonic() - saved > save_every:
            save(step)
            saved = time.monotonic()
    return Outcome(step, tokens, time.monotonic() - start, validate(model, tokenizer, seed))
