"""Many schedules of some programs: by random seeds, and with a crash at each call of a port."""

from collections.abc import Iterable, Sequence

from tests.sim.faults import Disk, Fault, Faults, Kind
from tests.sim.schedule import clean, judge, judge_seed, random_rebalances, random_schedule
from tests.sim.world import Setting


def broken_by(programs: Sequence[str], seeds: Iterable[int]) -> str:
    """Return the broken invariants of the schedules of these seeds, one line per seed."""
    broken: list[str] = []
    for make in (random_schedule, random_rebalances):
        for seed in seeds:
            broken += judge_seed(seed, lambda seed, make=make: make(seed, programs))[:1]  # type: ignore[misc]
    return "\n".join(broken)


def broken_by_crashes(program: str, shards: int) -> str:
    """Return the invariants that a crash before or after a call of a port breaks, at most 20 lines."""
    setting = Setting(program, shards)
    names, _ = clean(setting)
    broken: list[str] = []
    for number, name in enumerate(names):
        for kind in (Kind.BEFORE, Kind.AFTER):
            found = judge(setting, Faults({number: Fault(kind, Disk.KEPT)}))
            broken += [f"crash {kind.value} call {number} ({name}): {problem}" for problem in found]
    return "\n".join(broken[:20])
