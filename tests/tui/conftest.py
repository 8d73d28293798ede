"""What all tests of screens share."""

import pytest

from tests.tui.inspector import StagedInspector
from workbench.tui import app as app_module
from workbench.tui import data_checks
from workbench.tui.screens import data, launching, run_actions


@pytest.fixture(autouse=True)
def unhurried_checks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data is checked in the tests that are about it (`pytest.mark.checks`): elsewhere it would only take time."""
    if request.node.get_closest_marker("checks") is None:
        monkeypatch.setattr(data_checks.DataChecks, "ask", lambda *arguments: None)
        monkeypatch.setattr(data, "_RENDER_DELAY", 1e6)


@pytest.fixture
def inspector(monkeypatch: pytest.MonkeyPatch) -> StagedInspector:
    """In the place of the data worker: what it answers is the test's to say, and it is asked at once."""
    staged = StagedInspector()
    monkeypatch.setattr(app_module, "Inspector", lambda: staged)
    monkeypatch.setattr(data_checks, "STRUCTURE_DELAY", 0.01)
    monkeypatch.setattr(data_checks, "TOKENS_DELAY", 0.0)
    return staged


@pytest.fixture(autouse=True)
def nothing_in_the_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a preflight finds depends on the machine: only the tests that are about it (`pytest.mark.preflight`) say."""
    if request.node.get_closest_marker("preflight") is None:
        for module, name in ((launching, "preflight"), (run_actions, "preflight")):
            monkeypatch.setattr(module, name, lambda *arguments: ())
