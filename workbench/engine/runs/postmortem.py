"""Why a run ended: from an exit code, a signal or an exception to a cause, a sentence, the evidence and what mends it.

Pure: what there is to know is handed in (`inquest.py` gathers it).
"""

import re
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from workbench.engine.runs.mending import LESS_MEMORY, Mending, mend, moment_of
from workbench.engine.runs.symptoms import Cause, Raised, Symptom, symptom_in, symptom_of
from workbench.engine.text import one_line

if TYPE_CHECKING:
    from workbench.engine.recipe import Recipe

__all__ = ["EXIT_UNWRITABLE", "FINISHED", "LESS_MEMORY", "STOPPED", "Cause", "Ending", "Killer", "Raised",
           "explain_chain", "explain_exception", "explain_exit"]

MOST_EVIDENCE = 8
"""Lines of the log that are kept."""
_LINE_WIDTH = 200
EXIT_UNWRITABLE = 74
"""The exit code of a worker that could not write its own end into the journal: sysexits.h's EX_IOERR."""
Killer = Literal["kernel", "somebody", "unknown"]
"""Who sent SIGKILL, by the kernel's own counters of what it killed for lack of memory."""


@dataclass(frozen=True)
class Ending:
    """How a run ended, as its `ended` event says it."""

    outcome: Literal["finished", "stopped", "failed"]
    cause: Cause | None = None
    explanation: str | None = None
    suggestion: str | None = None
    evidence: tuple[str, ...] = ()
    """The lines of its log that show it."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Dotted settings of the recipe and the values with which it should go."""
    checkpoint: str | None = None
    """The last checkpoint that verifies, relative to the run's directory."""
    symptom: str | None = None
    """What of its cause it was: `gpu-memory`, `host-memory`, `disk-full`, `hub-gated`, `segfault` …"""

    def to_event(self) -> dict[str, Any]:
        """The fields of the event."""
        return asdict(self)


FINISHED = Ending("finished")
STOPPED = Ending("stopped", explanation="Stopped on request.")

# What the signals mean that end processes; the rest is named by number and name alone.
_SIGNALS: dict[int, tuple[str, str, Cause, str]] = {
    signal.SIGTERM: ("sigterm", "was asked to end by another process", "killed", "A shutdown, a batch system's time "
                     "limit or somebody's kill: resume when the machine is there again."),
    signal.SIGINT: ("sigint", "was interrupted", "killed", "Resume it."),
    signal.SIGHUP: ("sighup", "lost its terminal", "killed", "Resume it; a lingering session survives a logout: see "
                    "`workbench doctor`."),
    signal.SIGQUIT: ("sigquit", "was told to quit", "killed", "Resume it."),
    signal.SIGSEGV: ("segfault", "crashed in native code, reading memory that is not its own", "error",
                     "The lines show where. Resume it; if it dies there again, update or leave out that library."),
    signal.SIGBUS: ("sigbus", "crashed reading a file or memory that is not there any more", "error",
                    "A file was cut while it was in use, a disk is full, or /dev/shm is too small."),
    signal.SIGILL: ("sigill", "met an instruction that this processor does not have", "error",
                    "A library was built for a newer one: install its generic build."),
    signal.SIGFPE: ("sigfpe", "crashed in native code, in arithmetic", "error", "The lines show where."),
    signal.SIGABRT: ("sigabrt", "gave up in native code", "error", "Its last words are in the lines."),
    signal.SIGSYS: ("sigsys", "used a system call that is forbidden here", "error", "See the container's seccomp "
                    "profile."),
    signal.SIGTRAP: ("sigtrap", "stopped at a trap in native code", "error", "The lines show where."),
    signal.SIGXCPU: ("cpu-time", "used up the processor time it is allowed", "killed", "Raise the limit: ulimit -t."),
    signal.SIGXFSZ: ("file-size", "wrote a file larger than is allowed", "disk", "Raise the limit: ulimit -f."),
    signal.SIGPIPE: ("sigpipe", "wrote to a pipe that nobody reads", "error", "See its log."),
    signal.SIGALRM: ("sigalrm", "was ended by a timer", "killed", "Resume it."),
    signal.SIGUSR1: ("sigusr1", "was sent a signal that batch systems warn with", "killed", "Its time may be up: "
                     "resume it in a new job."),
    signal.SIGUSR2: ("sigusr2", "was sent a signal that batch systems warn with", "killed", "Its time may be up: "
                     "resume it in a new job."),
}
# A wrapper (a shell, a container) says 128 + n for a child that signal n ended.
_WRAPPED = 128
_TRACEBACK = "Traceback (most recent call last):"
_NATIVE = re.compile(r"^Fatal Python error: ")
_RAISED = re.compile(r"^((?:\w+\.)*[A-Z_]\w*): ?(.*)$")
_GPU_MEMORY = re.compile(r"Tried to allocate ([\d.]+ \w+)\. GPU (\d+) has a total capacity of ([\d.]+ \w+) of which "
                         r"([\d.]+ \w+) is free")


