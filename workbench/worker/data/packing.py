"""A guard: rows in one packed sequence must not see each other."""

import torch
from transformers import Trainer

from workbench.engine.errors import InputError

# Numbers of 16 bits differ by rounding where the order of sums does; what a row sees of another changes far more.
_TOLERANCE = 0.05


def refuse_leaking_packs(trainer: Trainer) -> None:
    """Raise InputError when rows are packed, and this model lets one see the row before it.

    transformers keeps rows apart by their positions in attention; a recurrent layer, or an attention of a model's own,
    may know nothing of them. Two packs that differ in their first row only must give the second row the same logits.
    """
    if not getattr(trainer.args, "packing", False):
        return
    row = next(iter(trainer.train_dataset))
    ids = (list(row["input_ids"]) * 8)[:8]
    others = [[token] * 8 for token in (ids[0], next((token for token in ids if token != ids[0]), 0))]
    model, training = trainer.model, trainer.model.training
    model.eval()
    try:
        with torch.no_grad():
            one, two = (_logits(trainer, other + ids) for other in others)
    finally:
        model.train(training)
    if (one - two).abs().max() > _TOLERANCE * one.std():
        raise InputError(f"Packed rows see each other in this model ({model.config.model_type}), and would be learned "
                         "as one text.", "Set training.packing: false.")


def _logits(trainer: Trainer, ids: list[int]) -> torch.Tensor:
    """The second row's, of a pack of two rows of eight tokens."""
    batch = trainer.data_collator([{"input_ids": ids, "labels": ids, "seq_lengths": [8, 8]}])
    names = ("input_ids", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")
    inputs = {name: value.to(trainer.model.device) if isinstance(value, torch.Tensor) else value
              for name, value in batch.items() if name in names}
    logits: torch.Tensor = trainer.model(**inputs, use_cache=False).logits[0, 8:].float()
    return logits
