"""A crash before and after every call of a port, one at a time, changes nothing.

Of those crashes about half differ; a test shows for some programs that each other one is the same as one of them, and
the sweeps leave it out. `make fast` tries a few of one program, and `make test` every fourth of the programs with few
calls on one shard. `make test-long` tries the others and all programs, also with a replay at each activation, and adds
every fourth crash on three shards, and some with one run at a time, with failing reads, and with lost disks.
"""

import pytest

from tests.sim.faults import Disk, Fault, Faults
from tests.sim.programs import PROGRAMS
from tests.sim.schedule import clean, run_schedule
from tests.sim.sweeps import Crash, all_crashes, broken_by_crashes, distinct_crashes
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
# A stride that three divides would crash at the same call of each batch.
FULL_LATER = [(at, 4) for at in REPLAYED]
THINNED = [*FULL_LATER, *((at, 4) for at in THREE), *((at, 5) for at in CROWDED), *((at, 7) for at in READS)]
REMAINING = [*((at, 4) for at in ONE), *FULL_LATER]
REPEATED = [
    (ONE[0], Disk.KEPT),
    (ONE[0], Disk.STALE),
    (ONE[0], Disk.WIPED),
    (THREE[0], Disk.KEPT),
    (READS[0], Disk.KEPT),
]


def test_a_crash_at_some_calls_changes_nothing() -> None:
    """A taste of the tests below for `make fast`."""
    broken = broken_by_crashes(Setting(FAST), 5)
    assert not broken, broken


@pytest.mark.parametrize("setting", ALL)
def test_every_fourth_crash_changes_nothing(setting: Setting) -> None:
    """All programs run on one shard; the last test of this module tries the other crashes."""
    broken = broken_by_crashes(setting, 4)
    assert not broken, broken


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("setting", "stride"), THINNED, ids=str)
def test_a_crash_in_other_settings_changes_nothing(setting: Setting, stride: int) -> None:
    """Three shards, a replay at each activation, one run at a time, failing reads: some of the crashes."""
    broken = broken_by_crashes(setting, stride)
    assert not broken, broken


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("disk", [Disk.STALE, Disk.WIPED])
@pytest.mark.parametrize("setting", ONE, ids=lambda at: at.program)
def test_a_lost_disk_is_restored_from_the_changelog(setting: Setting, disk: Disk) -> None:
    """A shard that restarts on a stale or an empty disk restores all rows."""
    broken = broken_by_crashes(setting, 4, disk)
    assert not broken, broken


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("setting", "stride"), REMAINING, ids=str)
def test_the_remaining_crashes_change_nothing(setting: Setting, stride: int) -> None:
    """One shard, live and with a replay at each activation: each crash that the tests above skip."""
    broken = broken_by_crashes(setting, stride, between=True)
    assert not broken, broken


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("setting", "disk"), REPEATED, ids=str)
def test_a_crash_that_is_left_out_is_the_same_as_another(setting: Setting, disk: Disk) -> None:
    """Workers make the same calls, shards restart equally often, and each step gets its result in the same minute."""

    def course_of(crash: Crash) -> tuple[object, ...]:
        number, kind = crash
        faults = Faults({number: Fault(kind, disk)})
        outcome = run_schedule(setting, faults)
        calls = [name for name in faults.names if name.startswith("worker") or name == "log.open"]
        return outcome.broken, outcome.results, outcome.minutes, calls

    names, _ = clean(setting)
    tried = distinct_crashes(names)
    courses = [course_of(crash) for crash in tried]
    left_out = [crash for crash in all_crashes(names) if crash not in tried]
    assert left_out
    unlike = [
        (kind.value, number, names[number]) for number, kind in left_out if course_of((number, kind)) not in courses
    ]
    assert not unlike
