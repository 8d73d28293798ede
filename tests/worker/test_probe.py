"""The memory probe: it leaves no trace in the run it precedes, and says what does not fit before a step is lost."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer import is_optimizer_factory

from tests.conftest import ROOT, RunCommand
from workbench.engine.catalog.architecture import architecture_from_config
from workbench.engine.catalog.models import resolve_model
from workbench.engine.errors import RunError
from workbench.engine.memory.estimate import estimate_memory
from workbench.engine.planning import memory_case
from workbench.engine.recipe import Recipe
from workbench.worker.callbacks.stopwatch import Stopwatch
from workbench.worker.data.examples import load_examples
from workbench.worker.loading import load_model, load_tokenizer
from workbench.worker.objectives.sft import build_trainer
from workbench.worker.probe import EVALUATION, GENERATION, STEP, TRAINING, Probe, ProbeCallback, estimate_for
from workbench.worker.undisturbed import still_optimizer, undisturbed
from workbench.worker.worst_case import WorstCase

CPU = torch.device("cpu")


def recipe(tuning: str = "lora", **training: Any) -> Recipe:
    return Recipe.model_validate({
        "model": "tiny-base", "tuning": tuning, "dataset": {"path": "glossary", "eval_path": "glossary-held-out",
                                                             "max_rows": 24},
        "lora": {"lora_r": 4, "lora_dropout": 0.3},
        "training": {"max_steps": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2,
                     "max_length": 64, "logging_steps": 1, "eval_steps": 2, "warmup_steps": 0, "learning_rate": 1e-2,
                     "weight_decay": 0.1, **training},
        "samples": {"max_new_tokens": 3, "prompts": ["What is LoRA?"]}})


class Recorder(TrainerCallback):
    """Everything the trainer logs, and the probe at its place when it is given one."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        timing = ("runtime", "per_second", "flos")
        self.logs.append({name: value for name, value in logs.items() if not any(word in name for word in timing)})

    def phase(self, words: str) -> None:
        self.events.append(("phase", {"words": words}))

    def probed(self, **fields: Any) -> None:
        self.events.append(("probed", fields))


def trainer_of(chosen: Recipe, tmp_path: Path, callbacks: list[TrainerCallback]) -> tuple[Trainer, Any]:
    source = resolve_model(chosen.model)
    tokenizer, _ = load_tokenizer(source)
    rows = load_examples(chosen, None, pytest.fail, tmp_path)
    model = load_model(source, dtype=torch.float32, device=CPU,
                       quantization=chosen.quantization if chosen.tuning == "qlora" else None)
    return build_trainer(chosen, model, tokenizer, rows.train, rows.held_out, CPU, str(tmp_path), callbacks), tokenizer


def train(chosen: Recipe, tmp_path: Path, probing: bool) -> tuple[Recorder, dict[str, torch.Tensor]]:
    recorder = Recorder()
    source = resolve_model(chosen.model)
    probe = ProbeCallback(chosen, load_tokenizer(source)[0], recorder, Stopwatch())  # type: ignore[arg-type]
    trainer, _ = trainer_of(chosen, tmp_path, [*([probe] if probing else []), recorder])
    probe.trainer = trainer
    trainer.train()
    return recorder, {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


@pytest.mark.parametrize("tuning", ["full", "lora", "qlora"])
def test_a_run_with_the_probe_is_the_run_without_it(tuning: str, tmp_path: Path) -> None:
    plain, plain_weights = train(recipe(tuning), tmp_path, probing=False)
    probed, weights = train(recipe(tuning), tmp_path, probing=True)
    assert [entry["loss"] for entry in plain.logs if "loss" in entry] != []
    # Also num_tokens, entropy, grad_norm, eval_loss: exact, not approximately.
    assert probed.logs == plain.logs
    assert all(torch.equal(value, weights[name]) for name, value in plain_weights.items())
    fields = next(fields for name, fields in probed.events if name == "probed")
    assert list(fields["by_phase"]) == [TRAINING, STEP, EVALUATION, GENERATION]
    assert fields["device"] == "cpu"
    assert (fields["peak_allocated"], fields["peak_reserved"], fields["estimated"]) == (None, None, None)
    assert fields["peak_resident"] == max(phase["resident"] for phase in fields["by_phase"].values()) > 100e6
    assert fields["rows"] == 2
    assert 0 < fields["tokens"] <= 64


def test_a_recipe_can_do_without(tmp_path: Path) -> None:
    chosen, recorder = recipe(), Recorder()
    without = chosen.model_copy(update={"hardware": chosen.hardware.model_copy(update={"probe": False})})
    tokenizer, _ = load_tokenizer(resolve_model("tiny-base"))
    callback = ProbeCallback(without, tokenizer, recorder, Stopwatch())  # type: ignore[arg-type]
    callback.trainer, _ = trainer_of(without, tmp_path, [])
    callback.on_train_begin(None, None, None)  # type: ignore[arg-type]
    assert recorder.events == []


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "rmsprop", "lion_32bit",
                                   "adamw_8bit"])
