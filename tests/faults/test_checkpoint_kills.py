"""A writer killed at every single file operation of saving, replacing and deleting: what is offered is whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from workbench.engine.runs.manifest import clear_leftovers, verify

# Forks a child for every n: it dies by SIGKILL when it is about to do its n-th file operation. Prints how many it did
# when none killed it.
SCRIPT = """\
import os, shutil, signal, sys
from pathlib import Path
from workbench.engine.runs import manifest

OPERATIONS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "shutil.rmtree", "exchange")


def fill(word):
    def write(partial):
        for name in ("weights.safetensors", "optimizer.pt", "parts/one", "parts/two"):
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_bytes(word * 1000)
    return write


def work(folder):
    checkpoints = folder / "checkpoints"
    manifest.write_complete(checkpoints / "step-00000002", fill(b"two"), {"step": 2})
    manifest.remove_complete(checkpoints / "step-00000001")
    # The same name again: the old one may only go when the new one is there.
    manifest.write_complete(folder / "model", fill(b"new"), {"step": 2})


def before(folder):
    manifest.write_complete(folder / "checkpoints" / "step-00000001", fill(b"one"), {"step": 1})
    manifest.write_complete(folder / "model", fill(b"old"), {"step": 1})


def child(folder, n):
    done = 0

    def hook(event, arguments):
        nonlocal done
        # Reading changes nothing: killed there is killed at the operation before it.
        if event in OPERATIONS and not (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            done += 1
            if done == n:
                os.kill(os.getpid(), signal.SIGKILL)

    if sys.argv[2] == "without exchange":
        manifest._exchange = lambda one, other: False
    else:
        exchange = manifest._exchange
        manifest._exchange = lambda *names: sys.audit("exchange") or exchange(*names)
    sys.addaudithook(hook)
    work(folder)
    return done


home, n = Path(sys.argv[1]), 0
while True:
    n += 1
    folder = home / f"{n:03}"
    before(folder)
    pid = os.fork()
    if pid == 0:
        # One that none killed says so by its exit code.
        os._exit(42 if child(folder, n) < n else 43)
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) == 42:
        print(n - 1)
        break
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, status
"""


@pytest.mark.parametrize("way", ["exchange", "without exchange"])
def test_only_whole_directories_are_offered_after_a_kill_at_any_file_operation(way: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path), way], capture_output=True, text=True,
                          timeout=120, cwd=Path(__file__).resolve().parents[2])
    assert done.returncode == 0, done.stderr
    kills = int(done.stdout)
    assert kills > 40, "files, directories, manifests and renames of two saves and a deletion"
    seen = set()
    for folder in sorted(tmp_path.iterdir()):
        if way == "without exchange":  # between two renames the name is free: the next start gives it back
            clear_leftovers(folder)
        assert verify(folder / "model") is None, folder.name
        offered = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
        assert offered, "the previous one stays until the next is there"
        assert [verify(folder / "checkpoints" / name) for name in offered] == [None] * len(offered), folder.name
        seen.add((*offered, (folder / "model" / "parts" / "two").read_bytes()[:3]))
        for parent in (folder, folder / "checkpoints"):
            clear_leftovers(parent)
            assert not [path for path in parent.iterdir() if path.name.startswith(".")], folder.name
        assert verify(folder / "model") is None
    one, two = "step-00000001", "step-00000002"
    assert seen == {(one, b"old"), (one, two, b"old"), (two, b"old"), (two, b"new")}
