"""The README says where things are, and there they are."""

import re

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert len(links) > 30
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_what_survives_names_the_tests_of_every_row() -> None:
    table = README.split("## What survives")[1].split("##")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| what happens")]
    assert len(rows) >= 19
    for row in rows:
        names = re.findall(r"\[(\w+)\]\((tests/\w+/test_(\w+)\.py)\)", row)
        assert names, row
        assert all(shown == file for shown, _, file in names), row
