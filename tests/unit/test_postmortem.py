"""Why a run ended, in a sentence, with its evidence and what mends it; messages as the libraries write them."""

import errno
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workbench.engine.hardware.cgroup import MemoryGroup, machine_kills, memory_group
from workbench.engine.recipe import Recipe
from workbench.engine.runs.inquest import Before, chain_of_causes, who_killed
from workbench.engine.runs.postmortem import (
    EXIT_UNWRITABLE,
    MOST_EVIDENCE,
    Raised,
    explain_chain,
    explain_exception,
    explain_exit,
    explain_hang,
)

CUDA_OOM = ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has a total capacity of 79.10 GiB of which 1.25 GiB "
            "is free. Including non-PyTorch memory, this process has 77.84 GiB memory in use. Of the allocated memory "
            "75.00 GiB is allocated by PyTorch, and 1.92 GiB is reserved by PyTorch but unallocated.")
SEGFAULT = """\
2026-11-24 12:00:00,000 httpx: something before
Fatal Python error: Segmentation fault

Thread 0x00007f (most recent call first):
  File "/lib/python3.11/threading.py", line 327 in wait

Current thread 0x00007e (most recent call first):
  File "/lib/bitsandbytes/functional.py", line 901 in quantize_4bit
  File "/lib/transformers/trainer.py", line 2301 in training_step

Extension modules: numpy._core (total: 1)
"""
TRACEBACK = """\
Traceback (most recent call last):
  File "/wb/worker/train.py", line 40, in main
    ending = _train(run, reporter, stack)
             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/lib/transformers/trainer.py", line 2301, in {function}
    loss = self.compute_loss(model, inputs)
{kind}: {message}
"""


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({"model": "tiny-base", "dataset": "glossary", **changes})


def raised(message: str, function: str = "training_step", kind: str = "torch.OutOfMemoryError", **changes: Any) -> Any:
    return explain_chain((Raised(kind.rpartition(".")[2], message),),
                         TRACEBACK.format(function=function, kind=kind, message=message), recipe(**changes), None)


def test_a_sentence_of_ours_stands_alone() -> None:
    assert explain_exception("NothingTrainedError", "No trained tensor changed.", True).explanation \
        == "No trained tensor changed."
    assert explain_exception("KeyError", "'labels'").explanation == "KeyError: 'labels'"
    assert explain_exception("DataError", "a.jsonl:7: not JSON", True).cause == "data"


