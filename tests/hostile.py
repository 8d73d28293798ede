"""What a data set, a model, a log or a damaged file may hold to take a terminal over, and a run that is full of it."""

import json
import re
from pathlib import Path
from typing import Any

from workbench.engine.atomic import write_json
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import recipe_to_yaml
from workbench.engine.runs.directory import RunDirectory

# Clipboard (OSC 52), cursor and colours (CSI), their C1 forms, a device string, a title, a bell, text turned round,
# backspace and delete; then markup of Rich and Textual, with an action in it.
EVIL = ("\x1b]52;c;cHduZWQ=\x07\x1b[6666;1H\x9b6666m\x9d52;c;cHduZWQ=\x9c\x1bP6666q\x1b\\\x1b]0;pwned\x07\x07\u202e"
        "\u2066\x08\x7f\r[bold red]PWN[/bold red] [@click=app.quit]x[/] [link=http://evil.example]y[/link] [/] [")
MARKUP = "[bold red]PWN"

# What Textual itself writes: colours, places, modes, the pointer's shape. The numbers of ours are in none of it.
_OF_THE_SCREEN = re.compile(r"\x1b\[(?!6666)[0-9;:<=>?$ ]*[A-Za-z]|\x1b\]22;\w+\x07")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def control_bytes(output: str) -> list[str]:
    """What would make a terminal do something, with what stands around it; none in honest output."""
    rest = _OF_THE_SCREEN.sub("", output)
    return [rest[max(match.start() - 20, 0):match.end() + 20] for match in _CONTROL.finditer(rest)]


RECIPE = Recipe.model_validate({
    "name": EVIL[:60], "model": f"models/{EVIL}", "dataset": {"path": f"data/{EVIL}.jsonl", "columns": {EVIL: EVIL}},
    "samples": {"prompts": [EVIL]}, "objective": "sft", "lora": {"target_modules": [EVIL]}})


def hostile_run(home: Path, hour: int = 10, ended: bool = True) -> RunDirectory:
    """A run whose every file holds it, written as no code of ours writes: nothing is made safe on the way in."""
    run = RunDirectory(home / "runs" / f"20260101-{hour:02}0000-hostile-c0de")
    run.path.mkdir(parents=True)
    run.recipe.write_text(recipe_to_yaml(RECIPE, full=True))
    write_json(run.plan, {"recipe": RECIPE.model_dump(mode="json"), "plan": {"tuning": "lora"},
                          "versions": {"torch": EVIL}, "dataset_fingerprint": EVIL,
                          "pipeline": {"id": run.id, "name": EVIL, "stage": 1, "of": 2, "previous": None}})
    run.status.write_text(json.dumps({"phase": EVIL, "heartbeat_monotonic": 1.0, "gpus": [EVIL]}))
    log = f"{EVIL}\nTraceback (most recent call last):\n  {EVIL}\n\udcff"
    run.log.write_bytes(log.encode("utf-8", "surrogateescape"))
    run.samples.write_text(json.dumps({"step": 1, "prompt": EVIL, "text": EVIL}) + "\n")
    run.events.write_text("".join(json.dumps({"v": 1, "seq": n, "time": 1.8e9 + n, "elapsed": float(n), **event}) + "\n"
                                  for n, event in enumerate(_events(ended))))
    return run


def _events(ended: bool) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [
        {"type": "queued"}, {"type": "waiting", "reason": EVIL, "run": EVIL}, {"type": "started"},
        {"type": "phase", "phase": EVIL},
        {"type": "loaded", "parameters": 9, "trainable_parameters": 3, "total_steps": 9, "device": EVIL,
         "device_name": EVIL},
        {"type": "alert", "level": "warning", "message": EVIL, "step": 1},
        {"type": "alert", "level": EVIL, "message": EVIL, "step": 1}]
    events += [{"type": "step", "step": n, "epoch": 0.1, "total_steps": 9,
                "metrics": {"train/loss": 1.0, f"train/{EVIL}": 2.0, EVIL: 3.0}} for n in (1, 2, 3)]
    events += [{"type": "eval", "step": 3, "metrics": {"eval/loss": 1.0, f"eval/{EVIL}": 1.0}},
               {"type": "checkpoint", "step": 3, "path": f"../../{EVIL}", "verified": True, "removed": [EVIL]},
               {"type": "command", "id": EVIL, "command": EVIL, "result": EVIL},
               {"type": "restarted", "attempt": 1, "of": 3, "cause": EVIL, "explanation": EVIL, "step": 3,
                "checkpoint": EVIL, "changes": {EVIL: EVIL}}]
    if not ended:
        return [*events, {"type": "phase", "phase": EVIL}]
    return [*events, {"type": "ended", "outcome": "failed", "cause": EVIL, "explanation": EVIL, "suggestion": EVIL,
                      "evidence": [EVIL, EVIL], "changes": {EVIL: EVIL, "training.seed": EVIL, "name": EVIL},
                      "checkpoint": EVIL}]
