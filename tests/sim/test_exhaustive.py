"""A crash before and after every call of a port, one at a time, changes nothing.

`make fast` crashes one program at every few calls, and `make test` the programs with few calls on one shard at every
third call. `make test-long` crashes at the other calls and in all programs, and adds three shards, a replay at each
activation, one run at a time, failing reads, and lost disks. Schedules with one run at a time or with failing reads
crash only at every few calls, because most of their calls change nothing.
"""

import pytest

from tests.sim.faults import Disk, Fault, Faults, Kind
from tests.sim.programs import PROGRAMS
from tests.sim.schedule import clean, judge
from tests.sim.world import Setting

FAST = "conversation"
# The programs with the most calls.
LARGE = ("conversation", "gates", "held", "lookbacks", "many", "pools")
SLOW, LONG = (pytest.mark.slow,), (pytest.mark.slow, pytest.mark.long)
ONE = [Setting(name) for name in PROGRAMS]
ALL = [pytest.param(at, id=at.program, marks=LONG if at.program in LARGE else SLOW) for at in ONE]
THREE = [Setting(name, shards=3) for name in PROGRAMS]
REPLAYED = [Setting(name, live_cache=False) for name in PROGRAMS]
CROWDED = [Setting(name, live_cache=False, runs_active_max=1) for name in PROGRAMS]
READS = [Setting(name, reads=True) for name in PROGRAMS]
FULL_LATER = [*((at, 5) for at in THREE), *((at, 3) for at in REPLAYED)]
THINNED = [*FULL_LATER, *((at, 5) for at in CROWDED), *((at, 7) for at in READS)]
REMAINING = [*((at, 3) for at in ONE), *FULL_LATER]


def _crash_everywhere(setting: Setting, stride: int, disk: Disk = Disk.KEPT, *, between: bool = False) -> None:
    """Crash at every `stride`th call, or with `between` at all other calls."""
    names, _ = clean(setting)
    assert len(names) > 50
    broken: list[str] = []
    for number in (number for number in range(len(names)) if (number % stride > 0) == between):
        for kind in (Kind.BEFORE, Kind.AFTER):
            faults = Faults({number: Fault(kind, disk)})
            found = judge(setting, faults)
            broken += [f"crash {kind.value} call {number} ({names[number]}): {problem}" for problem in found]
            assert faults.struck, f"call {number} ({names[number]}) was never made"
    assert not broken, "\n".join(broken[:20])


def test_a_crash_at_some_calls_changes_nothing() -> None:
    """A taste of the tests below for `make fast`."""
    _crash_everywhere(Setting(FAST), 10)


@pytest.mark.parametrize("setting", ALL)
def test_a_crash_at_every_third_call_changes_nothing(setting: Setting) -> None:
    """All programs run on one shard; the last test of this module crashes at the other calls."""
    _crash_everywhere(setting, 3)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("setting", "stride"), THINNED, ids=str)
def test_a_crash_in_other_settings_changes_nothing(setting: Setting, stride: int) -> None:
    """Three shards, a replay at each activation, one run at a time, failing reads: a crash at every few calls."""
    _crash_everywhere(setting, stride)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("disk", [Disk.STALE, Disk.WIPED])
@pytest.mark.parametrize("setting", ONE, ids=lambda at: at.program)
def test_a_lost_disk_is_restored_from_the_changelog(setting: Setting, disk: Disk) -> None:
    """A shard that restarts on a stale or an empty disk restores all rows."""
    _crash_everywhere(setting, 4, disk)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("setting", "stride"), REMAINING, ids=str)
def test_a_crash_at_the_remaining_calls_changes_nothing(setting: Setting, stride: int) -> None:
    """One shard, three shards, and a replay at each activation: a crash at each call that the tests above skip."""
    _crash_everywhere(setting, stride, between=True)
