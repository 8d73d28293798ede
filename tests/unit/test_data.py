"""Datasets: sources, formats, and faults named by line."""

from pathlib import Path

import pytest

from workbench.engine.data.conversations import read_conversations
from workbench.engine.data.sources import DataError, resolve_dataset
from workbench.engine.errors import InputError

GOOD = '{"prompt": "a", "completion": "b"}'


@pytest.mark.parametrize(("line", "name", "messages"), [
    ('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}', "messages", 2),
    (GOOD, "prompt-completion", 2),
    ('{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}], '
     '"completion": [{"role": "assistant", "content": "b"}]}', "prompt-completion", 3),
    ('{"instruction": "a", "input": "c", "output": "b"}', "alpaca", 2),
])
def test_formats_become_conversations(line: str, name: str, messages: int, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(line + "\n")
    found = read_conversations(path)
    assert found.format.name == name
    assert len(found.rows[0]) == messages
    assert found.rows[0][-1] == {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(("bad", "words"), [
    ("{broken", "not valid JSON"), ("[1]", "is a list"), ('{"prompt": "", "completion": "b"}', "`prompt` is empty"),
    ('{"prompt": "a", "completion": 5}', "`completion` is a number, not text"),
    ('{"prompt": "a"}', "`completion` is missing"),
    ('{"prompt": [{"role": "boss", "content": "x"}], "completion": "b"}', "'boss' is not a role"),
    ('{"prompt": "a", "completion": [{"role": "user", "content": "x"}]}', "message 2 is user after user"),
])
def test_a_bad_line_seven_is_named(bad: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join([GOOD] * 6 + [bad] + [GOOD]))
    with pytest.raises(DataError) as caught:
        read_conversations(path)
    assert f"{path}:7: " in caught.value.message
    assert words in caught.value.message


def test_bom_crlf_and_blank_lines_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n\r\n" + GOOD.encode() + b"\r\n")
    assert len(read_conversations(path).rows) == 2


def test_a_json_array_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(f"[{GOOD}, {GOOD}]")
    assert len(read_conversations(path, max_rows=1).rows) == 1
    path.write_text("5")
    with pytest.raises(DataError, match="not a list of rows"):
        read_conversations(path)


def test_unknown_columns_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"foo": 1, "bar": 2}\n')
    with pytest.raises(DataError, match="cannot use the columns bar, foo"):
        read_conversations(path)
    path.write_text("")
    with pytest.raises(DataError, match="has no rows"):
        read_conversations(path)


def test_sources(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(GOOD)
    assert resolve_dataset("d.jsonl", tmp_path).kind == "file"
    assert resolve_dataset("glossary").kind == "built-in"
    assert resolve_dataset("trl-lib/Capybara").kind == "hub"
    for wrong in ("nope", "./nope.jsonl", "d.exe"):
        with pytest.raises(InputError):
            resolve_dataset(wrong, tmp_path)
    with pytest.raises(InputError, match="no dataset") as caught:
        resolve_dataset("glosary")
    assert caught.value.hint == "Did you mean glossary?"
