"""The machine's gauges with any number of GPUs, at any width."""

from tests.tui.synthetic import HOST, no_gpu, one_gpu
from workbench.engine.hardware.gpus import Gpu
from workbench.tui.app import WorkbenchApp
from workbench.tui.widgets.gauges import Gauges


def machine_text(gauges: Gauges, width: int) -> str:
    return "\n".join(str(line) for line in gauges.compose_lines(width))


async def test_gauges_fit_any_number_of_gpus() -> None:
    unknown = Gpu(0, "GPU-0", "NVIDIA Test", None, None, None, None, None, None)
    async with WorkbenchApp(start="watch", hardware=no_gpu).run_test() as pilot:
        gauges = pilot.app.screen.query_one(Gauges)
        for gpus in ([], one_gpu()[0], [unknown] * 2, one_gpu()[0] * 8):
            gauges.show(gpus, HOST)
            text = machine_text(gauges, 40)
            assert all(len(line) <= 40 for line in text.split("\n"))
            assert "6.0 / 16.0 GiB" in text
            assert ("No GPU" in text) == (not gpus)
            assert len(machine_text(gauges, 3).split("\n")) == len(text.split("\n"))
        gauges.show(one_gpu()[0], HOST)
        text = machine_text(gauges, 40)
        assert "61 °C" in text
        assert "412 W" in text
        assert "87 %" in text
        assert "13.0 / 141.0 GiB" in text
