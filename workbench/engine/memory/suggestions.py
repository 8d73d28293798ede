"""What to change so that a run fits, in the order of what it costs the user: first what only costs time."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.comparison import Fit, case_for, judge
from workbench.engine.memory.estimate import Estimator, estimate_memory
from workbench.engine.memory.fitting import longest_max_length_of

# Changes that save less than this share of the peak are no help worth a sentence.
_WORTH = 0.01
_ENOUGH = 3
# Rows are cut to round lengths, and to a quarter of what was asked for at most: below, it is another task.
_LENGTH_STEP, _SHORTEST_SHARE = 64, 0.25


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Changes that make a run smaller: dotted recipe keys with their new values, in words, and what comes of them."""

    changes: tuple[tuple[str, Any], ...]
    words: str
    peak_bytes: int
    fit: Fit


@dataclass(frozen=True, slots=True)
class _Change:
    case: MemoryCase
    changes: tuple[tuple[str, Any], ...] = ()
    words: tuple[str, ...] = ()

    def then(self, other: "_Change") -> "_Change":
        """This change, and `other`, which was made on top of it."""
        return _Change(other.case, (*self.changes, *other.changes), (*self.words, *other.words))


_Rule = Callable[[Architecture, MemoryCase, float], _Change | None]


def suggest(architecture: Architecture, case: MemoryCase, budget_bytes: float) -> tuple[Suggestion, ...]:
    """What would make the case fit into `budget_bytes` of the allocator, cheapest first; nothing when it fits already.

    A change that is not enough alone is kept for the next ones to build on; a cheaper tuning starts anew. The list ends
    with the third change that fits, or the first cheaper tuning that does. Raises InputError for a case that cannot be
    estimated.
    """
    found = _ladder(architecture, _Change(case), budget_bytes, _ENOUGH)
    for change in _cheaper_tunings(case):
        if sum(suggestion.fit == "fits" for suggestion in found) == _ENOUGH or not found:
            break
        found += _ladder(architecture, change, budget_bytes, 1)
        if found[-1].fit == "fits":
            break
    return tuple(suggestion for suggestion in found if suggestion.changes)


def _ladder(architecture: Architecture, start: _Change, budget: float, enough: int) -> list[Suggestion]:
    """The start itself, then each rule alone where that fits, else on top of those before. Ends with the `enough`th
    that fits; empty when the case as it is fits."""
    found = [_suggestion(architecture, start, budget)]
    if found[0].fit == "fits":
        return found if start.changes else []
    base = start
    for rule in _RULES:
        alone, more = rule(architecture, start.case, budget), rule(architecture, base.case, budget)
        if alone is not None and (made := _suggestion(architecture, start.then(alone), budget)).fit == "fits":
            found.append(made)
        elif more is not None:
            made = _suggestion(architecture, base.then(more), budget)
            if made.peak_bytes > (1 - _WORTH) * found[-1].peak_bytes:
                continue
            base = base.then(more)
            found.append(made)
        if sum(suggestion.fit == "fits" for suggestion in found) == enough:
            break
    return found


def _suggestion(architecture: Architecture, change: _Change, budget: float) -> Suggestion:
    estimate = estimate_memory(architecture, change.case)
    words = " + ".join(change.words)
    return Suggestion(change.changes, words[:1].upper() + words[1:], estimate.peak_bytes,
                      judge(estimate, int(budget), 0))


def _cheaper_tunings(case: MemoryCase) -> tuple[_Change, ...]:
    """Full becomes LoRA, LoRA becomes QLoRA."""
    lora = _Change(case_for(case, "lora"), (("tuning", "lora"),), ("LoRA in place of full fine-tuning",))
    qlora = _Change(case_for(case, "qlora"), (("tuning", "qlora"),), ("QLoRA, the frozen base in 4 bits (slower)",))
    return {"full": (lora, qlora), "lora": (qlora,)}.get(case.tuning, ())


def _checkpointing(architecture: Architecture, case: MemoryCase, budget: float) -> _Change | None:
    if case.gradient_checkpointing:
        return None
    return _Change(replace(case, gradient_checkpointing=True), (("training.gradient_checkpointing", True),),
                   ("gradient checkpointing (about a third slower)",))


def _accumulation(architecture: Architecture, case: MemoryCase, budget: float) -> _Change | None:
    """The largest smaller batch that fits and keeps the effective one; 1 where none fits."""
    batch, effective = case.per_device_train_batch_size, case.per_device_train_batch_size * \
        case.gradient_accumulation_steps
    if batch == 1:
        return None
    estimator = Estimator(architecture, replace(case, gradient_accumulation_steps=effective))
    smaller = [size for size in range(batch - 1, 0, -1) if effective % size == 0]
    size = next((s for s in smaller if estimator.high_bytes(s, case.max_length) <= budget), 1)
    steps = effective // size
    return _Change(
        replace(case, per_device_train_batch_size=size, gradient_accumulation_steps=steps),
        (("training.per_device_train_batch_size", size), ("training.gradient_accumulation_steps", steps)),
        (f"micro-batches of {size}, {steps} a step (the same {effective} rows)",),
    )


def _fused_loss(architecture: Architecture, case: MemoryCase, budget: float) -> _Change | None:
    if case.loss_kernel not in ("full_logits", "unsloth"):
        return None
    return _Change(replace(case, loss_kernel="fused"), (("loss_kernel", "fused"),),
                   ("trl's fused loss, which never holds all logits",))


def _eight_bit_optimizer(architecture: Architecture, case: MemoryCase, budget: float) -> _Change | None:
    if "8bit" in case.optim or "4bit" in case.optim or case.optim in ("sgd", "adafactor"):
        return None
    optim = "lion_8bit" if "lion" in case.optim else "adamw_bnb_8bit"
    return _Change(replace(case, optim=optim), (("training.optim", optim),),
                   (f"8-bit optimizer states ({optim})",))


def _shorter(architecture: Architecture, case: MemoryCase, budget: float) -> _Change | None:
    longest = longest_max_length_of(Estimator(architecture, case), budget, case.max_length) or 0
    length = longest // _LENGTH_STEP * _LENGTH_STEP
    if not _SHORTEST_SHARE * case.max_length <= length < case.max_length:
        return None
    return _Change(replace(case, max_length=length), (("training.max_length", length),),
                   (f"rows of at most {length:,} tokens (longer ones are cut)",))


_RULES: tuple[_Rule, ...] = (_checkpointing, _accumulation, _fused_loss, _eight_bit_optimizer, _shorter)