@pytest.mark.parametrize(("kind", "message", "cause", "symptom"), [
    ("OutOfMemoryError", CUDA_OOM, "oom", "gpu-memory"),
    ("RuntimeError", "CUDA error: out of memory\nCUDA kernel errors might be asynchronous", "oom", "gpu-memory"),
    ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "oom", "gpu-memory"),
    ("MemoryError", "", "oom", "host-memory"),
    ("RuntimeError", "[enforce fail at alloc_cpu.cpp:125] err == 0. DefaultCPUAllocator: can't allocate memory: you "
     "tried to allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)", "oom", "host-memory"),
    ("_ArrayMemoryError", "Unable to allocate 7.45 GiB for an array with shape (1000, 1000000)", "oom", "host-memory"),
    ("ArrowMemoryError", "malloc of size 134217728 failed", "oom", "host-memory"),
    ("RuntimeError", "DataLoader worker (pid 4711) is killed by signal: Killed. ", "oom", "host-memory"),
    ("RuntimeError", "DataLoader worker (pid 4711) is killed by signal: Bus error. It is possible that dataloader's "
     "workers are out of shared memory. ERROR: Unexpected bus error encountered in worker. This might be caused by "
     "insufficient shared memory (shm).", "oom", "shared-memory"),
    ("SafetensorError", "Error while serializing: I/O error: No space left on device (os error 28)", "disk",
     "disk-full"),
    ("SafetensorError", "Error while serializing: I/O error: Disk quota exceeded (os error 122)", "disk", "disk-quota"),
    ("RuntimeError", "[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/8: file "
     "write failed", "disk", "disk-writing"),
    ("OSError", "[Errno 30] Read-only file system: 'checkpoints'", "disk", "disk-read-only"),
    ("OSError", "[Errno 5] Input/output error", "disk", "disk-broken"),
    ("AcceleratorError", "CUDA error: device-side assert triggered", "error", "cuda-assert"),
    ("RuntimeError", "CUDA error: an illegal memory access was encountered", "error", "cuda-access"),
    ("RuntimeError", "CUDA error: no kernel image is available for execution on the device", "error", "cuda-kernel"),
    ("RuntimeError", "The NVIDIA driver on your system is too old (found version 11040).", "error", "cuda-driver"),
    ("RuntimeError", "CUDA error: uncorrectable ECC error encountered", "error", "cuda-ecc"),
    ("RuntimeError", "CUDA unknown error - this may be due to an incorrect environment", "error", "cuda-unknown"),
    ("RuntimeError", "Found no NVIDIA driver on your system.", "error", "cuda-none"),
    ("RuntimeError", "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasLtMatmul`", "error", "cuda"),
    ("DistBackendError", "NCCL error in: ProcessGroupNCCL.cpp:2251, unhandled system error", "error", "nccl"),
    ("RuntimeError", "\n🚨 CUDA SETUP ERROR: Missing dependency: libcusparse.so.12 🚨", "error", "bitsandbytes"),
    ("ImportError", "Using `bitsandbytes` 4-bit quantization requires bitsandbytes: `pip install -U "
     "bitsandbytes>=0.46.1`", "error", "bitsandbytes"),
    ("ImportError", "FlashAttention2 has been toggled on, but it cannot be used due to the following error: the "
     "package flash_attn seems to be not installed.", "error", "flash-attention"),
    ("ModuleNotFoundError", "No module named 'peft'", "error", "library"),
    ("ImportError", "/lib/libtorch.so: undefined symbol: _ZNK", "error", "library"),
    ("GatedRepoError", "401 Client Error.\n\nCannot access gated repo for url https://hf.example", "hub", "hub-gated"),
    ("OSError", "You are trying to access a gated repo.\nMake sure to have access to it", "hub", "hub-gated"),
    ("OSError", "x/y is not a local folder and is not a valid model identifier listed on "
     "'https://huggingface.co/models'", "hub", "hub-missing"),
    ("OfflineModeIsEnabled", "Cannot reach https://huggingface.co/x/y: offline mode is enabled.", "hub", "hub-offline"),
    ("HfHubHTTPError", "429 Client Error: Too Many Requests for url", "hub", "hub-busy"),
    ("OSError", "We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the "
     "cached files.", "hub", "hub-unreachable"),
    ("ConnectTimeout", "timed out", "hub", "hub-unreachable"),
    ("TemplateSyntaxError", "unexpected '}'", "error", "template"),
    ("SafetensorError", "Error while deserializing header: incomplete metadata, file not fully covered", "error",
     "model-damaged"),
    ("RuntimeError", "Error(s) in loading state_dict for PeftModel:\n\tsize mismatch for base_model.model…", "error",
     "model-mismatch"),
    ("NonFiniteLossError", "train/loss became nan at step 3.", "nan", "nan"),
    ("OSError", "[Errno 24] Too many open files: 'a.jsonl'", "error", "open-files"),
    ("PermissionError", "[Errno 13] Permission denied: 'model'", "error", "permission"),
    ("ValueError", "expected 2 columns", "error", None),
])
def test_what_libraries_say_has_a_cause(kind: str, message: str, cause: str, symptom: str | None) -> None:
    ending = explain_exception(kind, message)
    assert (ending.outcome, ending.cause, ending.symptom) == ("failed", cause, symptom)
    assert ending.explanation
    assert ending.suggestion
    assert "\n" not in ending.explanation + ending.suggestion


