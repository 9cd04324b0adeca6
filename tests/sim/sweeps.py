"""Many schedules of some programs: by random seeds, and with a crash at calls of a port."""

from collections.abc import Iterable, Sequence

from tests.sim.faults import Disk, Fault, Faults, Kind
from tests.sim.schedule import clean, judge, judge_seed, random_rebalances, random_schedule
from tests.sim.world import Setting

_MOMENTS = (Kind.BEFORE, Kind.AFTER)
# At other moments of these calls a crash is the same as one that is tried: before its commit, a batch exists only in
# its process; rows are written directly after their commit and before the next poll; and reads change nothing.
_MOMENTS_OF = {
    "log.seek": (),
    "log.poll": (Kind.BEFORE,),
    "log.begin": (),
    "log.send": (),
    "store.open": (),
    "store.write": (),
    "store.get": (Kind.BEFORE,),
    "store.scan": (Kind.BEFORE,),
    "store.last": (Kind.BEFORE,),
}
Crash = tuple[int, Kind]


def all_crashes(names: Sequence[str]) -> list[Crash]:
    """Return a crash before and after each of these calls: the number of the call, and when."""
    return [(number, kind) for number in range(len(names)) for kind in _MOMENTS]


def distinct_crashes(names: Sequence[str]) -> list[Crash]:
    """Return the crashes that differ; each other one is the same as one of them."""
    return [(number, kind) for number, kind in all_crashes(names) if kind in _MOMENTS_OF.get(names[number], _MOMENTS)]


def broken_by(programs: Sequence[str], seeds: Iterable[int]) -> str:
    """Return the broken invariants of the schedules of these seeds, one line per seed."""
    broken: list[str] = []
    for make in (random_schedule, random_rebalances):
        for seed in seeds:
            broken += judge_seed(seed, lambda seed, make=make: make(seed, programs))[:1]  # type: ignore[misc]
    return "\n".join(broken)


def broken_by_crashes(setting: Setting, stride: int = 1, disk: Disk = Disk.KEPT, *, between: bool = False) -> str:
    """Return the invariants that a crash breaks, at most 20 lines.

    Of the crashes that differ, every `stride`th is tried, or with `between` each other one.
    """
    names, _ = clean(setting)
    assert len(names) > 50
    broken: list[str] = []
    for at, (number, kind) in enumerate(distinct_crashes(names)):
        if (at % stride > 0) == between:
            faults = Faults({number: Fault(kind, disk)})
            found = judge(setting, faults)
            broken += [f"crash {kind.value} call {number} ({names[number]}): {problem}" for problem in found]
            assert faults.struck, f"call {number} ({names[number]}) was never made"
    return "\n".join(broken[:20])
