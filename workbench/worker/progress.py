"""Where a training is between two steps, besides its weights, optimizer and random states: kept in every checkpoint.

transformers' own training state begins its sums anew: between two logs the losses so far would be lost, and with them
what trl's trainers gather, the memory of the best evaluation, and the place in a stream that began again.
"""

import json
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.data_loader import SeedableRandomSampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.engine.errors import RunError

PROGRESS = "progress.json"
GATHERED = ("_metrics", "_total_train_tokens", "_logged", "_num_tokens")
"""What the trainers of trl, and ours, gather between two logs and over all steps."""


class Remembering(Protocol):
    """A callback whose memory goes on in a resumed run."""

    def remember(self) -> dict[str, Any]:
        """What JSON can hold of it."""

    def recall(self, memory: dict[str, Any]) -> None:
        """Go on with what `remember` gave."""


class Progress(TrainerCallback):
    """Captures and restores it. The first of the callbacks: others read what it restores."""

    def __init__(self, callbacks: dict[str, Remembering] | None = None) -> None:
        self.trainer: Trainer | None = None
        self.callbacks = callbacks or {}
        self._kept: dict[str, Any] | None = None
        self._going_on: dict[str, Any] | None = None
        self._epoch, self._steps = -1, 0
        self._sampler: str | None = None

    def go_on_from(self, checkpoint: Path) -> None:
        """Restore what the checkpoint holds when training begins. Raises RunError when the rows are other ones."""
        assert self.trainer is not None
        found = json.loads((checkpoint / PROGRESS).read_text())
        if found["rows"] != _rows(self.trainer):
            raise RunError(f"Training had {found['rows']:,} prepared rows, and has {_rows(self.trainer):,} now: those "
                           "still to come cannot be told.", "Set what decides on rows, such as training.max_length, as "
                           "it was; or train it as a run of its own.")
        self._going_on = found

    @property
    def place_in_stream(self) -> tuple[int, int]:
        """(pass, counted from 0; steps done in it), of what is gone on from."""
        assert self._going_on is not None
        return self._going_on["epoch"], self._going_on["steps"]

    def keep_sums(self) -> None:
        """Remember what was gathered since the last log, for a checkpoint of this step: the log that follows would not
        be made in an uninterrupted run."""
        self._kept = self._sums()

    def write(self, directory: Path) -> None:
        """Write what going on from this step takes."""
        (directory / PROGRESS).write_text(json.dumps({**self._capture(), **(self._kept or {})}))

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                       **kwargs: Any) -> None:
        """Go on."""
        if self._going_on is None:
            return
        trainer, found = self.trainer, self._going_on
        assert trainer is not None
        # The settings of a resumed run may be new ones; transformers takes them from the checkpoint.
        state.compute_steps(args, state.max_steps)
        trainer._tr_loss = torch.tensor(found["loss_sum"], device=args.device)
        trainer._total_loss_scalar = found["loss_total"]
        trainer._globalstep_last_logged = found["logged_step"]
        for name, value in found["gathered"].items():
            _refill(trainer, name, value)
        for name, memory in found["callbacks"].items():
            if name in self.callbacks:
                self.callbacks[name].recall(memory)

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                       **kwargs: Any) -> None:
        """Know the place; and give a sampler that shuffles by a generator of its own the state it had here."""
        found, self._going_on = self._going_on, None
        if found is not None and found["steps"]:
            self._epoch, self._steps = found["epoch"], found["steps"]
        else:
            self._epoch, self._steps = found["epoch"] if found is not None else self._epoch + 1, 0
        generator = self._generator()
        if generator is None:
            return
        if found is not None and found["sampler"]:
            generator.set_state(torch.frombuffer(bytearray.fromhex(found["sampler"]), dtype=torch.uint8))
        self._sampler = _hex(generator)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                      **kwargs: Any) -> None:
        """What was kept for the step before is no longer true."""
        self._kept = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                    **kwargs: Any) -> None:
        """Count the steps of this pass over the rows."""
        self._steps += 1

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The journal holds every log: a copy would grow without end, in memory and in each checkpoint."""
        del state.log_history[:-1]

    def _capture(self) -> dict[str, Any]:
        trainer, generator = self.trainer, self._generator()
        assert trainer is not None
        # The next step belongs to a new pass: its sampler shuffles again.
        over = ends_epoch(trainer.state)
        return {
            "rows": _rows(trainer),
            "epoch": self._epoch + 1 if over else self._epoch, "steps": 0 if over else self._steps,
            "sampler": (_hex(generator) if over else self._sampler) if generator is not None else None,
            "callbacks": {name: callback.remember() for name, callback in self.callbacks.items()},
            **self._sums(),
        }

    def _sums(self) -> dict[str, Any]:
        trainer = self.trainer
        assert trainer is not None
        return {"loss_sum": float(trainer._tr_loss), "loss_total": trainer._total_loss_scalar,
                "logged_step": trainer._globalstep_last_logged,
                "gathered": {name: _plain(getattr(trainer, name)) for name in GATHERED if hasattr(trainer, name)}}

    def _generator(self) -> torch.Generator | None:
        """Of a sampler that goes on shuffling where it stopped (trl's RepeatSampler); others are seeded each epoch."""
        loader = self.trainer.callback_handler.train_dataloader if self.trainer is not None else None
        sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
        generator = getattr(sampler, "generator", None)
        return None if isinstance(sampler, SeedableRandomSampler) else generator


def ends_epoch(state: TrainerState) -> bool:
    """Whether the last step ended a pass over rows whose number is known."""
    return state.epoch is not None and float(state.epoch).is_integer()


def _rows(trainer: Trainer) -> int | None:
    rows = trainer.train_dataset
    return len(rows) if hasattr(rows, "__len__") else None


def _hex(generator: torch.Generator) -> str:
    return bytes(generator.get_state().tolist()).hex()


def _plain(value: Any) -> Any:
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else \
        list(value) if isinstance(value, list) else value


def _refill(trainer: Trainer, name: str, value: Any) -> None:
    """Put back what was gathered, into the containers that are there: they make lists for new names themselves."""
    if not isinstance(value, dict):
        setattr(trainer, name, value)
        return
    for mode, series in value.items():
        own = getattr(trainer, name)[mode]
        own.clear()
        own.update(series)
