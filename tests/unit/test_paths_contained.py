"""Names and paths in files and on the command line never lead out of where they belong."""

import json
from pathlib import Path

import pytest

from workbench.engine.errors import WorkbenchError
from workbench.engine.paths import runs_dir
from workbench.engine.runs.deletion import delete_run
from workbench.engine.runs.directory import RunDirectory, find_run, list_run_directories
from workbench.engine.runs.document import run_document
from workbench.engine.runs.going_on import saved_steps, step_of
from workbench.engine.runs.manifest import MANIFEST, verify, write_complete
from workbench.engine.runs.store import RunFollower

OUTSIDE = ["../../etc/passwd", "/etc/passwd", "..", ".", "", "../outside", "a/../../outside", "\0", "~root", "%2e%2e/x",
           "..\\..\\x", "checkpoints/../../x", "file:///etc/passwd", "\x1b[31m"]
RUN = "20260101-100000-mine-c0de"


@pytest.fixture
def run(home: Path) -> RunDirectory:
    made = RunDirectory(home / "runs" / RUN)
    made.path.mkdir(parents=True)
    (home / "outside").mkdir()
    (home / "outside" / "precious").write_text("kept")
    return made


@pytest.mark.parametrize("reference", OUTSIDE)
def test_no_word_names_a_run_elsewhere(reference: str, run: RunDirectory) -> None:
    try:
        found = find_run(reference)
    except WorkbenchError:
        return
    assert found.path.parent == runs_dir()


def test_only_names_of_runs_are_runs(run: RunDirectory, home: Path) -> None:
    for name in ("evil", "20260101-100000-..-c0de", "20260101-100000-UP-c0de", ".deleted-x",
                 "20260101-100000-a\x1b-c0de"):
        (home / "runs" / name).mkdir()
    (home / "runs" / "20260101-100000-link-c0de").symlink_to(home / "outside")
    assert {found.id for found in list_run_directories()} <= {RUN, "20260101-100000-link-c0de"}
    link = home / "runs" / "20260101-100000-link-c0de"
    for path in (home / "outside", home / "runs", link, home / "runs" / "..", home):
        with pytest.raises(WorkbenchError):
            delete_run(RunDirectory(path))
    assert (home / "outside" / "precious").read_text() == "kept"


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifest_lists_only_what_lies_beside_it(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "checkpoints" / "step-00000001"
    write_complete(directory, lambda partial: (partial / "a").write_text("a") and None, {"step": 1})
    assert verify(directory) is None
    manifest = json.loads((directory / MANIFEST).read_text())
    manifest["files"][name] = manifest["files"]["a"]
    (tmp_path / "outside").write_text("a")
    (directory / MANIFEST).write_text(json.dumps(manifest))
    assert verify(directory) is not None


@pytest.mark.parametrize("files", [{"a": 3}, {"a": {}}, {"a": {"size": 1}}, ["a"], "a", {"a": None}])
def test_a_manifest_of_another_shape_verifies_nothing(files: object, tmp_path: Path) -> None:
    write_complete(tmp_path / "c", lambda partial: (partial / "a").write_text("a") and None, {"step": 1})
    (tmp_path / "c" / MANIFEST).write_text(json.dumps({"files": files}))
    assert verify(tmp_path / "c") is not None


@pytest.mark.parametrize("path", [name for name in OUTSIDE if name != "\0"])
def test_a_checkpoint_elsewhere_is_never_gone_on_from(path: str, run: RunDirectory) -> None:
    assert step_of(path) is None
    run.events.write_text("".join(json.dumps({"v": 1, "seq": n, "time": 1.0, "elapsed": float(n), **event}) + "\n"
                                  for n, event in enumerate([
        {"type": "started"}, {"type": "checkpoint", "step": 5, "path": path, "verified": True, "removed": [path]}])))
    follower = RunFollower(run)
    follower.refresh()
    assert run_document(follower)["last_good_checkpoint"] is None
    assert saved_steps(run) == []
