"""What a run writes to disk: a checkpoint and the result in bytes, by architecture, tuning and optimizer."""

from dataclasses import dataclass, replace

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.memory.case import MemoryCase, precision_of
from workbench.engine.memory.optimizers import optimizer_of, state_bytes
from workbench.engine.memory.tensors import base_parameters, trained_tensors
from workbench.engine.recipe import Recipe

# The tokenizer and the settings: Gemma 3's tokenizer.json has 33 MB, the largest of the catalogue's families.
_BESIDE_WEIGHTS = 40 << 20
_TRAINER_STATE = 1 << 20
"""The trainer's log and the random states, beside the optimizer's."""


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """Bytes: `checkpoint` is one checkpoint with the optimizer's state, `result` the final model or adapter.

    `kept` counts the checkpoints that lie there at the worst moment: those kept, the best, and the one being written.
    """

    checkpoint: int
    result: int
    kept: int

    @property
    def total(self) -> int:
        """All of it at the worst moment."""
        return self.kept * self.checkpoint + self.result


def disk_need(architecture: Architecture, recipe: Recipe, case: MemoryCase, steps: int | None,
              beside_weights: int | None = None) -> DiskNeed:
    """What a run of `steps` optimizer steps (None: unknown, many) writes. Raises InputError for what no term describes.

    `case` tells the types that weights are held in: a GPU's and a CPU's differ. `beside_weights` are the bytes of the
    tokenizer and the settings, None where they are not known.
    """
    precision, tensors = precision_of(case), trained_tensors(architecture, case)
    full = case.tuning == "full"
    trained = sum(tensor.count * tensor.numbers for tensor in tensors)
    weights = base_parameters(architecture, case) * precision.weight if full else trained * precision.trained
    # On disk there is no paging: what lies in unified memory is written as well.
    optimizer = replace(optimizer_of(case.optim), paged=False)
    states = state_bytes(optimizer, tensors, precision.trained)
    result = round(weights) + (_BESIDE_WEIGHTS if beside_weights is None else beside_weights)
    return DiskNeed(result + round(states) + _TRAINER_STATE, result, _kept(recipe, steps))


def _kept(recipe: Recipe, steps: int | None) -> int:
    """Old ones are removed only when the new one is complete, so one more than is kept. A run that is stopped saves one
    even where none is asked for."""
    training = recipe.training
    most = training.save_total_limit + 1
    if training.save_steps is None:
        made = 1
    elif steps is None:
        made = most
    else:
        made = max(steps // training.save_steps, 1)
    return min(made, most) + (1 if training.load_best_model_at_end else 0)
