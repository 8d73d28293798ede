"""GPUs through a stand-in for NVML: every figure may be missing, and nothing may raise."""

import builtins
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.engine.hardware.gpus import gpu_processes, list_gpus
from workbench.engine.hardware.host import host_snapshot


class NvmlError(Exception):
    """What pynvml raises when a figure is not supported."""


def nvml(**replaced: Any) -> Any:
    def refuse(*_: object) -> Any:
        raise NvmlError

    answers: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda index: SimpleNamespace(total=80, free=60 - index, used=20 + index),
        "nvmlDeviceGetUtilizationRates": lambda index: SimpleNamespace(gpu=37),
        "nvmlDeviceGetPowerUsage": lambda index: 61_500,
        "nvmlDeviceGetTemperature": lambda index, sensor: 44,
        "nvmlDeviceGetUUID": lambda index: f"GPU-{index}",
        "nvmlDeviceGetName": lambda index: b"NVIDIA A100",
        "NVML_TEMPERATURE_GPU": 0,
    }
    return SimpleNamespace(**answers | {name: value or refuse for name, value in replaced.items()})


def test_every_figure_is_read() -> None:
    first, second = list_gpus(nvml())
    assert (first.index, first.uuid, first.name) == (0, "GPU-0", "NVIDIA A100")
    assert (first.total_bytes, first.free_bytes, first.used_bytes) == (80, 60, 20)
    assert (first.utilization, first.temperature, first.power_watts) == (37, 44, 61.5)
    assert (second.index, second.free_bytes) == (1, 59)


def test_a_figure_that_is_not_supported_is_none() -> None:
    gpu = list_gpus(
        nvml(
            nvmlDeviceGetMemoryInfo=None, nvmlDeviceGetUtilizationRates=None, nvmlDeviceGetPowerUsage=None,
            nvmlDeviceGetTemperature=None, nvmlDeviceGetUUID=None, nvmlDeviceGetName=None,
        )
    )[1]
    assert (gpu.name, gpu.uuid) == ("GPU", "index-1")
    assert {gpu.total_bytes, gpu.free_bytes, gpu.used_bytes} == {None}
    assert {gpu.utilization, gpu.temperature, gpu.power_watts} == {None}


def test_no_power_drawn_is_not_no_answer() -> None:
    assert list_gpus(nvml(nvmlDeviceGetPowerUsage=lambda index: 0))[0].power_watts == 0


@pytest.mark.parametrize("fault", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"])
def test_a_driver_that_fails_means_no_gpus(fault: str) -> None:
    assert list_gpus(nvml(**{fault: None})) == []


def test_nvml_is_shut_down_again() -> None:
    calls: list[str] = []
    list_gpus(nvml(nvmlShutdown=lambda: calls.append("shutdown")))
    assert calls == ["shutdown"]


def test_a_missing_library_means_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_pynvml(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "pynvml":
            raise ImportError
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_pynvml)
    assert list_gpus() == []


def test_the_host_has_plausible_figures() -> None:
    host = host_snapshot()
    assert 0 < host.ram_available_bytes <= host.ram_total_bytes
    assert host.cores >= 1
    assert 0 <= host.cpu_percent <= 100
    assert host.load is None or host.load >= 0


def test_importing_the_modules_loads_nothing_heavy() -> None:
    script = (
        "import sys; import workbench.engine.memory.comparison, workbench.engine.catalog.models, "
        "workbench.engine.hardware.host\n"
        "print(sorted({'torch', 'transformers', 'pynvml', 'psutil', 'textual', 'pydantic'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_who_holds_a_gpu_is_named_the_largest_first() -> None:
    own, gone = os.getpid(), 2**22 + 1
    entries = [SimpleNamespace(pid=gone, usedGpuMemory=None), SimpleNamespace(pid=own, usedGpuMemory=7)]
    found = gpu_processes(nvml(nvmlDeviceGetComputeRunningProcesses=lambda index: entries if index == 0 else []))
    assert [(process.pid, process.held_bytes) for process in found["GPU-0"]] == [(own, 7), (gone, None)]
    assert found["GPU-0"][0].name
    assert found["GPU-0"][0].user
    assert (found["GPU-0"][1].name, found["GPU-1"]) == (None, ())
    assert gpu_processes(nvml(nvmlInit=None)) == {}
    assert gpu_processes(nvml(nvmlDeviceGetComputeRunningProcesses=None))["GPU-0"] == ()
