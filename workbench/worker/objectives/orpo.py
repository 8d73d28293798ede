"""Odds-ratio preference optimisation (arXiv 2403.07691) on any mixture of pairs and plain demonstrations.

Our own trainer: loss = NLL(chosen) + lambda * -log sigmoid(log odds ratio). A row without a rejected answer adds the
NLL alone. No reference model: the odds ratio compares the model with itself.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch.nn import functional
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl.trainer.utils import add_fused_lm_head, pad

from workbench.engine.recipe import Recipe
from workbench.worker.loading import adapters_in_float32
from workbench.worker.objectives.answers import tokenized_pairs
from workbench.worker.objectives.common import Rows, lora_config, training_arguments

IGNORED = -100


class PairCollator:
    """Pads rows {prompt_ids, chosen_ids, rejected_ids or None} to one batch: all chosen answers, then the rejected.

    Gives `input_ids`, `attention_mask`, `completion_mask` (rows x tokens; 1 on the answers' tokens) and `paired`: the
    places of those chosen answers that have a rejected one, in order. Rows are cut at `max_length` tokens.
    """

    def __init__(self, pad_token_id: int, max_length: int) -> None:
        self._pad_token_id = pad_token_id
        self._max_length = max_length

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The batch of some rows."""
        paired = [place for place, row in enumerate(rows) if row.get("rejected_ids")]
        answers = [(row["prompt_ids"], row["chosen_ids"]) for row in rows]
        answers += [(rows[place]["prompt_ids"], rows[place]["rejected_ids"]) for place in paired]
        ids = [torch.tensor((prompt + answer)[: self._max_length]) for prompt, answer in answers]
        of_answers = [torch.tensor(([0] * len(prompt) + [1] * len(answer))[: self._max_length])
                      for prompt, answer in answers]
        return {"input_ids": pad(ids, padding_value=self._pad_token_id),
                "attention_mask": pad([torch.ones_like(row) for row in ids], padding_value=0),
                "completion_mask": pad(of_answers, padding_value=0),
                "paired": torch.tensor(paired, dtype=torch.long)}


class OrpoTrainer(Trainer):
    """transformers' Trainer with ORPO's loss; `PairCollator` makes its batches.

    Logs, as means over the micro-batches since the last log: nll_loss; of the pairs log_odds (log odds ratio),
    rewards/accuracies (share whose chosen answer is the likelier), rewards/margins (lambda times the difference of mean
    log-probabilities, as trl's experimental trainer has it) and logps/chosen, logps/rejected; and num_tokens so far.
    """

    def __init__(self, *arguments: Any, orpo_alpha: float = 0.1, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.orpo_alpha = orpo_alpha
        # The loss is a mean over an average micro-batch: Trainer must divide it by the accumulation steps.
        self.model_accepts_loss_kwargs = False
        self.can_return_loss = True  # rows hold no column `labels`, by which Trainer tells whether to evaluate a loss
        # By the prefix of their names: an evaluation may come between two logs of training.
        self._logged: dict[str, dict[str, list[float]]] = {"": defaultdict(list), "eval_": defaultdict(list)}
        self._num_tokens = 0

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int,
                          device: torch.device) -> tuple[list[Any], torch.Tensor | None]:
        """The micro-batches of a step; and the learned tokens of chosen answers and the rows that one has on average:
        over those the loss is a mean, however the step is cut up."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        counts = [[int(batch["attention_mask"][:rows, 1:].sum()), rows] for batch in batches
                  for rows in [len(batch["attention_mask"]) - len(batch["paired"])]]
        return batches, torch.tensor(counts, dtype=torch.float32, device=device).mean(dim=0)

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], return_outputs: bool = False,
                     num_items_in_batch: torch.Tensor | None = None) -> Any:
        """The loss of one batch, and the model's outputs when asked for."""
        attended, of_answers, paired = inputs["attention_mask"], inputs["completion_mask"], inputs["paired"]
        rows = len(attended) - len(paired)
        # A rejected answer's prompt is not learned, and nothing is learned of the padding.
        learned = torch.cat([attended[:rows], of_answers[rows:]])
        outputs = model(input_ids=inputs["input_ids"], attention_mask=attended, use_cache=False, fused_lm_head=True,
                        labels=inputs["input_ids"].masked_fill(learned == 0, IGNORED))
        log_probs = outputs.log_probs
        tokens, of_rows = num_items_in_batch if num_items_in_batch is not None else (learned[:rows, 1:].sum(), rows)
        nll = -log_probs[:rows].sum() / max(tokens, 1)
        loss = nll
        figures = {"nll_loss": nll, "tokens": attended.sum()}
        if len(paired):
            means = _means(log_probs, of_answers[:, 1:])
            chosen, rejected = means[:rows][paired], means[rows:]
            log_odds = _log_odds(chosen) - _log_odds(rejected)
            loss = nll - self.orpo_alpha * functional.logsigmoid(log_odds).sum() / of_rows
            figures |= {"log_odds": log_odds.mean(), "rewards/accuracies": (chosen > rejected).float().mean(),
                        "rewards/margins": self.orpo_alpha * (chosen - rejected).mean(),
                        "logps/chosen": chosen.mean(), "logps/rejected": rejected.mean()}
        self._note(figures)
        return (loss, outputs) if return_outputs else loss

    def _note(self, figures: dict[str, torch.Tensor]) -> None:
        # One transfer from the device for all of them.
        values = torch.stack([figure.detach().float() for figure in figures.values()]).tolist()
        for name, value in zip(figures, values, strict=True):
            if name != "tokens":
                self._logged[self._prefix][name].append(value)
            elif self.model.training:
                self._num_tokens += int(value)

    def prediction_step(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], prediction_loss_only: bool,
                        ignore_keys: list[str] | None = None) -> Any:
        """The loss alone: a batch's log-probabilities are of no use to anyone after it."""
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss.detach(), None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """What Trainer logs, with the figures since the last time."""
        prefix = self._prefix
        logs |= {f"{prefix}{name}": sum(values) / len(values) for name, values in self._logged[prefix].items()}
        if not prefix:
            logs["num_tokens"] = self._num_tokens
        self._logged[prefix].clear()
        super().log(logs, start_time)

    @property
    def _prefix(self) -> str:
        return "" if self.model.training else "eval_"


