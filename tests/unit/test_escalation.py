"""Which signals a worker gets that was asked to stop, by an injected clock."""

from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM

from workbench.engine.runs.directory import RunDirectory
from workbench.engine.runs.escalation import LONGEST_SAVE_SECONDS, Escalation, Silence, stop_patience
from workbench.engine.runs.postmortem import WHERE_ARE_YOU


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_nothing_moves_so_it_is_told_and_then_ended() -> None:
    clock = Clock()
    stop = Escalation(clock)
    assert (stop.asked, stop.due(0, True)) == (False, ())
    stop.ask()
    clock.now += 59
    assert (stop.due(0, True), stop.phase) == ((), "stopping")
    clock.now += 59  # what it had done when it was asked is known since the first look
    assert stop.due(0, True) == ()
    stop.ask()
    clock.now += 2
    assert (stop.due(0, True), stop.phase) == ((SIGTERM, SIGCONT), "terminating")
    clock.now += 15
    assert stop.due(0, True) == ()
    clock.now += 1
    assert (stop.due(0, True), stop.phase) == ((SIGKILL,), "killing")
    assert stop.due(1, True) == (SIGKILL,), "there is no way back"


def test_while_it_moves_it_is_waited_for_but_not_for_ever() -> None:
    clock = Clock()
    stop = Escalation(clock)
    stop.ask()
    for written in range(20):
        clock.now += 50
        assert stop.due(written, True) == ()
    clock.now += 61
    assert stop.due(19, True) == (SIGTERM, SIGCONT)
    told, written = clock.now, 20
    while not (sent := stop.due(written, True)):
        clock.now, written = clock.now + 10, written + 1
    assert sent == (SIGKILL,)
    assert LONGEST_SAVE_SECONDS <= clock.now - told <= LONGEST_SAVE_SECONDS + 60


def test_one_that_cannot_obey_is_not_waited_for() -> None:
    clock = Clock()
    stop = Escalation(clock)
    stop.ask()
    assert stop.due(0, responsive=False) == (SIGTERM, SIGCONT)
    clock.now += 16
    assert stop.due(0, responsive=False) == (SIGKILL,)


def test_a_supervisor_that_is_told_to_end_tells_its_worker_and_gives_it_time() -> None:
    clock = Clock()
    stop = Escalation(clock)
    stop.ask(at_once=True)
    assert stop.due(0, True) == (SIGTERM, SIGCONT)
    clock.now += 59
    assert stop.due(0, True) == ()
    clock.now += 2
    assert stop.due(0, True) == (SIGKILL,)


def test_a_long_step_is_waited_for_and_loading_is_none(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert stop_patience(run) == 60
    events = [("started", 0), ("phase", 5), ("loaded", 900), ("step", 910), ("step", 915)]
    write = "\n".join(f'{{"type":"{type_}","elapsed":{elapsed}}}' for type_, elapsed in events)
    run.events.write_text(write + "\n")
    assert stop_patience(run) == 60
    run.events.write_text(write + '\n{"type":"memory","elapsed":915}\n{"type":"step","elapsed":1155}\n')
    assert stop_patience(run) == 720


def test_silence_is_asked_about_and_then_ended_unless_it_was_broken() -> None:
    now = [0.0]
    silence = Silence(lambda: now[0])
    now[0] = 61.0
    assert silence.due(None, 1000.0) is None, "nobody allowed it"
    assert silence.due(1.0, 60.0) is None
    assert silence.due(1.0, None) == WHERE_ARE_YOU, "no sign since it was started"
    assert silence.due(1.0, 2.0) is None, "it speaks again"
    assert silence.due(1.0, 62.0) == WHERE_ARE_YOU, "and is asked anew"
    assert not silence.ended
    assert silence.due(1.0, 62.3) == SIGKILL
    assert silence.ended
