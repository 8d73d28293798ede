"""Kills workers and supervisors at random moments, goes on after each, and compares all that the runs' journals say
with what uninterrupted ones say: `python -m tests.faults.kill_soak [--worker-kills 50] [--supervisor-kills 20]`.

Every process is a real one and dies by SIGKILL. Workers of the first part are forked by a server that has imported
their libraries already, which saves most of the time; those under supervisors are started as always.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.stand_ins import any_plan, identity, look, wait_for
from tests.forked import go_on, make_run, small_model, start_worker, story, work
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import parse_recipe
from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.launcher import start_supervisor
from workbench.engine.runs.resume import resume

RECIPE = """\
name: soak
model: {model}
dataset: {{path: glossary, eval_fraction: 0.3, max_rows: 22}}
lora: {{lora_r: 4, lora_alpha: 8, lora_dropout: 0.1}}
training: {{max_steps: {steps}, per_device_train_batch_size: 2, per_device_eval_batch_size: 16,
  gradient_accumulation_steps: 2, gradient_checkpointing: false, learning_rate: 1e-2, warmup_steps: 2, max_length: 48,
  logging_steps: 2, save_steps: 3, eval_steps: 8}}
samples: {{every_steps: 10, max_new_tokens: 4, temperature: 1.0, prompts: ["What is LoRA?"]}}
hardware: {{probe: false}}
data: {{allow: all}}
"""
KINDS: dict[str, tuple[str, ...]] = {
    "lora, dropout": ("tuning=lora",), "full": ("tuning=full",), "qlora": ("tuning=qlora",),
    "lora, packed": ("tuning=lora", "training.packing=true", "dataset.max_rows=80")}
STEPS, STEPS_SUPERVISED = 24, 200
PER_RUN = 5
"""Supervisors that are killed over one run."""


@dataclass(frozen=True)
class Kill:
    """One death, and what came of it."""

    who: str
    kind: str
    moment: str
    went_on: str
    identical: bool


def kill_workers(kills: int, model: Path, chance: random.Random) -> Iterator[Kill]:
    """Each in a run of its own: at any time of its life, between its steps, or in the middle of a save."""
    names = list(KINDS)[:max(1, min(len(KINDS), kills // 2))]
    recipes = {name: parse_recipe(RECIPE.format(model=model, steps=STEPS), overrides=KINDS[name]) for name in names}
    work(make_run(recipes[names[0]]))  # the first one waits until the server has imported all
    wholes: dict[str, tuple[dict[str, Any], float]] = {}
    number = 0
    while number < kills:
        name = names[number % len(names)]
        if name not in wholes:
            began, run = time.monotonic(), make_run(recipes[name])
            assert work(run) == 0, run.log.read_text()[-3000:]
            wholes[name] = story(run), time.monotonic() - began
        whole, seconds = wholes[name]
        run = make_run(recipes[name])
        worker = start_worker(run)
        if number % 3 == 0:
            _wait_for_a_save(run, chance.randrange(1, 9), worker.is_alive)
        elif number % 3 == 1:
            step = chance.randrange(STEPS)
            wait_for(lambda run=run, worker=worker, step=step: not worker.is_alive() or look(run).state.step > step)
            time.sleep(chance.uniform(0.0, 0.1))
        else:
            time.sleep(chance.uniform(0.0, 1.0) * seconds)
        worker.kill()
        worker.join()
        if worker.exitcode != -signal.SIGKILL:
            continue  # it had ended: that was no kill
        moment, path = _moment(run), go_on(run)
        assert work(run, path) == 0, run.log.read_text()[-3000:]
        yield Kill("worker", name, moment, path or "the beginning", story(run) == whole)
        number += 1


def _wait_for_a_save(run: RunDirectory, count: int, alive: Callable[[], bool]) -> None:
    """Until the worker is in the middle of its `count`-th save."""
    seen: set[str] = set()
    while alive() and len(seen) < count:
        seen.update(path.name for path in run.checkpoints.glob(".partial-*"))


def _moment(run: RunDirectory) -> str:
    saving = [path.name.removeprefix(".partial-") for path in run.checkpoints.glob(".partial-*")]
    saving += ["model" for _ in run.path.glob(".partial-model")]
    if saving:
        return f"while saving {saving[0]}"
    state = look(run).state if run.events.exists() else None
    return "before it said a word" if state is None else f"while {state.phase}" if state.phase else \
        f"after step {state.step} was logged"


def kill_supervisors(kills: int, model: Path, chance: random.Random) -> Iterator[Kill]:
    """Several over each run; every fourth together with its worker."""
    steps = STEPS_SUPERVISED * min(kills, PER_RUN) // PER_RUN
    recipe = parse_recipe(RECIPE.format(model=model, steps=steps), overrides=["training.save_steps=20",
                          "training.logging_steps=5", "training.eval_steps=100", "samples.every_steps=100"])
    whole_run = make_run(recipe)
    assert work(whole_run) == 0, whole_run.log.read_text()[-3000:]
    whole = story(whole_run)
    while kills > 0:
        deaths = list(_over_one_run(recipe, min(kills, PER_RUN), chance))
        run, told = deaths[0][0], deaths
        wait_for(lambda run=run: look(run).ended, 300)
        same = story(run) == whole
        for _, moment, went_on in told:
            yield Kill("supervisor", "lora, dropout", moment, went_on, same)
        kills -= len(told)


def _over_one_run(recipe: Recipe, most: int, chance: random.Random) -> Iterator[tuple[RunDirectory, str, str]]:
    run = make_run(recipe)
    start_supervisor(run)
    for number in range(most):
        before = look(run).state.step
        # Some die while their worker loads, the others while it trains.
        if number % 4:
            wait_for(lambda before=before: look(run).state.step > before or look(run).ended, 120)
        time.sleep(chance.uniform(0.0, 0.8))
        if look(run).ended:
            break
        both = number % 4 == 3
        roles = ["supervisor", "worker"] if both else ["supervisor"]
        moment = f"{_moment(run)}{', with its worker' if both else ''}"
        victims = [identity(run, role) for role in roles]
        for victim in victims:
            assert victim.signal(signal.SIGKILL)
        wait_for(lambda victims=victims: not any(victim.is_alive() for victim in victims), 10)
        assert look(run).name == "crashed"
        resume(run, any_plan)
        yield run, moment, f"step {look(run).state.resumed_from}" if both else "taken over"


def soak(worker_kills: int, supervisor_kills: int, seed: int, say: Callable[[str], None] = print) -> list[Kill]:
    """Kill so many; gives what came of each."""
    chance = random.Random(seed)
    found: list[Kill] = []
    with tempfile.TemporaryDirectory() as folder:
        model = small_model(Path(folder) / "model")
        for kills, part in ((worker_kills, kill_workers), (supervisor_kills, kill_supervisors)):
            for kill in part(kills, model, chance) if kills else ():
                found.append(kill)
                say(f"{len(found):3}  {kill.who:10}  {kill.kind:14}  {kill.moment:44}  from {kill.went_on:26}  "
                    f"{'identical' if kill.identical else 'DIFFERENT'}")
    return found


def main() -> int:
    """0 when every run said the same as without a kill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker-kills", type=int, default=50)
    parser.add_argument("--supervisor-kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        # One thread each, as the forked ones have: sums in another order are other sums.
        os.environ |= {"WORKBENCH_HOME": home, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        found = soak(options.worker_kills, options.supervisor_kills, options.seed)
    same = sum(kill.identical for kill in found)
    print(f"{same}/{len(found)} identical, in {time.monotonic() - began:.0f} s")
    return 0 if same == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
