"""Files of every kind are read row by row: what cannot be read is named by its line, and nothing is held whole."""

import gzip
import json
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from workbench.engine.data import sources, streams
from workbench.engine.data.examples import Located, Rejected, read_examples
from workbench.engine.data.readers import read_rows
from workbench.engine.data.sources import KINDS, DataError, resolve_dataset
from workbench.engine.data.streams import Meter
from workbench.engine.data.values import BadRow
from workbench.engine.errors import InputError
from workbench.engine.recipe_data import DatasetPart

ROW = {"prompt": "a", "completion": "b"}
GOOD = json.dumps(ROW)


def rows(path: Path, content: bytes) -> list[tuple[int, Any]]:
    path.write_bytes(content)
    return list(read_rows(path))


def reasons(found: list[tuple[int, Any]]) -> dict[int, str]:
    return {line: row.reason for line, row in found if isinstance(row, BadRow)}


def zst(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(("bad", "words"), [
    (b"{broken", "not valid JSON"), (b"[1]", "the row is a list"), (b"5", "the row is a number"),
    (b'{"prompt": "a\x01"}', "control character"), (b'{"prompt": "\xff"}', "not valid UTF-8: byte 0xff at column 13"),
    (b'{"prompt": "\\ud800"}', "not valid JSON"), (b"\x00\x00", "not valid JSON"), (b"\x1b[31m", "not valid JSON"),
    (b"[" * 2000, "not valid JSON"),
])
def test_a_bad_line_seven_is_named_and_the_others_are_read(bad: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    good = GOOD.encode()
    found = rows(path, b"\n".join([good] * 6 + [bad] + [good]))
    assert words in reasons(found)[7]
    assert [line for line, row in found if row == ROW] == [1, 2, 3, 4, 5, 6, 8]


def test_what_writers_do_to_json_lines_is_no_fault(tmp_path: Path) -> None:
    good = GOOD.encode()
    found = rows(tmp_path / "d.jsonl", b"\xef\xbb\xbf" + good + b"\r\n\r\n" + good + b"\r\n"
                 b'{"prompt": NaN, "completion": "\\u0000 \\u001b[31m"}')
    assert found == [(1, ROW), (3, ROW), (4, {"prompt": None, "completion": "\x00 \x1b[31m"})]


@pytest.mark.parametrize(("content", "expected"), [
    (f"[{GOOD}, {GOOD}]", 2), (f"[\n  {GOOD}\n]\n", 1), ("[]", 0), ("", 0), ("  \n", 0),
    (f'{{"version": "1", "data": [{GOOD}], "more": 3}}', 1),
    (f'{{\n"meta": {{"a": [1]}}, "tags": ["x"], "none": [],\n"data": [\n{GOOD}\n]\n}}', 1),
    (f"{GOOD}\n{GOOD}\n", 2), (GOOD, 1), ('{"messages": [{"role": "user", "content": "x"}]}', 1),
])
@pytest.mark.parametrize("name", ["d.json", "d.jsonl"])
def test_json_is_a_list_or_holds_one_or_is_json_lines(content: str, expected: int, name: str, tmp_path: Path) -> None:
    if name == "d.jsonl" and content.startswith('{\n'):
        return  # a line of it is not JSON
    found = rows(tmp_path / name, content.encode())
    assert len(found) == expected
    assert all(isinstance(row, dict) for _, row in found)


@pytest.mark.parametrize(("content", "words"), [
    (b'[\n{"a": 1},\n{"a" 2}]', r"d.json:3: not valid JSON"), (b'[{"a": 1}', "the list is not closed"),
    (b'[{"a": 1} {"a": 2}]', "a comma or a closing bracket is missing"), (b'"text"', "not a list of rows"),
    (b'{"a": 1,\n"b": 2}', "not a list of rows"),
    (b'{\n"train": [{"a": 1}],\n"test": [{"a": 1}]}', "d.json:3: both `train` and `test` are lists"),
    (b'[{"a": "' + b"x" * 3_000_000, "unterminated string"),
    (b'[\n{"a": ' + b"9" * 5000 + b"}]", "d.json:2: not valid JSON: exceeds the limit"),
    (b"[" * 100_000, "nested too deeply"), (b'\xff\xfe[\x00', "UTF-16"),
])
def test_a_json_file_that_cannot_be_read_is_refused_at_its_line(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        list(read_rows(path))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_a_json_list_is_read_across_blocks(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK", size)
    monkeypatch.setattr("workbench.engine.data.json_arrays.BLOCK", size)
    wanted = [{"a": "ä€😀 \\n \"quoted\" [,]{}"}, {"b": [1.5e3, -12, True, None, {"c": []}]}, {"d": 123456}]
    found = rows(tmp_path / "d.json", json.dumps(wanted, ensure_ascii=False, indent=1).encode())
    assert [row for _, row in found] == wanted
    assert rows(tmp_path / "e.json", b"[1, 23, 456]")[2][1].row == 456


def test_csv_rows_have_their_true_lines(tmp_path: Path) -> None:
    found = rows(tmp_path / "d.csv", b'\xef\xbb\xbfprompt,completion\r\n"two\r\nlines",b\r\n\r\na,\r\na\r\n'
                                       b'a,"x"y\r\na,"b"\r\n')
    assert [(line, row) for line, row in found if isinstance(row, dict)] == [
        (2, {"prompt": "two\r\nlines", "completion": "b"}), (5, {"prompt": "a", "completion": None}),
        (8, {"prompt": "a", "completion": "b"})]
    assert reasons(found) == {6: "the first line names 2 columns, this row has 1",
                              7: "not valid CSV: ',' expected after '\"'"}


@pytest.mark.parametrize(("content", "words"), [
    (b'a,b\n1,"2\n3,4\n', "d.csv:2: a quote is opened and not closed"),
    (b"a,a\n1,2\n", "the column 'a' is there twice"),
    ("a,b\n".encode("utf-16"), "UTF-16"),
    ("question,r\u00e9ponse\n1,2\n".encode("latin-1"), "columns are not valid UTF-8"),
    (b"a,b\n1,2\n" + b"x" * 65_000_000 + b"," + b"x" * 3_000_000 + b"\n3,4\n", "d.csv:3: the line is longer than"),
])
def test_a_table_that_cannot_be_read_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        list(read_rows(path))


def test_latin_1_is_named_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes("prompt,completion\na,caf\u00e9\nc,d\n".encode("latin-1"))
    found = list(read_examples(DatasetPart(path=str(path)), "sft", None))
    assert isinstance(found[0], Rejected)
    assert found[0].reason == "`completion` is not valid UTF-8 at its character 4"
    assert isinstance(found[1], Located)


def test_parquet_rows(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    wanted = [{"messages": [{"role": "user", "content": f"{number}"}, {"role": "assistant", "content": "b"}]}
              for number in range(1000)]
    parquet.write_table(pyarrow.Table.from_pylist(wanted), path, row_group_size=300)
    meter = Meter()
    found = list(read_rows(path, meter=meter))
    assert [row for _, row in found] == wanted
    assert [line for line, _ in found] == list(range(1, 1001))
    assert meter.done == path.stat().st_size
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"Cannot read .* as Parquet"):
        list(read_rows(path))
    broken = pyarrow.Array.from_buffers(pyarrow.string(), 2, [None, pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"),
                                                              pyarrow.py_buffer(b"a\xff")])
    parquet.write_table(pyarrow.table({"text": broken}), path)
    assert reasons(list(read_rows(path))) == {2: "not valid UTF-8: byte 0xff"}


@pytest.mark.parametrize("name", ["d.jsonl.gz", "d.csv.gz", "d.json.gz", "d.txt.gz", "d.jsonl.zst", "d.tsv.zst"])
def test_compressed_files_are_read_as_they_are(name: str, tmp_path: Path) -> None:
    plain = {"jsonl": f"{GOOD}\n{GOOD}\n", "csv": "prompt,completion\na,b\na,b\n", "json": f"[{GOOD},{GOOD}]",
             "txt": "a\nb\n", "tsv": "prompt\tcompletion\na\tb\na\tb\n"}[name.split(".")[1]].encode()
    packed = gzip.compress(plain) if name.endswith(".gz") else zst(plain)
    assert [row for _, row in rows(tmp_path / name, packed)] == (
        [{"text": "a"}, {"text": "b"}] if "txt" in name else [ROW, ROW])
    # As `cat a.gz b.gz` makes it.
    if "jsonl" in name:
        assert len(rows(tmp_path / name, packed + packed)) == 4
    with pytest.raises(DataError, match="cut off or damaged"):
        rows(tmp_path / name, packed[:-6])
    with pytest.raises(DataError, match="cut off or damaged"):
        rows(tmp_path / name, b"not packed at all")


def test_a_row_of_twenty_megabytes_is_read_and_a_longer_one_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    long = json.dumps({"prompt": "a", "completion": "x" * 20_000_000})
    path.write_text(f"{long}\n{GOOD}\n")
    assert [type(row) for row in read_examples(DatasetPart(path=str(path)), "sft", None)] == [Located, Located]
    with path.open("wb") as file:
        for _ in range(200):
            file.write(b"x" * 1_000_000)
        file.write(b"\n" + GOOD.encode())
    tracemalloc.start()
    found = list(read_rows(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [(1, BadRow("the line is longer than 64 MiB")), (2, ROW)]
    assert peak < 80_000_000


def test_plain_text_is_parted_by_blank_lines_where_it_has_any(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.txt", b"\r\none\r\ntwo\r\n\r\n  \r\nthree\r\n") == [
        (2, {"text": "one\ntwo"}), (6, {"text": "three"})]
    assert rows(tmp_path / "b.txt", b"one\ntwo\n\n") == [(1, {"text": "one"}), (2, {"text": "two"})]
    assert rows(tmp_path / "c.md", b"") == []


def test_a_folder_has_a_file_per_split(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    for name in ("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "validation.jsonl", "more/test.jsonl"):
        (folder / name).write_text(GOOD + "\n")
    (folder / "README.md").write_text("not data")
    (folder / ".hidden.jsonl").write_text("{")

    def names(split: str | None) -> list[str]:
        part = DatasetPart(path="data", split=split)
        return [row.source for row in read_examples(part, "sft", tmp_path)]

    assert resolve_dataset("data", tmp_path).kind == "folder"
    assert names(None) == ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"]
    assert names("dev") == ["data/validation.jsonl"]
    assert names("test") == ["data/more/test.jsonl"]
    with pytest.raises(DataError, match="no file for the split 'extra'") as caught:
        names("extra")
    assert caught.value.hint == "Its splits, by the names of its files: test, train, validation."
    (folder / "train.csv").write_text("prompt,completion\n")
    with pytest.raises(DataError, match="mixes CSV and JSON lines"):
        names("train")


def test_a_folder_without_splits_is_all_trained_on(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(f"{name}\n")
    found = list(read_examples(DatasetPart(path=str(tmp_path), split="train"), "cpt", None))
    assert [row.example["text"] for row in found if isinstance(row, Located)] == ["a.txt", "b.txt"]
    with pytest.raises(DataError, match="no file for the split 'test'"):
        list(read_examples(DatasetPart(path=str(tmp_path), split="test"), "cpt", None))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no data in the folder"):
        list(read_examples(DatasetPart(path=str(tmp_path / "empty")), "cpt", None))


def test_a_whole_disk_is_no_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_MOST_ENTRIES", 5)
    for number in range(6):
        (tmp_path / f"{number}.jsonl").write_text(GOOD)
    with pytest.raises(DataError, match="holds more than 5 files and folders"):
        list(read_examples(DatasetPart(path=str(tmp_path)), "sft", None))


def test_references(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(GOOD)
    assert resolve_dataset("d.jsonl", tmp_path).kind == "file"
    assert resolve_dataset("glossary").kind == "built-in"
    assert resolve_dataset("trl-lib/Capybara").kind == "hub"
    for wrong in ("nope", "./nope.jsonl", "data/nope.parquet"):
        with pytest.raises(InputError, match="There is no dataset"):
            resolve_dataset(wrong, tmp_path)
    for wrong in ("x" * 300, "x" * 5000, "a\0b", "~nobody-at-all/x"):
        with pytest.raises(InputError, match="There is no dataset"):
            resolve_dataset(wrong, tmp_path)
    with pytest.raises(InputError, match="No dataset is named"):
        resolve_dataset(" ", tmp_path)
    (tmp_path / "d.xlsx").write_text("")
    with pytest.raises(InputError, match=r"d\.xlsx is not a kind of file"):
        resolve_dataset("d.xlsx", tmp_path)
    with pytest.raises(InputError, match="no dataset") as caught:
        resolve_dataset("glosary")
    assert caught.value.hint == "Did you mean glossary?"
    (tmp_path / "d.jsonl").write_text("\n")
    with pytest.raises(DataError, match="has no rows"):
        list(read_examples(DatasetPart(path="d.jsonl"), "sft", tmp_path))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300) | st.text(max_size=200).map(str.encode),
       suffix=st.sampled_from([*KINDS, ".jsonl.gz", ".csv.zst"]),
       head=st.sampled_from([b"", b"[", b"{", b"prompt,completion\n", b"\xef\xbb\xbf"]))
def test_no_bytes_crash_a_reader(content: bytes, suffix: str, head: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"d{suffix}"
    path.write_bytes(head + content)
    found: list[Located | Rejected] = []
    with suppress(InputError):
        found.extend(read_examples(DatasetPart(path=str(path)), "sft", None))
    assert all(isinstance(row, Located) or row.reason for row in found)
