"""What happens to the files under a screen, and to two screens on one home: nobody falls over or acts twice."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.tui.synthetic import SyntheticRun, no_gpu, supervised
from tests.tui.test_runs_screen import finished, rows, runs_screen, until
from tests.tui.test_watch_screen import header, notice, pane, postmortem, values, watching
from workbench.tui.app import WorkbenchApp
from workbench.tui.screens.confirm import ConfirmScreen
from workbench.tui.widgets.samples_pane import SamplesPane


def raw(run: SyntheticRun, *lines: bytes) -> None:
    with run.run.events.open("ab") as file:
        file.write(b"".join(lines))


async def test_damaged_lines_of_every_kind_are_counted_and_the_rest_is_shown(home: Path) -> None:
    live = SyntheticRun(home, "live").start().steps(1, 60)
    with supervised(live.run):
        async with watching(live.run) as (app, pilot):
            assert notice(app) == ""
            last = live.run.events.read_bytes().splitlines(keepends=True)[-1]
            # Broken JSON, no object, binary, invalid UTF-8, the line before once more; then half a line.
            raw(live, b"{broken\n", b"[1, 2]\n", os.urandom(64).replace(b"\n", b"x") + b"\n", b"\xff\xfe\x00\n", last)
            await until(pilot, lambda: "5 damaged lines skipped" in notice(app))
            raw(live, b'{"v":1,"seq":999999,"type":"ste')
            await pilot.pause(0.4)
            assert "step  60/300" in header(app)[0]
            raw(live, b"\n")
            await until(pilot, lambda: "6 damaged lines skipped" in notice(app))
            live.steps(61, 70)
            await until(pilot, lambda: "step  70/300" in header(app)[0])


async def test_a_journal_that_was_put_back_is_shown_from_its_start(home: Path) -> None:
    live = SyntheticRun(home, "live").start().sample(0).steps(1, 60)
    kept, kept_samples = live.run.events.read_bytes(), live.run.samples.read_bytes()
    live.steps(61, 120)
    with supervised(live.run):
        async with watching(live.run) as (app, pilot):
            assert "step 120/300" in header(app)[0]
            assert app.screen.query_one(SamplesPane).step == 100
            # Replaced by a shorter copy, then cut in place.
            for path, data in ((live.run.events, kept), (live.run.samples, kept_samples)):
                copy = path.with_suffix(".copy")
                copy.write_bytes(data)
                copy.replace(path)
            await until(pilot, lambda: "step  60/300" in header(app)[0])
            await until(pilot, lambda: app.screen.query_one(SamplesPane).step == 50)
            live.run.events.write_bytes(b"")
            await until(pilot, lambda: values(app)["loss"] == "–")
            live.run.samples.write_bytes(b"")
            await until(pilot, lambda: "No answers" in pane(app, SamplesPane))


async def test_what_is_void_after_a_resume_is_on_no_curve_and_in_no_sample(home: Path) -> None:
    run = SyntheticRun(home, "again").start().sample(0).steps(1, 120).checkpoint(60)
    with supervised(run.run):
        async with watching(run.run) as (app, pilot):
            await pilot.press("left_square_bracket", "right_square_bracket")
            assert app.screen.query_one(SamplesPane).step == 100
            run.event("resumed", step=60, checkpoint="checkpoints/step-00000060", changes={}, attempt=1)
            with run.run.samples.open("ab") as file:
                file.write(orjson.dumps({"resumed": 60}) + b"\n")
            await until(pilot, lambda: "step  60/300" in header(app)[0])
            await until(pilot, lambda: app.screen.query_one(SamplesPane).step == 50)
            run.start().steps(61, 110)
            await until(pilot, lambda: app.screen.query_one(SamplesPane).step == 100)


async def test_a_run_that_is_deleted_under_its_question_is_gone_without_an_error(home: Path) -> None:
    run = finished(home, "gone", 9)
    async with runs_screen() as (app, pilot):
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        shutil.rmtree(run.run.path)
        await pilot.press("y")
        await until(pilot, lambda: any("deleted already" in toast.title for toast in app._notifications))
        await until(pilot, lambda: rows(app) == [])


async def test_a_run_whose_files_are_gone_but_for_its_directory_is_shown(home: Path) -> None:
    run = SyntheticRun(home, "bare").start().steps(1, 30).fail()
    async with watching(run.run) as (app, pilot):
        assert postmortem(app)
        for path in list(run.run.path.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (run.run.path / "recipe.yaml").mkdir()
        (run.run.path / "events.jsonl").mkdir()
        await until(pilot, lambda: "cannot be read" in str(app.screen.query_one("#empty").render()))
        app.action_go("runs")
        await until(pilot, lambda: bool(rows(app)) and rows(app)[0][:2] == ["bare", "● crashed"])


@pytest.fixture
def read_only(home: Path) -> Iterator[Path]:
    """A home on a file system that is made read-only by `mount -o remount,ro`; that takes root."""
    home.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", home], capture_output=True).returncode:
        pytest.skip("a read-only file system can be mounted by root only")
    yield home
    subprocess.run(["umount", "-l", home], check=True)


async def test_a_read_only_run_is_shown_and_what_cannot_be_done_is_said(read_only: Path) -> None:
    live = SyntheticRun(read_only, "live", hour=9).start().sample(0).steps(1, 60)
    done = SyntheticRun(read_only, "done", hour=8).start().steps(1, 60).fail()
    with supervised(live.run):
        # The lock that is held stays open for writing, which a remount would refuse: a second mount is read-only.
        subprocess.run(["mount", "--bind", read_only, read_only], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", read_only], check=True)
        try:
            async with watching(live.run) as (app, pilot):
                assert "step  60/300" in header(app)[0]
                await pilot.press("p")
                await until(pilot, lambda: any("cannot be told to pause: Read-only file system" in toast.title
                                               for toast in app._notifications))
                app.watch_run(done.run)
                await until(pilot, lambda: "GPU 0 ran out of memory" in postmortem(app))
                await pilot.press("r")
                await until(pilot, lambda: len(app._notifications) == 2)
                app.action_go("runs")
                await until(pilot, lambda: [row[0] for row in rows(app)] == ["live", "done"])
                await pilot.press("down", "d")
                await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
                await pilot.press("y")
                await until(pilot, lambda: any("cannot be deleted" in toast.title for toast in app._notifications))
            assert done.run.path.exists()
        finally:
            subprocess.run(["umount", "-l", read_only], check=True)


async def test_two_screens_on_one_home_that_do_the_same(home: Path) -> None:
    live, done = SyntheticRun(home, "live", hour=9).start().steps(1, 60), finished(home, "done", 8)
    first, second = (WorkbenchApp(start="runs", hardware=no_gpu) for _ in range(2))
    with supervised(live.run):
        async with first.run_test() as one, second.run_test() as two:
            for app, pilot in ((first, one), (second, two)):
                await until(pilot, lambda app=app: len(rows(app)) == 2)  # type: ignore[misc]
                await pilot.press("s")
                await until(pilot, lambda app=app: isinstance(app.screen, ConfirmScreen))  # type: ignore[misc]
            for pilot in (one, two):
                await pilot.press("y")
            await until(two, lambda: live.run.control.exists() and live.run.control.read_bytes().count(b"\n") == 2)
            # Both were asked for whole: two lines that can be told apart.
            lines = [orjson.loads(line) for line in live.run.control.read_bytes().splitlines()]
            assert [line["command"] for line in lines] == ["stop", "stop"]
            assert lines[0]["id"] != lines[1]["id"]
            for app, pilot in ((first, one), (second, two)):
                await pilot.press("down", "d")
                await until(pilot, lambda app=app: isinstance(app.screen, ConfirmScreen))  # type: ignore[misc]
            await one.press("y")
            await until(one, lambda: not done.run.path.exists())
            await two.press("y")
            await until(two, lambda: any("deleted already" in toast.title for toast in second._notifications))
            for app, pilot in ((first, one), (second, two)):
                await until(pilot, lambda app=app: [row[0] for row in rows(app)] == ["live"])  # type: ignore[misc]