def test_a_still_optimizer_moves_no_weight_by_a_bit(optim: str, tmp_path: Path) -> None:
    trainer, _ = trainer_of(recipe("full", optim=optim), tmp_path, [])
    trainer.create_optimizer_and_scheduler(2)
    own = trainer.optimizer
    parameters = list(trainer.model.parameters())
    with torch.no_grad():
        parameters[0].view(-1)[:2] = torch.tensor([0.0, -0.0])
    before = [parameter.detach().clone() for parameter in parameters]
    still = still_optimizer(trainer)
    assert type(still) is type(own)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    try:
        still.step()
    except (NotImplementedError, RuntimeError) as error:
        pytest.skip(f"{optim} does not run on a CPU here: {error}")
    assert trainer.optimizer is own
    assert len(own.state) == 0
    for old, new in zip(before, parameters, strict=True):
        assert torch.equal(old.view(torch.int32), new.detach().view(torch.int32))
    if optim != "sgd":
        assert any(isinstance(value, torch.Tensor) and value.numel() > 1
                   for state in still.state.values() for value in state.values())


def test_an_optimizer_that_moves_the_weights_is_found_out(tmp_path: Path) -> None:
    class Stubborn(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            with torch.no_grad():
                self.param_groups[0]["params"][0].add_(1e-6)

    trainer, tokenizer = trainer_of(recipe(), tmp_path, [])
    trainer.optimizer_cls_and_kwargs = (Stubborn, {"lr": 0.1})
    assert not is_optimizer_factory(Stubborn)
    trainer.create_optimizer_and_scheduler(2)
    with pytest.raises(RunError, match="changed 1 tensors") as raised:
        Probe(trainer, recipe(), tokenizer).run()
    assert "hardware.probe: false" in str(raised.value.hint)


def test_what_a_resumed_optimizer_knows_is_kept(tmp_path: Path) -> None:
    trainer, tokenizer = trainer_of(recipe("full"), tmp_path, [])
    trainer.create_optimizer_and_scheduler(2)
    for parameter in trainer.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer.optimizer.step()
    before = {key: {name: torch.as_tensor(value).clone() for name, value in state.items()}
              for key, state in trainer.optimizer.state.items()}
    schedule = trainer.lr_scheduler.state_dict()
    Probe(trainer, recipe("full"), tokenizer).run()
    assert all(torch.equal(value, trainer.optimizer.state[key][name])
               for key, state in before.items() for name, value in state.items())
    assert trainer.lr_scheduler.state_dict() == schedule
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_beside_the_optimizer_state_it_leaves_no_trace_either(tmp_path: Path) -> None:
    """The way a GPU takes: the micro-batch again, twice where gradients accumulate."""
    trainer, tokenizer = trainer_of(recipe("full"), tmp_path, [])
    trainer.create_optimizer_and_scheduler(2)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    losses, training_step = [], trainer.training_step
    trainer.training_step = lambda *arguments: losses.append(training_step(*arguments)) or losses[-1]
    Probe(trainer, recipe("full"), tokenizer, beside_state=True).run()
    assert len(losses) == 3
    # There is no dropout in full tuning: the same weights give the same loss each time.
    assert losses[0] == losses[1] == losses[2]
    assert all(torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))
    assert not trainer.optimizer.state


