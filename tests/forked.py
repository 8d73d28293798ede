"""Workers that need not import their libraries again: forked by a server that has, in processes and sessions of their
own. They are what `python -m workbench.worker train` is from its first line on, and can be killed as that."""

import json
import multiprocessing
import os
import secrets
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from workbench.engine.atomic import write_atomic, write_json
from workbench.engine.paths import assets_dir
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import recipe_to_yaml
from workbench.engine.runs.directory import RunDirectory, create_run_directory
from workbench.engine.runs.going_on import newest_checkpoint, step_of
from workbench.engine.runs.journal import Journal
from workbench.engine.runs.launcher import resolve_recipe
from workbench.engine.runs.store import RunFollower

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read when torch is loaded, before the worker could say so
_PRELOAD = ["workbench.worker.training", "bitsandbytes", *(f"workbench.worker.objectives.{name}" for name in (
    "sft", "cpt", "dpo", "kto", "orpo", "reward", "rlhf", "rt"))]
CONTEXT: Any = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(_PRELOAD)


def small_model(folder: Path) -> Path:
    """A model of random weights, small enough for a step to take milliseconds, with the built-in one's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    base = str(assets_dir() / "tiny_base")
    config = AutoConfig.from_pretrained(base, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                                        num_attention_heads=2, num_key_value_heads=1, head_dim=32)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def make_run(recipe: Recipe) -> RunDirectory:
    """A run directory as the launcher writes it, without a supervisor."""
    run = create_run_directory(recipe.name)
    resolved = resolve_recipe(recipe, None)
    write_atomic(run.recipe, recipe_to_yaml(resolved, full=True).encode(), durable=False)
    write_json(run.plan, {"recipe": resolved.model_dump(mode="json")}, durable=False)
    return run


def go_on(run: RunDirectory) -> str | None:
    """What a supervisor does before it starts the next worker: the newest checkpoint, said in the journal."""
    path, _ = newest_checkpoint(run)
    step = 0 if path is None else step_of(path)
    with Journal(run.events) as journal:
        journal.append("restarted", step=step, checkpoint=path)
    return path


At = tuple[int, str]
"""A step, and what comes to pass when it is about to begin: a command's name, `SIGKILL` or `SIGTERM`."""


def start_worker(run: RunDirectory, checkpoint: str | None = None, at: At | None = None) -> BaseProcess:
    """`train RUN [--from checkpoint]`."""
    arguments = ["train", run.id, *(["--from", checkpoint] if checkpoint is not None else [])]
    process: BaseProcess = CONTEXT.Process(target=_work, args=(arguments, str(run.path), dict(os.environ), at))
    process.start()
    return process


def work(run: RunDirectory, checkpoint: str | None = None, at: At | None = None) -> int:
    """The same, to its end: its exit code, negative for a signal."""
    process = start_worker(run, checkpoint, at)
    process.join(300)
    assert process.exitcode is not None, run.log.read_text()[-2000:]
    return process.exitcode


def order(run: RunDirectory, command: str) -> None:
    """Write a command to the control file, as a screen does."""
    with run.control.open("a") as file:
        file.write(json.dumps({"id": secrets.token_hex(4), "command": command, "time": time.time()}) + "\n")


def _work(arguments: list[str], folder: str, environment: dict[str, str], at: At | None) -> None:
    os.setsid()
    os.environ.update(environment)
    os.chdir(folder)
    log = os.open(Path(folder) / "worker.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import torch

    torch.set_num_threads(1)  # so small a model gains nothing, and loses where others compute
    if at is not None:
        _meet(RunDirectory(Path(folder)), *at)
    from workbench.worker.__main__ import main

    sys.exit(main(arguments))


def _meet(run: RunDirectory, step: int, fate: str) -> None:
    from workbench.worker.progress import Progress

    begin = Progress.on_step_begin

    def on_step_begin(self: Any, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        begin(self, args, state, control, **keywords)
        if state.global_step == step - 1:
            if fate.startswith("SIG"):
                os.kill(os.getpid(), getattr(signal, fate))
            else:
                order(run, fate)

    Progress.on_step_begin = on_step_begin  # type: ignore[method-assign]


_OF_TIME = ("runtime", "per_second", "step_time")


def story(run: RunDirectory) -> dict[str, Any]:
    """All that a run's journal says of its training: every figure by step, bit for bit, but for times and memory; and
    what it was sampled to say."""
    follower = RunFollower(run)
    follower.refresh()
    metrics = {name: dict(zip(series.steps, (value.hex() for value in series.values), strict=True))
               for name, series in sorted(follower.state.metrics.items())
               if name.startswith(("train/", "eval/")) and not any(word in name for word in _OF_TIME)}
    return {"metrics": metrics, "samples": [(sample.step, sample.prompt, sample.text) for sample in follower.samples]}
