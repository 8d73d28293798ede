"""What speaks against queueing a run: not what is on the GPUs now, but what would keep it waiting for ever."""

from dataclasses import replace
from pathlib import Path

from tests.unit.test_preflight import LLAMA, around, gpu, plan_of
from workbench.engine.hardware.gpus import GpuProcess
from workbench.engine.planning import Plan
from workbench.engine.preflight import PreflightCheck, preflight, problems_of


def memory(plan: Plan) -> PreflightCheck:
    busy = around(GPU_0=(GpuProcess(7, 75 * 2**30, "vllm", "ada"),))
    assert {check.id for check in preflight(plan, None, busy)} >= {"memory", "gpu-free"}
    found = preflight(plan, None, replace(busy, queued=True))
    assert "gpu-free" not in {check.id for check in found}
    check, = (check for check in found if check.id == "memory")
    return check


def test_a_gpu_that_is_full_now_is_what_it_waits_for(home: Path) -> None:
    plan = plan_of((gpu(0, 4),), model=LLAMA)
    assert [check.id for check in problems_of(preflight(plan, None, around()))] == ["memory"]
    check = memory(plan)
    assert check.status == "ok"
    assert check.message.startswith("It starts when ")


def test_what_no_gpu_offers_would_be_waited_for_for_ever(home: Path) -> None:
    check = memory(plan_of((gpu(0, 4), gpu(1, 79)), model="meta-llama/Llama-3.1-70B", tuning="full"))
    assert check.status == "problem"
    assert "for ever: no GPU that it may use offers more than 79." in check.message
    assert check.fix


def test_on_the_cpu_it_is_looked_at_as_ever(home: Path) -> None:
    for plan in (plan_of(), plan_of((gpu(0, 4),), hardware={"use_cpu": True})):
        assert preflight(plan, None, replace(around(), queued=True)) == preflight(plan, None, around())
