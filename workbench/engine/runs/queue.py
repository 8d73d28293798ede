"""Who may start on which GPU: a pure function of the queue's order, of what GPUs have free, and of who has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from workbench.engine.figures import gib
from workbench.engine.hardware.cards import free_when_idle
from workbench.engine.hardware.gpus import Gpu, is_named

CPU = "cpu"
"""What stands for the CPU where a GPU's UUID stands else. It is one device: one queued run at a time."""

# A desktop's share of a card on which nothing is computed.
_IDLE_BYTES = 512 * 1024**2


@dataclass(frozen=True, slots=True)
class Entry:
    """A run's place in the queue. `held`: it keeps its place and lets others pass. `since`: seconds since the epoch."""

    run: str
    held: bool
    since: float


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that has devices, by UUID or `cpu`, and the pid of the supervisor that took them."""

    run: str
    gpus: tuple[str, ...]
    supervisor: int


@dataclass(frozen=True, slots=True)
class Queue:
    """The order of those that wait, and who has which device."""

    entries: tuple[Entry, ...] = ()
    claims: tuple[Claim, ...] = ()

    def entry(self, run: str) -> Entry | None:
        """The run's entry; None where it has none."""
        return next((entry for entry in self.entries if entry.run == run), None)

    def joined(self, entry: Entry) -> "Queue":
        """With the run at the end; as it is where the run waits already."""
        return self if self.entry(entry.run) else replace(self, entries=(*self.entries, entry))

    def rejoined(self, entry: Entry) -> "Queue":
        """With an entry that was lost back behind those that had waited for longer."""
        place = max((number for number, other in enumerate(self.entries, 1) if other.since <= entry.since), default=0)
        return self if self.entry(entry.run) else \
            replace(self, entries=(*self.entries[:place], entry, *self.entries[place:]))

    def without(self, run: str) -> "Queue":
        """Without the run: it neither waits nor has anything."""
        return Queue(tuple(entry for entry in self.entries if entry.run != run),
                     tuple(claim for claim in self.claims if claim.run != run))

    def claimed(self, claim: Claim) -> "Queue":
        """With the run's claim, and without its entry."""
        rest = self.without(claim.run)
        return replace(rest, claims=(*rest.claims, claim))

    def moved(self, run: str, move: "Move") -> "Queue":
        """With the run elsewhere; the others keep their order. A run that does not wait changes nothing."""
        entry = self.entry(run)
        if entry is None:
            return self
        others = [other for other in self.entries if other.run != run]
        place = self.entries.index(entry)
        to = {"up": max(place - 1, 0), "down": min(place + 1, len(others)), "first": 0, "last": len(others)}[move]
        return replace(self, entries=(*others[:to], entry, *others[to:]))

    def marked(self, run: str, held: bool) -> "Queue":
        """With the run held, or released."""
        return replace(self, entries=tuple(replace(entry, held=held) if entry.run == run else entry
                                           for entry in self.entries))


Move = Literal["up", "down", "first", "last"]


@dataclass(frozen=True, slots=True)
class Wants:
    """What a run asks for. `gpus` by index or UUID, empty for any; `need_bytes` on the GPU, None where not known.

    `on_cpu`: it is to train on the CPU. `for_gpu`: it was planned on a machine with GPUs, so that the CPU will not do.
    """

    run: str
    gpus: tuple[str, ...] = ()
    on_cpu: bool = False
    for_gpu: bool = False
    need_bytes: int | None = None
    held: bool = False


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or the CPU, as the queue sees it. Bytes are None where the driver does not say, and for the CPU."""

    id: str
    index: int | None
    total_bytes: int | None = None
    free_bytes: int | None = None

    @property
    def words(self) -> str:
        """What a sentence calls it."""
        return "the CPU" if self.index is None else f"GPU {self.index}"

    @property
    def capacity_bytes(self) -> int | None:
        """What it offers with nothing else on it."""
        return None if self.total_bytes is None else max(free_when_idle(self.total_bytes), self.free_bytes or 0)

    def could_hold(self, wants: "Wants") -> bool:
        """Whether the run fits with nothing else on it."""
        return wants.need_bytes is None or self.capacity_bytes is None or wants.need_bytes <= self.capacity_bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a run cannot start now, in words. `kind` stays the same while only figures change."""

    words: str
    kind: tuple[object, ...]


def environment_of(device_id: str) -> dict[str, str]:
    """What keeps a worker on a device. A driver that gives no UUIDs has its GPUs numbered: `index-0`."""
    return {} if device_id == CPU else {"CUDA_VISIBLE_DEVICES": device_id.removeprefix("index-")}


def devices_of(gpus: Sequence[Gpu]) -> tuple[Device, ...]:
    """The GPUs, and the CPU after them."""
    return (*(Device(gpu.uuid, gpu.index, gpu.total_bytes, gpu.free_bytes) for gpu in gpus), Device(CPU, None))


def wanted_devices(wants: Wants, devices: Sequence[Device]) -> list[Device]:
    """The devices that would do for a run, whatever is on them."""
    gpus = [device for device in devices if device.index is not None]
    cpu = [device for device in devices if device.index is None]
    if wants.on_cpu:
        return cpu
    if wants.gpus:
        return [gpu for gpu in gpus if gpu.index is not None and is_named(gpu.index, gpu.id, wants.gpus)]
    return gpus or ([] if wants.for_gpu else cpu)


