"""What all tests of screens share."""

import pytest

from workbench.tui import data_checks
from workbench.tui.screens import data


@pytest.fixture(autouse=True)
def unhurried_checks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data is checked in the tests that are about it (`pytest.mark.checks`): elsewhere it would only take time."""
    if request.node.get_closest_marker("checks") is None:
        monkeypatch.setattr(data_checks.DataChecks, "ask", lambda *arguments: None)
        monkeypatch.setattr(data, "_RENDER_DELAY", 1e6)
