"""What would go wrong is said before a run starts, with its fix; the machine's answers are given, files are real."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCommand
from workbench.engine.figures import GIB
from workbench.engine.hardware.gpus import Gpu, GpuProcess
from workbench.engine.hardware.host import HostSnapshot
from workbench.engine.hub import HubAnswer
from workbench.engine.paths import assets_dir
from workbench.engine.planning import Plan, make_plan
from workbench.engine.preflight import PreflightCheck, Surroundings, preflight, problems_of
from workbench.engine.recipe import Recipe

LLAMA = "meta-llama/Llama-3.1-8B"


def gpu(index: int, free: float) -> Gpu:
    return Gpu(index, f"GPU-{index}", "H100", 80 * GIB, round(free * GIB), round((80 - free) * GIB), 0, 40, 70.0)


def plan_of(gpus: tuple[Gpu, ...] = (), base_dir: Path | None = None, **settings: Any) -> Plan:
    recipe = Recipe.model_validate({"model": "tiny-base", "dataset": "glossary", **settings})
    return make_plan(recipe, base_dir, gpus, HostSnapshot(0.0, 64 * GIB, 32 * GIB, 0.0, 4))


def around(hub: str = "ok", disk: float = 1000, memory: float = 32, **held: tuple[GpuProcess, ...]) -> Surroundings:
    processes = {name.replace("_", "-"): value for name, value in held.items()}
    return Surroundings(processes=lambda: processes, free_disk=lambda path: round(disk * GIB),
                        ask_hub=lambda name, kind: HubAnswer(hub, f"{kind} {name}: {hub}", "mend it"),
                        free_memory=lambda: round(memory * GIB))


def by_id(plan: Plan, surroundings: Surroundings, base_dir: Path | None = None) -> dict[str, PreflightCheck]:
    """The worst of each kind."""
    order = ("ok", "warning", "problem")
    found: dict[str, PreflightCheck] = {}
    for check in preflight(plan, base_dir, surroundings):
        if check.id not in found or order.index(check.status) > order.index(found[check.id].status):
            found[check.id] = check
    return found


def test_all_is_well_for_the_demo(home: Path) -> None:
    checks = by_id(plan_of(), around())
    assert {check.status for check in checks.values()} == {"ok"}
    assert checks.keys() == {"permission", "disk", "memory", "dataset", "model"}


def test_disk_is_counted_from_tuning_and_optimizer(home: Path) -> None:
    def need(**settings: Any) -> float:
        message = by_id(plan_of((gpu(0, 79),), model=LLAMA, **settings), around(disk=0.001))["disk"].message
        assert "and 1 MiB are free" in message
        return float(message.split("about ")[1].split(" GiB")[0])

    steps = {"max_steps": 2000, "save_steps": 500, "save_total_limit": 2}
    # 8.03e9 numbers of 2 bytes, and two moments as wide: three checkpoints of 44.9 GiB, and a result of 15.0.
    assert need(tuning="full", training=steps) == pytest.approx(3 * 44.88 + 14.96, abs=0.3)
    # Moments of 8 bits and a 32-bit scale for 256 of them, but of 32 bits for the embedding's 525e6.
    assert need(tuning="full", training={**steps, "optim": "adamw_8bit"}) == pytest.approx(3 * 33.1 + 14.96, abs=0.3)
    # Paged states lie outside the GPU's allocator, and on the disk all the same.
    assert need(tuning="full", training={**steps, "optim": "paged_adamw_8bit"}) == pytest.approx(
        need(tuning="full", training={**steps, "optim": "adamw_8bit"}), abs=0.1)
    one = need(tuning="full", training={**steps, "max_steps": 500})
    assert one == pytest.approx(44.88 + 14.96, abs=0.2)
    best = {"load_best_model_at_end": True}
    more = need(tuning="full", training={**steps, **best}, dataset={"path": "glossary", "eval_fraction": 0.1})
    assert more == pytest.approx(4 * 44.88 + 14.96, abs=0.3)
    assert need(tuning="lora", training=steps) < 2


def test_a_disk_that_is_nearly_full_is_a_warning_and_a_small_cache_a_problem(home: Path) -> None:
    plan = plan_of((gpu(0, 79),), model=LLAMA, training={"max_steps": 2000})
    tight = [check for check in preflight(plan, None, around(disk=1.9)) if check.id == "disk"]
    assert [check.status for check in tight] == ["warning", "problem"]
    assert "15.0 GiB to download" in tight[1].message
    assert "HF_HOME" in str(tight[1].fix)


def test_what_a_run_holds_already_is_not_asked_for_again(home: Path) -> None:
    plan = plan_of((gpu(0, 79),), model=LLAMA, tuning="full", training={"max_steps": 2000})
    assert by_id(plan, around(disk=100))["disk"].status == "problem"
    assert by_id(plan, replace(around(disk=100), own_bytes=100 * GIB))["disk"].status == "ok"


def test_a_home_that_cannot_be_written_is_a_problem(home: Path, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", "/proc/workbench")
    check = by_id(plan_of(), around())["permission"]
    assert check.status == "problem"
    assert "WORKBENCH_HOME" in str(check.fix)


def test_memory_is_judged_on_the_gpus_that_may_be_taken(home: Path) -> None:
    gpus = (gpu(0, 2), gpu(1, 79))
    assert by_id(plan_of(gpus, model=LLAMA), around())["memory"].status == "ok"
    small = by_id(plan_of(gpus, model=LLAMA, hardware={"gpus": ["0"]}), around())["memory"]
    assert (small.status, "GPU 0" in small.message, "2.0 GiB free" in small.message) == ("problem", True, True)
    assert "--queue" in str(small.fix)
    assert str(small.fix).startswith("No change of its settings makes it fit")  # GPU 1 is not asked for
    large = by_id(plan_of((gpu(0, 79),), model="meta-llama/Llama-3.1-70B", tuning="full"), around())["memory"]
    assert str(large.fix).startswith("QLoRA")  # LoRA saves much, and is not enough
    waiting = by_id(plan_of(gpus, model=LLAMA, hardware={"gpus": ["0"]}), replace(around(), queued=True))["memory"]
    assert (waiting.status, waiting.fix) == ("ok", None)
    never = by_id(plan_of((gpu(0, 79),), model="meta-llama/Llama-3.1-70B"), replace(around(), queued=True))["memory"]
    assert (never.status, "--queue" in str(never.fix)) == ("problem", False)
    away = by_id(plan_of(gpus, hardware={"gpus": ["7"]}), around())["gpu-free"]
    assert (away.status, away.message) == ("problem", "None of hardware.gpus (7) is here.")


def test_memory_of_the_host_is_judged_where_the_cpu_trains(home: Path) -> None:
    assert by_id(plan_of(), around(memory=0.01))["memory"].status == "warning"
    huge = by_id(plan_of(model="meta-llama/Llama-3.1-70B"), around())["memory"]
    assert huge.status == "problem"
    assert "of RAM" in huge.message


def test_who_holds_the_gpu_is_named(home: Path) -> None:
    holder = GpuProcess(4711, 30 * GIB, "python", "alice")
    busy = by_id(plan_of((gpu(0, 50),)), around(GPU_0=(holder, GpuProcess(12, None, None, None))))["gpu-free"]
    assert busy.status == "warning"
    assert "GPU 0 is in use by python (process 4711 of alice), with 30.0 GiB and process 12 of somebody" in busy.message
    assert "--queue" in str(busy.fix)
    assert by_id(plan_of((gpu(0, 50), gpu(1, 79))), around(GPU_0=(holder,)))["gpu-free"].status == "ok"


def test_the_hub_is_asked_only_for_what_is_not_here(home: Path) -> None:
    def never(name: str, kind: str) -> HubAnswer:
        raise AssertionError(name)

    assert by_id(plan_of(), replace(around(), ask_hub=never))["model"].status == "ok"
    for status in ("offline", "gated", "missing", "busy", "unreachable"):
        check = by_id(plan_of(model=LLAMA), around(hub=status))["hub"]
        assert (check.status, check.fix) == ("problem", "mend it")
    assert by_id(plan_of(model=LLAMA), around())["hub"].status == "ok"
    # A dataset may lie in a cache that only its library reads.
    datasets = {hub: by_id(plan_of(dataset="owner/rows"), around(hub=hub))["hub"].status
                for hub in ("offline", "unreachable", "gated", "missing")}
    assert datasets == {"offline": "warning", "unreachable": "warning", "gated": "problem", "missing": "problem"}


def test_a_model_that_is_not_whole_is_a_problem_that_force_does_not_pass(home: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(assets_dir() / "tiny_base", tmp_path / "cut"))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    checks = preflight(plan_of(model=str(folder)), None, around(disk=0.001))
    assert [check.id for check in problems_of(checks)] == ["disk", "model"]
    assert [check.id for check in problems_of(checks, force=True)] == ["model"]
    assert "model.safetensors is cut" in problems_of(checks, force=True)[0].message


def test_a_cached_model_that_lacks_files_is_completed_from_the_hub(home: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hf" / "hub" / "models--owner--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    shutil.copy(assets_dir() / "tiny_base" / "config.json", snapshot)
    plan = plan_of(model="owner/name")
    there = by_id(plan, around())
    assert "model" not in there
    assert there["hub"].message.endswith("The rest is downloaded when the run starts.")
    away = by_id(plan, around(hub="offline"))["model"]
    assert (away.status, away.fix) == ("problem", "mend it")
    assert "has no tokenizer" in away.message


def test_the_stages_of_a_pipeline_are_looked_at_once(home: Path) -> None:
    stages = [{"objective": "sft", "dataset": "glossary"}, {"objective": "dpo", "dataset": "glossary-pairs"}]
    checks = preflight(plan_of(stages=stages), None, around())
    assert [check.id for check in checks if check.id == "model"] == ["model"]
    assert "Stage 2: glossary-pairs can be read." in [check.message for check in checks]
    [disk] = [check for check in checks if check.id == "disk"]
    assert "for each other stage" in disk.message


def test_train_refuses_with_a_sentence_and_its_fix(workbench: RunCommand, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(assets_dir() / "tiny_base", tmp_path / "cut"))
    (folder / "tokenizer.json").unlink()
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: cut\ndataset: glossary\n")
    for more in ((), ("--force",)):
        result = workbench("train", str(recipe), "--detach", *more)
        assert (result.returncode, result.stdout) == (2, "")
        assert "has no tokenizer in" in result.stderr
        assert "hint: One of tokenizer.json" in result.stderr
        assert "--force" not in result.stderr
    [model] = [check for check in json.loads(workbench("plan", str(recipe), "--json").stdout)["preflight"]
               if check["id"] == "model"]
    assert model.keys() == {"id", "status", "message", "fix"}
    assert model["status"] == "problem"
    assert "problem  model" in workbench("plan", str(recipe)).stdout


def test_train_lists_several_problems_and_the_way_past_them(workbench: RunCommand, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: meta-llama/Llama-3.1-70B\ndataset: glossary\nhardware: {use_cpu: true}\n")
    result = workbench("train", str(recipe), "--detach")
    assert result.returncode == 2
    for words in ("GiB of RAM, and", "HF_HUB_OFFLINE is set"):
        assert words in result.stderr
    assert result.stderr.count("error: ") == result.stderr.count("hint: ") >= 2
    assert "--force starts it all the same" in result.stderr
