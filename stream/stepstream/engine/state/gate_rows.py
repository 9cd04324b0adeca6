"""The rows of gates: who holds one, and who waits for it."""

import msgspec

from stepstream.contract.gates import BatchedRun, Gate
from stepstream.contract.limits import GATE_WEIGHT_ONE
from stepstream.engine.state.keys import number_bytes

# A place in the queue of a gate: by time, which a priority moves (Unix ms and PRIORITY_MS_MAX more), then by number.
QueuePlace = tuple[int, int]


def queue_bytes(place: QueuePlace) -> bytes:
    """Return a place as bytes that sort as the places do."""
    return number_bytes(place[0]) + number_bytes(place[1])


class GateState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A gate that runs hold or wait for: how many of each, and the places in its queue that came last.

    So many `places` were given, the last one by the time `asked_at` (Unix ms), which never goes back; no run waits at
    `passed` or before it. `latest` is the run that passed last, which holds the permit of a gate that has only one.
    Of runs that are debounced or batched, the first one asked at `first` (Unix ms), and the events of those that are
    batched have so many `bytes`.
    A gate with a period has `next_us`, the theoretical arrival time of the next start (Unix microseconds). `due` is
    when its timer fires (Unix ms, 0: it has none). A gate that is fair has so many `shares`, and `tag` is the one that
    it served last.
    """

    gate: Gate
    held: int = 0
    waiting: int = 0
    places: int = 0
    passed: QueuePlace = (0, 0)
    next_us: int = 0
    due: int = 0
    latest: str = ""
    first: int = 0
    asked_at: int = 0
    bytes: int = 0
    shares: int = 0
    tag: QueuePlace = (0, 0)


class GateRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run, or a step of one, that waits for a gate at a place of its queue or sub-queue, or holds a permit."""

    place: QueuePlace | None = None
    share: str | None = None


class GateWaiter(msgspec.Struct, frozen=True, omit_defaults=True):
    """The run, or the step of one, at a place of the queue of a gate.

    It waits since `since` (Unix ms, 0 in rows of older releases). The `number` is that of its request,
    and `batched` what it asked with, as are its `units`. In a sub-queue, `share`, it has a `weight` (thousandths). Its
    `place` is that of PassedGate.
    """

    run_id: str
    since: int = 0
    step: str = ""
    number: int = 0
    batched: BatchedRun | None = None
    units: int = 1
    share: str | None = None
    weight: int = GATE_WEIGHT_ONE
    place: int = 0


class ShareWaiter(GateWaiter, frozen=True, omit_defaults=True):
    """The run, or the step of one, at a place of a sub-queue of a gate."""


class GateShare(msgspec.Struct, frozen=True, omit_defaults=True):
    """The sub-queue of a gate that is fair: its `tag`, and how many are `waiting` behind the place `passed`."""

    tag: QueuePlace
    waiting: int = 0
    passed: QueuePlace = (0, 0)


class GateTag(msgspec.Struct, frozen=True, omit_defaults=True):
    """The sub-queue that has a tag, by which those of a gate are ordered."""

    share: str
