"""Workers that die in every way there is, under a real supervisor: what is written down of each."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workbench.engine.atomic import write_json
from workbench.engine.recipe import Recipe
from workbench.engine.recipe_file import recipe_to_yaml
from workbench.engine.runs.directory import create_run_directory
from workbench.engine.runs.journal import find_ending

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SUPERVISOR = """\
import sys
from workbench.engine.runs.directory import find_run
from workbench.engine.runs.supervisor import Supervisor
sys.exit(Supervisor(find_run(sys.argv[1]), [sys.executable, "-c", sys.argv[2], sys.argv[1]]).main())
"""
# The worker's own entry over a training that does what the test says: everything around it is real.
WORKER = """\
import os, resource, signal, sys, types
from workbench.worker import __main__ as entry

def training(run, beginning, reporter):
{body}

sys.modules["workbench.worker.training"] = types.SimpleNamespace(train=training)
sys.exit(entry.main(["train", sys.argv[1]]))
"""
RECIPE = Recipe.model_validate({"model": "tiny-base", "dataset": "glossary"})
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")


def end_of(body: str, on_failure: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """The `ended` event of a run whose training is these lines; `on_failure` as its supervisor reads it."""
    run = create_run_directory("dies")
    run.recipe.write_text(recipe_to_yaml(RECIPE, full=True))
    write_json(run.plan, {"recipe": {**RECIPE.model_dump(mode="json"), "on_failure": on_failure or {}}})
    script = WORKER.format(body="\n".join(f"    {line}" for line in body.splitlines()))
    result = subprocess.run([sys.executable, "-c", SUPERVISOR, run.id, script], cwd=ROOT, timeout=120,
                            capture_output=True, text=True, **options)
    ending = find_ending(run.events)
    assert ending is not None, result.stderr + run.log.read_text()
    return ending


def test_a_gpu_without_memory(home: Path) -> None:
    ending = end_of('import torch\nraise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 '
                    'has a total capacity of 79.10 GiB of which 1.25 GiB is free.")')
    assert (ending["outcome"], ending["cause"], ending["symptom"]) == ("failed", "oom", "gpu-memory")
    assert ending["explanation"].startswith("GPU 0 ran out of memory: 2.00 GiB more")
    assert ending["changes"] == {"training.per_device_train_batch_size": 2, "training.gradient_accumulation_steps": 8}
    assert "torch.OutOfMemoryError" in ending["evidence"][-1]


@pytest.mark.parametrize("allocation", ["bytearray(1 << 42)", "import torch; torch.empty(1 << 40)"])
def test_a_process_at_the_limit_of_its_memory(home: Path, allocation: str) -> None:
    ending = end_of(f"import torch\nresource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n{allocation}")
    assert (ending["cause"], ending["symptom"]) == ("oom", "host-memory")
    assert ending["explanation"].startswith("The machine's memory (RAM) ran out")
    assert "per_device_train_batch_size" in str(ending["changes"])


def test_a_kill_by_somebody(home: Path) -> None:
    ending = end_of("os.kill(os.getpid(), signal.SIGKILL)")
    assert (ending["cause"], ending["changes"]) == ("killed", {})
    assert "by somebody (SIGKILL)" in ending["explanation"]


def test_a_crash_in_native_code(home: Path) -> None:
    ending = end_of("import ctypes\nctypes.string_at(0)")
    assert (ending["cause"], ending["symptom"]) == ("error", "segfault")
    assert "SIGSEGV" in ending["explanation"]
    assert ending["evidence"][0] == "Fatal Python error: Segmentation fault"
    assert "string_at" in ending["evidence"][1]


def test_an_abort_whose_reason_is_in_the_log(home: Path) -> None:
    ending = end_of('os.write(2, b"memory allocation of 4294967296 bytes failed\\n")\nos.abort()')
    assert (ending["cause"], ending["symptom"]) == ("oom", "host-memory")
    assert "SIGABRT" in ending["explanation"]


def test_a_full_disk(home: Path) -> None:
    ending = end_of('open("/dev/full", "w").write("x" * 100_000)')
    assert (ending["cause"], ending["symptom"]) == ("disk", "disk-full")
    assert ending["changes"] == {"training.save_total_limit": 1}
    assert "No space left on device" in ending["evidence"][-1]


def test_a_disk_too_full_for_the_last_words(home: Path) -> None:
    ending = end_of("import errno\ndef full(ending):\n    raise OSError(errno.ENOSPC, 'full')\nreporter.ended = full\n"
                    "raise OSError(errno.ENOSPC, 'No space left on device')")
    assert (ending["cause"], ending["symptom"]) == ("disk", "disk-full")


def test_a_worker_that_leaves_without_a_word(home: Path) -> None:
    ending = end_of('print("CUDA error: out of memory at line 380", flush=True)\nos._exit(1)')
    assert (ending["cause"], ending["symptom"]) == ("oom", "gpu-memory")
    assert end_of("os._exit(9)")["explanation"] == "The worker ended with exit code 9: it left no message"


def test_a_worker_that_hangs_in_native_code_says_where(home: Path) -> None:
    # PyDLL keeps the interpreter's lock: no thread of the worker can give a sign of life any more. A mutex taken twice
    # waits on, whatever signal comes.
    ending = end_of("import ctypes\nlibrary = ctypes.PyDLL(None)\nmutex = ctypes.create_string_buffer(64)\n"
                    "def waits_for_ever():\n    library.pthread_mutex_lock(mutex)\n"
                    "    library.pthread_mutex_lock(mutex)\nwaits_for_ever()",
                    on_failure={"resume": 1, "hang_minutes": 0.05})
    assert (ending["outcome"], ending["cause"], ending["symptom"]) == ("failed", "hang", "hang")
    assert "no sign of life for 0.05 minutes" in ending["explanation"]
    assert "waits_for_ever" in ending["evidence"][0]


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group with 96 MiB."""
    group = MEMORY_GROUPS / f"workbench-test-{os.getpid()}"
    if not (MEMORY_GROUPS / "memory.limit_in_bytes").is_file():
        pytest.skip("no cgroup v1 memory controller at /sys/fs/cgroup/memory")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no memory control group can be made here: {error.strerror}")
    (group / "memory.limit_in_bytes").write_text(str(96 << 20))
    yield group
    group.rmdir()