def decide(wants: Wants, before: Sequence[Wants], devices: Sequence[Device],
           taken: Mapping[str, str]) -> Device | Refusal:
    """The device that a queued run starts on now, the one with the most free memory where it has a choice; else why
    not.

    `before` are those ahead of it, `taken` says which device another run has: device id to the run's name. Those ahead
    come first on every device that they could ever use, so that nobody is overtaken for ever; one that is held lets
    others pass.
    """
    if wants.held:
        return Refusal("held", ("held",))
    wanted = wanted_devices(wants, devices)
    if not wanted:
        return _none_there(wants)
    large = [device for device in wanted if device.could_hold(wants)]
    if not large:
        return _none_large_enough(wants, wanted)
    ahead = {device.id: {other.run for other in before if _competes(other, device, devices)} for device in large}
    waited_for = [device for device in large if ahead[device.id]]
    others = [device for device in large if not ahead[device.id]]
    busy = [device for device in others if device.id in taken]
    full = [device for device in others if device.id not in taken and not _has_room(wants, device)]
    open_ = [device for device in others if device.id not in taken and _has_room(wants, device)]
    if open_:
        return max(open_, key=lambda device: (device.free_bytes or 0, -(device.index or 0)))
    return _join([_ahead(waited_for, ahead), _taken(busy, taken), _full(wants, full)])


def pick(wants: Wants, devices: Sequence[Device], taken: Mapping[str, str]) -> Device | Refusal:
    """The device of a run that does not queue: one on which it fits and that nobody has, where there is one, with the
    most free memory. Where no GPU is found it is the worker's to say what it trains on."""
    wanted = wanted_devices(replace(wants, for_gpu=False), devices)
    if not wanted:
        return _none_there(wants)
    return max(wanted, key=lambda device: (wants.need_bytes is None or _has_room(wants, device), device.id not in taken,
                                           device.free_bytes or 0, -(device.index or 0)))


def _competes(other: Wants, device: Device, devices: Sequence[Device]) -> bool:
    return not other.held and device in wanted_devices(other, devices) and device.could_hold(other)


def _has_room(wants: Wants, device: Device) -> bool:
    """Whether the run fits on the device now; where its need is not known, whether the device is idle."""
    if device.free_bytes is None:
        return True
    if wants.need_bytes is not None:
        return wants.need_bytes <= device.free_bytes
    return device.total_bytes is None or device.free_bytes >= free_when_idle(device.total_bytes) - _IDLE_BYTES


Part = tuple[str, tuple[object, ...]]


def _none_there(wants: Wants) -> Refusal:
    if wants.gpus:
        return Refusal(f"{_listed('GPU', wants.gpus)} {_be(wants.gpus)} not there", ("absent", wants.gpus))
    return Refusal("no GPU is there now, and it was planned for one", ("absent",))


def _none_large_enough(wants: Wants, wanted: Sequence[Device]) -> Refusal:
    return Refusal(f"it needs {gib(wants.need_bytes)} and no GPU that it may use offers more than "
                   f"{gib(most_offered(wanted))}", ("small",))


def most_offered(devices: Sequence[Device]) -> int:
    """Bytes that the largest of them offers with nothing else on it."""
    return max((device.capacity_bytes or 0 for device in devices), default=0)


def _ahead(devices: Sequence[Device], ahead: Mapping[str, set[str]]) -> Part | None:
    if not devices:
        return None
    number = len(set[str]().union(*(ahead[device.id] for device in devices)))
    return f"{number} before it on {_named(devices)}", ("ahead", number, _ids(devices))


def _taken(devices: Sequence[Device], taken: Mapping[str, str]) -> Part | None:
    if not devices:
        return None
    by = tuple(taken[device.id] for device in devices)
    words = f"{_named(devices)} {_be(devices)} taken"
    return words if len(devices) > 1 else f"{words} by {by[0]}", ("taken", by, _ids(devices))


def _full(wants: Wants, devices: Sequence[Device]) -> Part | None:
    if not devices:
        return None
    kind = ("full", _ids(devices))
    most = max(devices, key=lambda device: device.free_bytes or 0)
    if wants.need_bytes is None:
        return f"how much it needs is not known, and {_named(devices)} {_be(devices)} not idle", kind
    if len(devices) > 1:
        return f"it needs {gib(wants.need_bytes)} and {_named(devices)} have {gib(most.free_bytes)} free at most", kind
    return f"{most.words} has {gib(most.free_bytes)} free and it needs {gib(wants.need_bytes)}", kind


def _join(parts: Sequence[Part | None]) -> Refusal:
    said = [part for part in parts if part is not None]
    return Refusal("; ".join(words for words, _ in said), tuple(kind for _, kind in said))


def _named(devices: Sequence[Device]) -> str:
    if devices[0].index is None:
        return devices[0].words
    return _listed("GPU", [str(device.index) for device in devices])


def _listed(what: str, names: Sequence[str]) -> str:
    """`GPU 0`, `GPU 0 and 1`, `GPU 0, 1 and 2`."""
    *first, last = names
    return f"{what} {', '.join(first)} and {last}" if first else f"{what} {last}"


def _be(things: Sequence[object]) -> str:
    return "are" if len(things) > 1 else "is"


def _ids(devices: Sequence[Device]) -> tuple[str, ...]:
    return tuple(device.id for device in devices)
