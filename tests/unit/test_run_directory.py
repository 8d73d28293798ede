"""Run ids, finding runs, manifests."""

from pathlib import Path

import pytest

from workbench.engine.errors import InputError
from workbench.engine.runs import store
from workbench.engine.runs.directory import RUN_ID, create_run_directory, find_run, list_run_directories
from workbench.engine.runs.journal import Journal
from workbench.engine.runs.manifest import verify, write_complete


@pytest.mark.parametrize("name", ["demo", "../../etc/passwd", "Ünï cøde", "", "a" * 300, "-rf", "…"])
def test_any_name_gives_a_safe_id(name: str, home: Path) -> None:
    run = create_run_directory(name)
    assert RUN_ID.fullmatch(run.id)
    assert run.path.parent == home / "runs"
    assert run.path.stat().st_mode & 0o777 == 0o700


def test_runs_are_found_by_part_and_by_last() -> None:
    first, second = create_run_directory("alpha"), create_run_directory("beta")
    assert find_run("alpha").id == first.id
    assert find_run(second.id[-4:]).id == second.id
    assert find_run("last").id == list_run_directories()[0].id
    assert find_run(create_run_directory("alp").name).name == "alp"  # a name goes before parts of others
    with pytest.raises(InputError, match="fits 2 runs"):
        find_run("a-")
    with pytest.raises(InputError, match="No run is called"):
        find_run("../alpha")


def test_no_runs_is_said_with_what_to_do() -> None:
    with pytest.raises(InputError) as caught:
        find_run("last")
    assert caught.value.hint == "Start one: workbench demo"


def test_a_directory_is_complete_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "checkpoints" / "step-00000001"

    def fail(partial: Path) -> None:
        (partial / "weights").write_bytes(b"half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_complete(target, fail, {})
    assert not target.exists()
    write_complete(target, lambda partial: (partial / "weights").write_bytes(b"whole") and None, {"step": 1})
    assert verify(target) is None


@pytest.mark.parametrize(("damage", "reason"), [
    (lambda d: (d / "w").write_bytes(b"xhole"), "w is damaged"),
    (lambda d: (d / "w").write_bytes(b"who"), "w has 3 bytes instead of 5"),
    (lambda d: (d / "w").unlink(), "w is missing"),
    (lambda d: (d / "manifest.json").unlink(), "it has no manifest"),
    (lambda d: (d / "manifest.json").write_text("{"), "it has no manifest"),
])
def test_damage_is_named(damage: object, reason: str, tmp_path: Path) -> None:
    target = tmp_path / "c"
    write_complete(target, lambda partial: (partial / "w").write_bytes(b"whole") and None, {})
    damage(target)  # type: ignore[operator]
    assert verify(target) == reason


def test_a_run_at_rest_is_read_again_only_when_its_journal_changed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run_directory("a")
    run.status.write_text("{}")
    with Journal(run.events) as journal:
        journal.append("started")
        journal.append("ended", outcome="finished")
    assert store.summarise(run).state == "finished"
    with monkeypatch.context() as patch:
        patch.setattr(store, "read_tail", lambda path: pytest.fail("it was read again"))
        assert store.summarise(run).state == "finished"
    with Journal(run.events) as journal:
        journal.append("resumed", step=0)
    assert store.summarise(run).state == "crashed"
