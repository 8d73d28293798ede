"""Plan's way to Explain, to what would make it fit, and to what stands below the edge."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.containers import VerticalScroll
from textual.pilot import Pilot
from textual.widgets import Static

from tests.tui.test_plan_screen import application, field, settled, shown
from workbench.engine.memory.calibration import Throughput
from workbench.engine.memory.estimate import MemoryEstimate
from workbench.engine.memory.suggestions import Suggestion
from workbench.engine.planning import Plan, make_plan
from workbench.engine.recipe import Recipe
from workbench.engine.rehearsal import Rehearsal
from workbench.tui.screens import plan as plan_module
from workbench.tui.screens.explain import ExplainScreen
from workbench.tui.screens.plan import PlanScreen
from workbench.tui.widgets.explanation_view import ExplanationView
from workbench.tui.widgets.plan_facts import PlanFacts, plan_facts
from workbench.tui.widgets.rehearsal_status import RehearsalStatus, rehearsal_sentence, rehearsal_title
from workbench.tui.widgets.suggestion_list import SuggestionList

GIB = 2**30


async def explained(pilot: Pilot[Any]) -> tuple[ExplainScreen, str]:
    await pilot.pause(0.1)
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()
    screen = pilot.app.screen
    assert isinstance(screen, ExplainScreen)
    return screen, "\n".join(str(part.render()) for part in screen.query_one(ExplanationView).query(Static))


async def test_e_explains_the_tuning_and_arrows_and_signs_change_topic_and_rank() -> None:
    app = application(gpus=1)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("e")
        screen, text = await explained(pilot)
        assert screen.topic == "lora"
        assert "ADAPTER r=64" in text
        await pilot.press("plus")
        screen, text = await explained(pilot)
        assert "ADAPTER r=128" in text
        await pilot.press("minus", "minus", "right")
        screen, text = await explained(pilot)
        assert (screen.topic, screen.subject.case.lora_r) == ("qlora", 32)
        await pilot.press("right")
        screen, text = await explained(pilot)
        assert "model.layers.2" in text
        view = screen.query_one(ExplanationView)
        await pilot.press("pagedown")
        assert view.scroll_offset.y > 0
        await pilot.press("escape")
        assert isinstance(app.screen, PlanScreen)


async def test_a_letter_belongs_to_the_field_and_f1_explains_from_there() -> None:
    app = application()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await settled(pilot)
        name = field(screen, "name").query_one("Input")
        name.focus()
        await pilot.press("end", "e")
        assert field(screen, "name").value.endswith("e")
        assert isinstance(app.screen, PlanScreen)
        assert "e" not in screen.active_bindings
        assert "f1" in screen.active_bindings
        await pilot.press("f1")
        await explained(pilot)
        await pilot.press("f1", "escape", "e")
        await explained(pilot)


async def test_the_objective_is_explained_where_it_has_the_focus() -> None:
    app = application()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await settled(pilot)
        field(screen, "objective").query_one("Choice").focus()
        await pilot.press("e")
        explain, text = await explained(pilot)
        assert explain.topic == "sft"
        assert "log 3,072" in text


async def test_explain_in_seven_bits(tmp_path: Path) -> None:
    app = application()
    app.ascii_only = True
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("e", "right", "right")
        _, text = await explained(pilot)
        assert text.isascii()


def made_to_fit(recipe: Recipe, *rest: Any) -> Plan:
    plan = make_plan(recipe, *rest)
    if recipe.tuning == "qlora":
        return plan
    return replace(plan, suggestions=(
        Suggestion((("training.optim", "adamw_bnb_8bit"),), "8-bit optimizer", 30 * GIB, "no"),
        Suggestion((("tuning", "qlora"), ("training.per_device_train_batch_size", 1)), "QLoRA", 8 * GIB, "fits")))


async def test_a_suggestion_is_applied_by_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "make_plan", made_to_fit)
    app = application(gpus=1)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await settled(pilot)
        suggestions = screen.query_one(SuggestionList)
        assert suggestions.display
        assert "ctrl+t" in screen.active_bindings
        assert suggestions.marked is not None
        assert suggestions.marked.words == "QLoRA"
        await pilot.press("ctrl+t")
        screen = await settled(pilot)
        assert screen.recipe is not None
        assert (screen.recipe.tuning, screen.recipe.training.per_device_train_batch_size) == ("qlora", 1)
        assert field(screen, "tuning").value == "qlora"
        assert not suggestions.display
        assert "ctrl+t" not in screen.active_bindings


async def test_page_keys_show_what_is_below_even_while_typing() -> None:
    app = application(gpus=2)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await settled(pilot)
        assert screen.query_one("#more").display
        field(screen, "training.max_length").query_one("Input").focus()
        await pilot.press("pagedown")
        await pilot.pause()
        assert screen.query_one("#meaning", VerticalScroll).scroll_offset.y > 0
        await pilot.resize_terminal(120, 50)
        await settled(pilot)
        assert not screen.query_one("#more").display


async def test_time_is_unknown_before_a_first_run_and_measured_after() -> None:
    app = application()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await settled(pilot)
        plan = screen._plan
        assert plan is not None
        facts = dict(plan_facts(plan, None, False))
        assert "unknown until a first run" in facts["time"]
        assert plan.seconds is None
        measured = replace(plan, throughput=Throughput(1234.0, 64.0, "20260101-000000-demo-0000"), seconds=7500.0)
        assert dict(plan_facts(measured, None, False))["time"] == "about 2h05m at 1,234 tokens/s, as measured here"
        assert facts["peak"].count("MiB") == 3
        lines = screen.query_one(PlanFacts).compose_lines(36)
        assert all(len(line.plain) <= 36 for line in lines)


async def test_what_is_not_estimated_is_said_in_full(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("model: tiny-base\ndataset: glossary\nlora: {target_modules: [no_such_layer]}\n")
    app = application(gpus=1, recipe=path)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await settled(pilot)
        assert shown(screen).count("not estimated") == 2
        assert screen._plan is not None
        assert "no_such_layer" in dict(plan_facts(screen._plan, None, False))["peak"]
        field(screen, "model").query_one("Input").focus()
        await pilot.press("ctrl+u", *"nobody/unknown")
        screen = await settled(pilot)
        assert screen._plan is not None
        assert "on this disk or by name" in shown(screen)
        assert "rehearsed" not in dict(plan_facts(screen._plan, None, False))


def test_a_rehearsal_is_told_in_a_sentence() -> None:
    recipe = Recipe(model="tiny-base", dataset={"path": "glossary"})  # type: ignore[arg-type]
    assert "ctrl+r" in rehearsal_sentence(None, None, False)
    running = RehearsalStatus(recipe, share=0.4, words="tracing 2 layers")
    assert rehearsal_sentence(running, None, True) == "====------ 40% tracing 2 layers (esc cancels)"
    found = Rehearsal(10 * GIB, "loss", 8 * GIB, (2, 4), 9.0, 1000, 10, {})
    done = RehearsalStatus(recipe, found=found)
    assert rehearsal_sentence(done, None, False) == "10.00 GiB; at the loss; took 9s"
    estimate = MemoryEstimate(1, 1, 1, 11 * GIB, 10 * GIB, 12 * GIB, "optimizer step", {})
    assert rehearsal_sentence(done, estimate, False) == "10.00 GiB; the estimate is +10.0%; at the loss; took 9s"
    same = replace(estimate, peak_bytes=10 * GIB + 1, peak_moment="loss")
    assert rehearsal_sentence(done, same, False) == "10.00 GiB; the estimate says the same; took 9s"
    failed = RehearsalStatus(recipe, problem="No such model.")
    assert rehearsal_sentence(failed, estimate, False) == "No such model."
    assert [rehearsal_title(status) for status in (None, running, done, failed)] == [
        "Predicted GPU memory", "GPU memory: rehearsing, 40%", "GPU memory: rehearsed 10.00 GiB",
        "GPU memory: not rehearsed"]
