"""The queue on disk: one small file in the home, changed under a lock that is held for milliseconds."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from workbench.engine.atomic import write_json
from workbench.engine.errors import RunError
from workbench.engine.paths import home_dir, runs_dir
from workbench.engine.runs.directory import RUN_ID, RunDirectory, list_run_directories
from workbench.engine.runs.liveness import ProcessIdentity, acquire_lock, lock_holder, release_lock
from workbench.engine.runs.queue import Claim, Entry, Move, Queue
from workbench.engine.runs.store import is_supervised, read_json, read_status, summarise

_LOCK_SECONDS = 5.0
DAMAGED = "queue.damaged-"
"""What the name of a file begins with that was set aside."""

# Record locks are the process's: the threads of a screen have to take turns by themselves.
_threads = threading.Lock()


def queue_file() -> Path:
    """The order of those that wait, and the claims of those that run. A cache of claims: each run's status has its own.
    """
    return home_dir() / "queue.json"


def read_queue() -> Queue:
    """The queue as it stands, with what is left of a damaged one. Takes no lock: the file is only ever replaced."""
    return _read()[0]


def alive(queue: Queue) -> Queue:
    """Without the entries of runs that nobody attends to any more, and the claims of those that have let go."""
    return Queue(tuple(entry for entry in queue.entries if is_supervised(_run(entry.run))),
                 tuple(claim for claim in queue.claims if _holds(claim)))


def change_queue(edit: Callable[[Queue], Queue]) -> Queue:
    """Change the queue under its lock, dead entries and claims left out; gives what it is now.

    A damaged file is set aside first: its claims come from the runs that live, and those that wait join again.
    Raises RunError when somebody keeps the lock, OSError where nothing can be written.
    """
    with _locked():
        before, sound = _read()
        if not sound:
            _set_aside()
        if not sound or not queue_file().exists():
            before = Queue(before.entries, _claims_of_runs())
        after = edit(alive(before))
        if after != before or not sound:
            write_json(queue_file(), {
                "entries": [{"run": e.run, "held": e.held, "since": e.since} for e in after.entries],
                "claims": [{"run": c.run, "gpus": c.gpus, "supervisor": c.supervisor} for c in after.claims]})
        return after


def join_queue(run: RunDirectory) -> None:
    """Put a run at the end of the queue, before its supervisor is started. Raises RunError."""
    try:
        change_queue(lambda queue: queue.joined(Entry(run.id, False, round(time.time(), 3))))
    except OSError as error:
        raise RunError(f"{run.id} cannot queue: {queue_file()} cannot be written ({error.strerror}).") from None


def move_in_queue(run: RunDirectory, move: Move) -> Queue:
    """Change a waiting run's place. Raises RunError for a run that does not queue."""
    return _change_waiting(run, lambda queue: queue.moved(run.id, move))


def hold_in_queue(run: RunDirectory, held: bool) -> Queue:
    """Let others pass a waiting run, or let it start again. Raises RunError for a run that does not queue."""
    return _change_waiting(run, lambda queue: queue.marked(run.id, held))


def _change_waiting(run: RunDirectory, edit: Callable[[Queue], Queue]) -> Queue:
    try:
        after = change_queue(edit)
    except OSError as error:
        raise RunError(f"{queue_file()} cannot be written: {error.strerror}.") from None
    if after.entry(run.id) is None:
        raise RunError(f"{run.id} is {summarise(run).state}, and not in the queue.", "See who waits: workbench queue")
    return after


def mend_queue() -> None:
    """Set a damaged file aside; nothing where it is sound. Raises RunError."""
    if not _read()[1]:
        try:
            change_queue(lambda queue: queue)
        except OSError as error:
            raise RunError(f"{queue_file()} is damaged and cannot be replaced: {error.strerror}.") from None


def damaged_files() -> list[Path]:
    """Queues that were damaged and set aside, oldest first."""
    return sorted(home_dir().glob(f"{DAMAGED}*.json"))


