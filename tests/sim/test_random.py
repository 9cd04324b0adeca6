"""Random schedules with several faults; the same seed always gives the same schedule."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.__main__ import run_many
from tests.sim.faults import Faults
from tests.sim.programs import ALL_PROGRAMS
from tests.sim.schedule import judge_seed, random_schedule, run_schedule
from tests.sim.world import Setting

SEEDS = [range(40), pytest.param(range(40, 200), marks=pytest.mark.long)]


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SEEDS, ids=["some", "more"])
def test_random_schedules_change_nothing(seeds: range) -> None:
    """Crashes, late or repeated reports, late commits, zombies, lost disks and delays break no invariant."""
    broken = {seed: found for seed in seeds if (found := judge_seed(seed))}
    assert not broken, "\n".join(f"SEED={seed}: {found[0]}" for seed, found in broken.items())


@pytest.mark.slow
@pytest.mark.parametrize("program", sorted(ALL_PROGRAMS))
def test_a_program_always_takes_the_same_calls(program: str) -> None:
    """Sweeps of crashes count on it: they number the calls of a schedule without faults."""
    digests = {run_schedule(Setting(program, 3), Faults()).digest for _ in range(2)}
    assert len(digests) == 1


@pytest.mark.slow
def test_a_seed_always_gives_the_same_schedule() -> None:
    """Calls and history are the same twice in this process, and in other processes with other hash seeds."""
    seed = 5
    digests = {run_schedule(*random_schedule(seed)).digest for _ in range(2)}
    assert len(digests) == 1
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.sim", f"SEED={seed}"],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        digests.add(done.stdout.split("digest ")[1].split()[0])
    assert len(digests) == 1


def _unknown(_seed: int) -> tuple[Setting, Faults]:
    return Setting("no such program"), Faults()


def test_processes_report_each_seed_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """`make sim` runs seeds in several processes, and names those that fail, whichever process ran them."""
    assert run_many(_unknown, "WORKERS=2 ", {"FROM": "7", "N": "60", "JOBS": "2"}) == 1
    output = capsys.readouterr().out
    for seed in range(7, 67):
        assert f"`python -m tests.sim WORKERS=2 SEED={seed}`" in output
    assert "60 failed" in output