def test_the_estimate_is_held_against_the_batch_that_was_probed(tmp_path: Path) -> None:
    chosen = recipe()
    trainer, _ = trainer_of(chosen, tmp_path, [])
    probed = WorstCase({}, rows=3, tokens=40, looked_at=None)
    expected = estimate_memory(architecture_from_config(resolve_model("tiny-base").config), replace(
        memory_case(chosen), max_length=40, per_device_train_batch_size=3)).peak_bytes
    assert estimate_for(chosen, trainer.model, probed, torch.device("cuda")) == expected
    assert estimate_for(chosen, trainer.model, probed, CPU) is None
    assert estimate_for(chosen, trainer.model, WorstCase([], 3, 0, None), torch.device("cuda")) is None


def test_everything_besides_the_weights_is_given_back(tmp_path: Path) -> None:
    trainer, _ = trainer_of(recipe(), tmp_path, [])
    rotary = next(module for module in trainer.model.modules() if hasattr(module, "inv_freq"))
    frequencies = rotary.inv_freq.clone()
    states = torch.get_rng_state(), trainer._total_train_tokens, trainer.model.training
    with undisturbed(trainer):
        torch.rand(3)
        trainer._metrics["train"]["entropy"].append(1.0)
        trainer._total_train_tokens += 99
        trainer.state.num_input_tokens_seen = 7
        trainer.something_new = 1
        trainer.model.train(not trainer.model.training)
        rotary.register_buffer("inv_freq", rotary.inv_freq * 2, persistent=False)
        rotary.max_seq_len_cached = 10**6
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (trainer._total_train_tokens, trainer.model.training) == states[1:]
    assert not trainer._metrics["train"]
    assert trainer.state.num_input_tokens_seen == 0
    assert not hasattr(trainer, "something_new")
    assert torch.equal(rotary.inv_freq, frequencies)
    assert rotary.max_seq_len_cached != 10**6


def test_what_the_probe_needs_of_the_trainer_is_still_there(tmp_path: Path) -> None:
    """The one place that says what is used of transformers' Trainer beyond building it."""
    trainer, _ = trainer_of(recipe(), tmp_path, [])
    for name in ("model", "model_wrapped", "optimizer", "create_optimizer", "get_batch_samples", "training_step",
                 "prediction_step", "get_train_dataloader", "get_eval_dataloader", "eval_dataset", "state", "args"):
        assert hasattr(trainer, name), name
    assert hasattr(trainer.callback_handler, "train_dataloader")
    # The training loop sets it, not the constructor; trl's GRPOTrainer and the loss scaling read it.
    assert "self.current_gradient_accumulation_steps" in Path(sys.modules[Trainer.__module__].__file__).read_text()


LIMIT = """\
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
sys.argv = ["workbench", *{arguments!r}]
from workbench.cli import main
main()
"""


@pytest.mark.slow
def test_what_does_not_fit_fails_before_a_step(workbench: RunCommand, tmp_path: Path) -> None:
    rows = [*(["short"] * 8), *(["word " * 5000] * 8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"prompt": "a", "completion": text}) + "\n"
                                                 for text in rows))
    chosen = tmp_path / "large.yaml"
    chosen.write_text("name: large\nmodel: tiny-base\ndataset: rows.jsonl\ntuning: full\ndata: {allow: all}\n"
                      "training: {max_length: 4096, attn_implementation: eager, gradient_accumulation_steps: 1,"
                      " per_device_train_batch_size: 8, max_steps: 2}\n")
    # The attention scores of one layer take 8 rows · 4 heads · 4096² · 4 bytes = 2 GiB, their softmax as much again.
    limit = 5 * 1024**3
    code = LIMIT.format(limit=limit, arguments=["train", str(chosen), "--json"])
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=240)
    shown = json.loads(result.stdout)
    assert (shown["state"], shown["cause"], shown["step"], shown["losses"]) == ("failed", "oom", 0, [])
    assert "before the first step, in forward and backward of the longest rows (8 rows of" in shown["explanation"]
    assert shown["suggested_changes"] == {"training.per_device_train_batch_size": 4,
                                          "training.gradient_accumulation_steps": 2}