def holders(queue: Queue, but: str) -> dict[str, str]:
    """Device id → name of the run that has it, but for one run's own."""
    return {gpu: _run(claim.run).name for claim in queue.claims if claim.run != but for gpu in claim.gpus}


@contextmanager
def _locked() -> Iterator[None]:
    home_dir().mkdir(parents=True, exist_ok=True, mode=0o700)
    path = home_dir() / "queue.lock"
    deadline = time.monotonic() + _LOCK_SECONDS
    with _threads:
        while (descriptor := acquire_lock(path)) is None:
            if time.monotonic() > deadline:
                raise RunError(f"The queue is locked by process {lock_holder(path)} for {_LOCK_SECONDS:.0f} seconds.",
                               "Look what that process does, or try again.")
            time.sleep(0.01)
        try:
            yield
        finally:
            release_lock(path, descriptor)


def _read() -> tuple[Queue, bool]:
    """What the file holds, and whether all of it is sound; a missing file is an empty queue."""
    try:
        document = orjson.loads(queue_file().read_bytes())
    except FileNotFoundError:
        return Queue(), True
    except (OSError, orjson.JSONDecodeError):
        return Queue(), False
    entries, entries_sound = _listed(document, "entries", _entry)
    claims, claims_sound = _listed(document, "claims", _claim)
    return Queue(tuple(entries), tuple(claims)), entries_sound and claims_sound


def _listed(document: Any, key: str, read: Callable[[Any], Any]) -> tuple[list[Any], bool]:
    items = document.get(key, []) if isinstance(document, dict) else None
    if not isinstance(items, list):
        return [], False
    found: dict[str, Any] = {}
    for item in items:
        try:
            one = read(item)
            found.setdefault(one.run, one)
        except (KeyError, TypeError, ValueError):
            continue
    return list(found.values()), len(found) == len(items)


def _entry(item: Any) -> Entry:
    if not isinstance(item["held"], bool):
        raise TypeError(item["held"])
    return Entry(_known_id(item["run"]), item["held"], float(item.get("since", 0.0)))


def _claim(item: Any) -> Claim:
    return Claim(_known_id(item["run"]), tuple(map(str, item["gpus"])), int(item["supervisor"]))


def _known_id(value: Any) -> str:
    """The id, which becomes a part of a path."""
    if not isinstance(value, str) or not RUN_ID.fullmatch(value):
        raise ValueError(value)
    return value


def _set_aside() -> None:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = next(path for number in range(1000)
                if not (path := home_dir() / f"{DAMAGED}{stamp}-{number}.json").exists())
    os.replace(queue_file(), path)


def _claims_of_runs() -> tuple[Claim, ...]:
    """The claims as the runs that live have them in their status; what a run before had there is no claim."""
    found = []
    for run in list_run_directories():
        if lock_holder(run.lock) is None and lock_holder(run.worker_lock) is None:
            continue
        status = read_status(run)
        supervisor = ProcessIdentity.from_json(status.get("supervisor"))
        if supervisor is not None and isinstance(status.get("gpus"), list) and status["gpus"]:
            found.append(Claim(run.id, tuple(map(str, status["gpus"])), supervisor.pid))
    return tuple(found)


def _holds(claim: Claim) -> bool:
    """Whether the supervisor that took the devices still lives, or the worker that it left behind.

    A run's later supervisor has not taken them: it may wait itself. Holders on another machine, or in another
    container, have a pid below 1.
    """
    run = _run(claim.run)
    holder = lock_holder(run.lock)
    if holder is not None and (holder == claim.supervisor or holder < 1):
        return True
    if lock_holder(run.worker_lock) is not None:
        return True
    worker = ProcessIdentity.from_json(read_json(run.status).get("worker"))
    return worker is not None and worker.is_alive()


def _run(run_id: str) -> RunDirectory:
    return RunDirectory(runs_dir() / run_id)