def explain_exit(returncode: int, log: str, stopping: bool, *, killer: Killer = "unknown", memory_limit: str = "",
                 recipe: "Recipe | None" = None, checkpoint: str | None = None) -> Ending:
    """The ending of a worker that died without a word: by its return code and the end of its log.

    `killer` is who sent a SIGKILL, `memory_limit` the limit that the kernel enforced, in words ("the container's limit
    of 8.0 GiB"), `checkpoint` the last one that verifies.
    """
    number = -returncode if returncode < 0 else returncode - _WRAPPED if returncode - _WRAPPED in _KNOWN else 0
    # A user manager may end a whole scope, its supervisor too, after the kernel killed the worker in it: nobody asked.
    if number and stopping and not (number == signal.SIGKILL and killer == "kernel"):
        return Ending("stopped", explanation=f"Stopped: the worker did not answer and was ended by {_name(number)}.",
                      checkpoint=checkpoint)
    lines = [line for line in log.splitlines() if line.strip()]
    if number == signal.SIGKILL:
        ending = _killed(killer, memory_limit, recipe, lines)
    elif returncode == EXIT_UNWRITABLE:
        ending = _unwritable(lines, recipe)
    elif number:
        ending = _signalled(number, lines, recipe)
    else:
        ending = _exited(returncode, lines, recipe)
    return replace(ending, checkpoint=checkpoint)


def explain_exception(kind: str, message: str, ours: bool = False) -> Ending:
    """The ending of a worker that raised: `kind` is the exception's class name, `ours` that the message is a sentence
    for the user.

    Names, not classes: this module must not import torch to know its exceptions.
    """
    return explain_chain((Raised(kind, message, ours),))


def explain_chain(chain: Sequence[Raised], traceback: str = "", recipe: "Recipe | None" = None,
                  checkpoint: str | None = None, measured: Sequence[str] = ()) -> Ending:
    """The ending of a worker that raised: the exception and those it came from, outermost first, its traceback's text,
    the recipe, the last checkpoint that verifies, and the last steps that were measured, in words."""
    first = chain[0]
    found = symptom_of(chain)
    # A sentence of ours needs no frames of ours: what it came from is the evidence.
    evidence = _kept([raised.line for raised in chain[1:]]) if first.ours else _of_traceback(traceback.splitlines())
    if found is not None and found[0].id == "nan" and measured:
        evidence = _kept(measured[-MOST_EVIDENCE:])
    if found is None:
        text = one_line(first.message, 300)
        return Ending("failed", "error", text if first.ours else f"{first.kind}: {text}",
                      first.hint or "See the log.", evidence, checkpoint=checkpoint)
    symptom, raised = found
    mending = mend(symptom.id, recipe, moment_of(f"{traceback}\n{first.message}"))
    fix = (mending.words if mending else None) or symptom.fix or LESS_MEMORY
    # A sentence of ours has its own hint, which knows more than the table; but changes go with their words.
    if first.hint and not (mending and mending.changes):
        fix = first.hint
    return Ending("failed", symptom.cause, _sentence(symptom, raised, first), fix, evidence,
                  dict(mending.changes) if mending else {}, checkpoint, symptom.id)


def _sentence(symptom: Symptom, raised: Raised, first: Raised) -> str:
    if first.ours or symptom.id in ("nan", "data"):
        return one_line(first.message, 300)
    if symptom.id == "gpu-memory" and (figures := _GPU_MEMORY.search(raised.message)):
        asked, index, total, free = figures.groups()
        return f"GPU {index} ran out of memory: {asked} more were asked for, and {free} of its {total} were free."
    return _with_words(symptom.sentence, raised.message)


def _with_words(sentence: str, words: str) -> str:
    """The sentence, and the library's own words where there are any."""
    text = one_line(words, 200)
    return f"{sentence[:-1]}: {text}" if text else sentence


def _killed(killer: Killer, memory_limit: str, recipe: "Recipe | None", lines: Sequence[str]) -> Ending:
    evidence = tuple(one_line(line, _LINE_WIDTH) for line in lines[-3:])
    mending = mend("host-memory", recipe, None) or Mending(LESS_MEMORY)
    if killer == "kernel":
        beyond = f": it reached {memory_limit}" if memory_limit else ", the machine's memory (RAM) being used up"
        return Ending("failed", "oom", f"The kernel killed the worker for lack of memory (SIGKILL){beyond}.",
                      mending.words, evidence, mending.changes, symptom="host-memory")
    if killer == "somebody":
        return Ending("failed", "killed", "The worker was killed by somebody (SIGKILL); the kernel did not do it for "
                      "lack of memory.", "Resume it.", evidence, symptom="sigkill")
    return Ending("failed", "killed", "The worker was killed (SIGKILL), by the kernel for lack of memory or by "
                  "somebody.", "See `dmesg` for an out-of-memory kill; " + mending.words, evidence, symptom="sigkill")