def _means(log_probs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean log-probability of each row's answer."""
    return (log_probs * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def _log_odds(log_p: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)) from log p, which is below 0."""
    return log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-7)))


def build_trainer(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Rows,
                  held_out: Rows | None, device: torch.device, output_dir: str,
                  callbacks: list[TrainerCallback]) -> OrpoTrainer:
    """Our trainer on rows of `prompt`, `chosen` and perhaps `rejected`, a stream of them too."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    add_fused_lm_head(base)
    if (adapters := lora_config(recipe)) is not None:
        if not isinstance(model, PeftModel):
            model = get_peft_model(model, adapters)
        adapters_in_float32(model)
        if recipe.training.gradient_checkpointing:
            # Checkpointing passes no gradient through blocks whose input asks for none.
            model.enable_input_require_grads()
    return OrpoTrainer(
        model=model,
        # Batches of a stream are not to be gathered and cut up again: `paired` has a length of its own.
        args=TrainingArguments(**training_arguments(recipe, device, output_dir, evaluate=held_out is not None),
                               remove_unused_columns=False, accelerator_config={"dispatch_batches": False}),
        data_collator=PairCollator(tokenizer.pad_token_id, recipe.training.max_length),
        train_dataset=tokenized_pairs(train, tokenizer, recipe.training.max_length),
        eval_dataset=held_out and tokenized_pairs(held_out, tokenizer, recipe.training.max_length),
        processing_class=tokenizer,
        callbacks=callbacks,
        orpo_alpha=recipe.orpo.orpo_alpha,
    )


EXAMPLE = {"prompt": "a", "chosen": "b", "rejected": "c"}
"""A row that the trainer takes, for a rehearsal's construction."""


def worst_case_batch(recipe: Recipe, trainer: OrpoTrainer) -> dict[str, torch.Tensor]:
    """The largest micro-batch: pairs, both answers of full length after one token."""
    answer = [1] * (recipe.training.max_length - 1)
    row = {"prompt_ids": [1], "chosen_ids": answer, "rejected_ids": answer}
    return trainer.data_collator([row] * recipe.training.per_device_train_batch_size)