def test_a_kill_by_the_kernel_for_lack_of_memory(home: Path, memory_group: Path) -> None:
    def enter() -> None:
        (memory_group / "cgroup.procs").write_text(str(os.getpid()))

    ending = end_of('open("/proc/self/oom_score_adj", "w").write("1000")\n'
                    'held = [b"x" * (1 << 20) for _ in range(4096)]', preexec_fn=enter)
    assert (ending["outcome"], ending["cause"], ending["symptom"]) == ("failed", "oom", "host-memory")
    assert ending["explanation"] == ("The kernel killed the worker for lack of memory (SIGKILL): it reached the memory "
                                     "limit of its control group, 96 MiB.")
    assert ending["changes"] == {"training.per_device_train_batch_size": 2, "training.gradient_accumulation_steps": 8}


def test_the_last_checkpoint_that_verifies_is_named(home: Path) -> None:
    body = """\
from workbench.engine.runs.manifest import write_complete
from workbench.engine.runs.resumable import TRAINING_STATE
def fill(path):
    for name in TRAINING_STATE:
        (path / name).write_bytes(b"good")
for step in (1, 2):
    write_complete(run.checkpoints / f"step-{step:08d}", fill, {"step": step, "settings": {}})
(run.checkpoints / "step-00000002" / "optimizer.pt").write_bytes(b"Good")
raise RuntimeError("CUDA error: device-side assert triggered")"""
    ending = end_of(body)
    assert (ending["symptom"], ending["checkpoint"]) == ("cuda-assert", "checkpoints/step-00000001")
