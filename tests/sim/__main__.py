"""Run many random schedules: `python -m tests.sim N=100000`; `SEED=7` prints one of them, call by call.

With `WORKERS=2` each group has two workers, and rebalances. With `OPERATOR=1` an operator pauses and resumes runs.
`PROGRAM=withdrawn` runs only that program. Each core runs one process, unless `JOBS=1` sets their number.
"""

import functools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from stepstream.host.serving import collect_garbage_seldom
from tests.sim.faults import Faults
from tests.sim.schedule import judge, judge_seed, random_operators, random_rebalances, random_schedule, run_schedule
from tests.sim.world import Setting

_PROGRESS_EVERY_S = 5.0
_SEEDS_PER_CHUNK = 25

Make = Callable[[int], tuple[Setting, Faults]]


def main(arguments: list[str]) -> int:
    """Run schedules by seed, print their rate and every failure, and return the exit code."""
    options = dict(argument.split("=", 1) for argument in arguments)
    make: Make = random_schedule
    repeat = ""
    if options.get("OPERATOR") == "1":
        make, repeat = random_operators, "OPERATOR=1 "
    elif options.get("WORKERS") == "2":
        make, repeat = random_rebalances, "WORKERS=2 "
    if program := options.get("PROGRAM"):
        make = functools.partial(random_rebalances if repeat else random_schedule, programs=(program,))
        repeat += f"PROGRAM={program} "
    if "SEED" in options:
        return show(*make(int(options["SEED"])), run_schedule(*make(int(options["SEED"]))).digest)
    return run_many(make, repeat, options)


def run_many(make: Make, repeat: str, options: dict[str, str]) -> int:
    """Run schedules in several processes; print their rate and each failure, and return the exit code."""
    count, first = int(options.get("N", "1000")), int(options.get("FROM", "0"))
    jobs, until_failure = int(options.get("JOBS") or os.cpu_count() or 1), options.get("UNTIL") == "failure"
    seeds, size = range(first, first + count), 1 if until_failure else _SEEDS_PER_CHUNK
    chunks = [seeds[at : at + size] for at in range(0, count, size)]
    started = reported = time.monotonic()
    done = failed = 0
    for chunk, results in zip(chunks, _judged(make, chunks, jobs), strict=True):
        done += len(chunk)
        for seed, broken in results:
            failed += 1
            print(f"seed {seed}: {broken}; show it by `python -m tests.sim {repeat}SEED={seed}`", flush=True)
        if failed and until_failure:
            return 1
        if time.monotonic() - reported > _PROGRESS_EVERY_S:
            reported = time.monotonic()
            print(f"{done:,} schedules, {done / (reported - started):,.0f} a second", flush=True)
    rate = count / max(time.monotonic() - started, 1e-9)
    print(f"{count:,} schedules, {rate:,.0f} a second, {failed:,} failed")
    return 1 if failed else 0


def _judged(make: Make, chunks: Sequence[Sequence[int]], jobs: int) -> Iterator[list[tuple[int, str]]]:
    """Yield what judge_seeds returns for each chunk, in order; one job runs in this process."""
    work = functools.partial(judge_seeds, make)
    if jobs == 1:
        collect_garbage_seldom()
        yield from map(work, chunks)
        return
    with ProcessPoolExecutor(jobs, initializer=collect_garbage_seldom) as pool:
        try:
            yield from pool.map(work, chunks)
        finally:
            pool.shutdown(cancel_futures=True)


def judge_seeds(make: Make, seeds: Sequence[int]) -> list[tuple[int, str]]:
    """Run the schedules of seeds; return the seeds that break an invariant, each with the first one."""
    return [(seed, found[0]) for seed in seeds if (found := judge_seed(seed, make))]


def show(setting: Setting, faults: Faults, digest: str) -> int:
    """Run one schedule, print its calls, its faults and what it breaks, and return the exit code."""
    print(setting)
    print(faults.rebalances or "no rebalances")
    for number, fault in sorted(faults.plan.items()):
        print(f"  call {number}: {fault}")
    found = judge(setting, faults)
    for number, name in enumerate(faults.names):
        print(f"{number:5} {name}{'   <-- ' + faults.plan[number].kind.value if number in faults.plan else ''}")
    print(f"digest {digest}")
    print("\n".join(found) or "no invariant is broken")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