def _signalled(number: int, lines: Sequence[str], recipe: "Recipe | None") -> Ending:
    id_, what, cause, fix = _SIGNALS.get(number, (f"signal-{number}", "was ended", "killed", "See the end of its log."))
    explanation = f"The worker {what} ({_name(number)})."
    evidence = _last_words(lines)
    # Native code that gives up says why in the log: an allocation, the GPU, the network of GPUs.
    said = symptom_in(evidence) if cause == "error" else None
    if said is None:
        return Ending("failed", cause, explanation, fix, evidence, symptom=id_)
    symptom, line = said
    mending = mend(symptom.id, recipe, moment_of("\n".join(lines)))
    return Ending("failed", symptom.cause, f"{symptom.sentence[:-1]}, and the worker ended ({_name(number)}): "
                  f"{one_line(line, 160)}", mending.words if mending else symptom.fix or LESS_MEMORY, evidence,
                  mending.changes if mending else {}, symptom=symptom.id)


def _exited(returncode: int, lines: Sequence[str], recipe: "Recipe | None") -> Ending:
    """A worker that ended itself: by an exception before it could journal it, or by a library's `exit`."""
    evidence = _last_words(lines)
    if (raised := _raised_in(lines)) is not None:
        return explain_chain((raised,), "\n".join(lines), recipe)
    last = one_line(lines[-1], 200) if lines else "it left no message"
    if (said := symptom_in(evidence)) is not None:
        symptom, line = said
        mending = mend(symptom.id, recipe, moment_of("\n".join(lines)))
        return Ending("failed", symptom.cause, _with_words(symptom.sentence, line),
                      mending.words if mending else symptom.fix or LESS_MEMORY, evidence,
                      mending.changes if mending else {}, symptom=symptom.id)
    return Ending("failed", "error", f"The worker ended with exit code {returncode}: {last}", "See the log.", evidence)


def _unwritable(lines: Sequence[str], recipe: "Recipe | None") -> Ending:
    """By what its log still says, else a full disk: there is hardly another reason."""
    said = explain_chain((raised,), "\n".join(lines), recipe) if (raised := _raised_in(lines)) is not None else None
    if said is not None and said.cause == "disk":
        return said
    mending = mend("disk-full", recipe, None) or Mending("Free some space, then go on.")
    return Ending("failed", "disk", "The disk is full: the worker could not even write how it ended.", mending.words,
                  _last_words(lines), mending.changes, symptom="disk-full")


def _raised_in(lines: Sequence[str]) -> Raised | None:
    """The exception at the end of the log's last traceback; None where the log does not end with one."""
    starts = [number for number, line in enumerate(lines) if line == _TRACEBACK]
    if not starts:
        return None
    for number in range(starts[-1] + 1, len(lines)):
        if lines[number].startswith((" ", "\t")):
            continue
        match = _RAISED.match(lines[number])
        kind, message = match.groups() if match else (lines[number], "")
        return Raised(kind.rpartition(".")[2], "\n".join([message, *lines[number + 1:]])[:2000])
    return None


def _last_words(lines: Sequence[str]) -> tuple[str, ...]:
    """What of a log shows how the process died: a native crash with its innermost frames, a traceback, its end."""
    fatal = [number for number, line in enumerate(lines) if _NATIVE.match(line)]
    if fatal:
        tail = lines[fatal[-1]:]
        current = next((n for n, line in enumerate(tail) if line.startswith("Current thread")), 0)
        # Its header and the heads of threads say nothing; the frames, innermost first, do.
        # Native code that gives up by itself says why just before.
        said = [line for line in lines[max(fatal[-1] - 3, 0):fatal[-1]] if symptom_in([line])]
        return _kept([*said, *tail[:1], *tail[current + 1:]][:MOST_EVIDENCE])
    return _of_traceback(lines) or _kept(lines[-MOST_EVIDENCE:])


def _of_traceback(lines: Sequence[str]) -> tuple[str, ...]:
    """The last traceback's innermost frames and what it ends with; empty without one."""
    starts = [number for number, line in enumerate(lines) if line == _TRACEBACK]
    if not starts:
        return ()
    tail = [line for line in lines[starts[-1] + 1:] if line.strip() and not set(line.strip()) <= {"^", "~"}]
    end = next((n for n, line in enumerate(tail) if not line.startswith((" ", "\t"))), len(tail))
    frames, last = tail[:end], tail[end:end + 3]
    return _kept([*frames[-(MOST_EVIDENCE - len(last)):], *last])


def _kept(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(one_line(line, _LINE_WIDTH) for line in lines)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_KNOWN = frozenset({*_SIGNALS, signal.SIGKILL})