def test_an_error_that_wraps_another_is_told_by_what_is_inside() -> None:
    try:
        try:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        except OSError as inner:
            raise RuntimeError("the checkpoint was not written") from inner
    except RuntimeError as error:
        chain = chain_of_causes(error)
    assert [one.kind for one in chain] == ["RuntimeError", "OSError"]
    ending = explain_chain(chain)
    assert (ending.cause, ending.symptom) == ("disk", "disk-quota")
    assert "quota" in str(ending.explanation)


def test_a_gpu_without_memory_is_told_in_its_own_figures() -> None:
    assert raised(CUDA_OOM).explanation \
        == "GPU 1 ran out of memory: 2.00 GiB more were asked for, and 1.25 GiB of its 79.10 GiB were free."


@pytest.mark.parametrize(("training", "more", "function", "changes"), [
    ({"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}, {}, "training_step",
     {"training.per_device_train_batch_size": 4, "training.gradient_accumulation_steps": 4}),
    ({"per_device_train_batch_size": 3, "gradient_accumulation_steps": 1}, {}, "training_step",
     {"training.per_device_train_batch_size": 1, "training.gradient_accumulation_steps": 3}),
    ({"per_device_train_batch_size": 1, "gradient_checkpointing": False}, {}, "training_step",
     {"training.gradient_checkpointing": True}),
    ({"per_device_train_batch_size": 1, "max_length": 2048}, {}, "training_step", {"training.max_length": 1024}),
    ({"per_device_train_batch_size": 1, "max_length": 2048, "packing": True}, {}, "training_step", {}),
    ({"per_device_train_batch_size": 2}, {"objective": "kto"}, "training_step", {"training.max_length": 512}),
    ({"per_device_eval_batch_size": 8}, {}, "prediction_step", {"training.per_device_eval_batch_size": 4}),
    ({"per_device_train_batch_size": 8}, {}, "from_pretrained", {}),
])
def test_less_memory_keeps_the_rows_of_a_step(training: dict[str, Any], more: dict[str, Any], function: str,
                                              changes: dict[str, Any]) -> None:
    ending = raised(CUDA_OOM, function, training=training, **more)
    assert ending.changes == changes
    for value in changes.values():
        assert str(value) in str(ending.suggestion).replace(",", "") or value is True, ending.suggestion
    if not changes:
        assert "anew" in str(ending.suggestion)
    before = recipe(training=training, **more)
    after = before.training.model_copy(update={key.removeprefix("training."): value for key, value in changes.items()})
    assert after.per_device_train_batch_size * after.gradient_accumulation_steps == before.effective_batch_size


def test_the_probe_says_itself_in_which_part_memory_ran_out() -> None:
    message = f"The memory probe ran out of memory before the first step, in evaluation of the longest rows: {CUDA_OOM}"
    ending = explain_chain((Raised("ProbeOutOfMemoryError", message, True, "Lower it."),), "", recipe())
    assert (ending.cause, ending.changes) == ("oom", {"training.per_device_eval_batch_size": 2})
    assert str(ending.explanation).startswith("The memory probe ran out of memory before the first step, in evaluation")


def test_a_loss_that_is_no_number_asks_for_a_lower_rate() -> None:
    ending = explain_chain((Raised("NonFiniteLossError", "train/loss became nan at step 9."),), "",
                           recipe(training={"learning_rate": 3e-4, "max_grad_norm": 0.0, "dtype": "float16"}),
                           "c/step-5")
    assert ending.changes == {"training.learning_rate": 1e-4, "training.max_grad_norm": 1.0}
    assert ending.checkpoint == "c/step-5"
    assert "bfloat16" in str(ending.suggestion)
    default = explain_chain((Raised("NonFiniteLossError", "x"),), "", recipe())
    assert default.changes == {"training.learning_rate": 6.7e-05}


def test_the_evidence_is_the_end_of_a_traceback() -> None:
    ending = raised("bad\x1b[31m", kind="ValueError")
    assert ending.evidence[-1] == "ValueError: bad\\x1b[31m"
    assert any("training_step" in line for line in ending.evidence)
    assert not any(set(line) <= {"^", " "} for line in ending.evidence)
    deep = "Traceback (most recent call last):\n" + '  File "a.py", line 1, in f\n    g()\n' * 50 + "E: x\n"
    assert len(explain_chain((Raised("E", "x"),), deep).evidence) == MOST_EVIDENCE


def test_the_evidence_of_our_own_sentences_is_what_they_came_from() -> None:
    chain = (Raised("InputError", "The model is damaged.", True, "Fetch it."), Raised("OSError", "bad\x1b block"))
    assert explain_chain(chain, TRACEBACK).evidence == ("OSError: bad\\x1b block",)
    steps = [f"step {step}: train/loss 1.5" for step in range(20)]
    nan = explain_chain((Raised("NonFiniteLossError", "train/loss became nan at step 20."),), TRACEBACK, recipe(), None,
                        [*steps, "step 20: train/loss NaN"])
    assert len(nan.evidence) == MOST_EVIDENCE
    assert nan.evidence[-1] == "step 20: train/loss NaN"


def test_a_crash_in_native_code_shows_where_it_was() -> None:
    ending = explain_exit(-signal.SIGSEGV, SEGFAULT, False)
    assert (ending.cause, ending.symptom) == ("error", "segfault")
    assert "SIGSEGV" in str(ending.explanation)
    assert ending.evidence[0] == "Fatal Python error: Segmentation fault"
    assert "quantize_4bit" in ending.evidence[1]
    assert not any("threading" in line for line in ending.evidence)


@pytest.mark.parametrize(("number", "log", "cause", "symptom"), [
    (signal.SIGABRT, "terminate called after throwing an instance of 'std::bad_alloc'\n", "oom", "host-memory"),
    (signal.SIGABRT, "memory allocation of 4294967296 bytes failed\n", "oom", "host-memory"),
    (signal.SIGABRT, "[rank1] Watchdog caught collective operation timeout: WorkNCCL\n", "error", "nccl"),
    (signal.SIGABRT, "free(): invalid pointer\n", "error", "sigabrt"),
    (signal.SIGTERM, "", "killed", "sigterm"),
    (signal.SIGXFSZ, "", "disk", "file-size"),
    (signal.SIGXCPU, "", "killed", "cpu-time"),
    (40, "", "killed", "signal-40"),
])
def test_every_signal_has_a_name_and_a_cause(number: int, log: str, cause: str, symptom: str) -> None:
    ending = explain_exit(-number, log, False)
    assert (ending.outcome, ending.cause, ending.symptom) == ("failed", cause, symptom)
    name = signal.Signals(number).name if number < 34 else "signal 40"
    assert name in str(ending.explanation)
    stopped = explain_exit(-number, log, True)
    assert (stopped.outcome, name in str(stopped.explanation)) == ("stopped", True)


def test_a_container_that_wraps_the_signal_is_seen_through() -> None:
    assert explain_exit(128 + signal.SIGSEGV, SEGFAULT, False).symptom == "segfault"
    assert explain_exit(128 + signal.SIGKILL, "", False, killer="kernel").cause == "oom"


def test_who_killed_is_told_by_the_kernels_counters() -> None:
    def before(group: int | None, machine: int | None) -> Before:
        return Before(MemoryGroup(kills=group), machine, 0)

    limited = MemoryGroup(limit_bytes=8 << 30, kills=4, limit_hits=1)
    assert who_killed(before(3, 9), limited, 10) == ("kernel", "the memory limit of its control group, 8.0 GiB")
    assert who_killed(before(3, 9), replace(limited, limit_hits=0), 10) \
        == ("kernel", "the end of the memory here, or the memory limit of its control group, 8.0 GiB")
    assert who_killed(before(4, 9), limited, 10) == ("somebody", "")  # the kernel killed another's process
    assert who_killed(before(None, 9), MemoryGroup(), 10) == ("kernel", "")
    assert who_killed(before(None, 9), MemoryGroup(), 9) == ("somebody", "")
    assert who_killed(before(None, None), MemoryGroup(), None) == ("unknown", "")
    kernel = explain_exit(-signal.SIGKILL, "", False, killer="kernel", memory_limit="the limit, 8.0 GiB",
                          recipe=recipe())
    assert kernel.explanation \
        == "The kernel killed the worker for lack of memory (SIGKILL): it reached the limit, 8.0 GiB."
    assert kernel.changes["training.per_device_train_batch_size"] == 2
    somebody = explain_exit(-signal.SIGKILL, "", False, killer="somebody", recipe=recipe())
    assert (somebody.cause, somebody.changes) == ("killed", {})
    assert "by somebody" in str(somebody.explanation)


def test_a_hang_shows_the_frames_it_was_in() -> None:
    frames = "".join(f'  File "a.py", line {number} in f{number}\n' for number in range(20))
    log = f"loading\nStack (most recent call first):\n{frames}"
    ending = explain_hang(30, log, "Go on.", "checkpoints/step-00000001")
    assert ending.explanation \
        == "The worker gave no sign of life for 30 minutes, so it was ended; the lines show where it was."
    assert (len(ending.evidence), ending.evidence[0]) == (MOST_EVIDENCE, 'File "a.py", line 0 in f0')
    halted = explain_hang(30, "loading\n", "Go on.")
    assert (halted.evidence, "the lines show" in str(halted.explanation)) == (("loading",), False)


def test_a_kill_by_the_kernel_is_no_stop_that_somebody_asked_for() -> None:
    assert explain_exit(-signal.SIGKILL, "", True, killer="kernel").cause == "oom"
    assert explain_exit(-signal.SIGKILL, "", True, killer="somebody").outcome == "stopped"


def test_a_worker_that_left_by_itself_is_told_by_its_log() -> None:
    early = TRACEBACK.format(function="<module>", kind="ModuleNotFoundError", message="No module named 'trl'")
    ending = explain_exit(1, early, False)
    assert (ending.cause, ending.symptom) == ("error", "library")
    assert "trl" in str(ending.explanation)
    bitsandbytes = explain_exit(1, "Error out of memory at line 380 in file /src/csrc/pythonInterface.cpp\n", False)
    assert bitsandbytes.symptom == "gpu-memory"
    assert explain_exit(7, "", False).explanation == "The worker ended with exit code 7: it left no message"
    assert explain_exit(EXIT_UNWRITABLE, "", False).cause == "disk"


@pytest.mark.parametrize(("line", "files"), [
    ("0::/job", {"job/memory.current": "2000", "job/memory.max": "max", "memory.max": "9000",
                 "job/memory.events": "low 0\noom 2\noom_kill 3\n", "job/memory.stat": "anon 5\ninactive_file 500\n"}),
    ("4:cpu,memory:/job", {"memory/job/memory.usage_in_bytes": "2000", "memory/job/memory.limit_in_bytes": "9000",
                           "memory/memory.limit_in_bytes": "9223372036854771712",
                           "memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
                           "memory/job/memory.failcnt": "2",
                           "memory/job/memory.stat": "total_inactive_file 500\n"}),
    # A container: the path is the host's, the group is mounted as the root.
    ("0::/docker/abc", {"memory.current": "2000", "memory.max": "9000", "memory.events": "oom 2\noom_kill 3\n",
                        "memory.stat": "inactive_file 500\n"}),
])
def test_a_control_groups_memory_is_read(line: str, files: dict[str, str], tmp_path: Path) -> None:
    proc, mounts = tmp_path / "proc", tmp_path / "sys" / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text(f"1:name=systemd:/\n{line}\n")
    (proc / "vmstat").write_text("pgfault 7\noom_kill 5\n")
    for name, text in files.items():
        (mounts / name).parent.mkdir(parents=True, exist_ok=True)
        (mounts / name).write_text(text)
    assert memory_group(None, proc, mounts) == MemoryGroup(9000, 1500, 3, 2)
    assert memory_group(None, proc, mounts).free_bytes == 7500
    assert machine_kills(proc) == 5
    assert memory_group(None, tmp_path / "nothing", mounts) == MemoryGroup()
