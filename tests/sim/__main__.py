"""Run many random schedules: python -m tests.sim N=100000 [SEED=first] [STOP=1: at the first failure]."""

import sys
import time

from tests.sim.judge import judge_seed, random_schedule

REPORT_S = 5.0


def main() -> int:
    """Run schedules by seed; print their rate and each failure; return 1 when there was one."""
    options = dict(argument.split("=", 1) for argument in sys.argv[1:])
    first = int(options.get("SEED", "0"))
    count = int(options.get("N", "1" if "SEED" in options else "1000"))
    begun = told = time.monotonic()
    failures = 0
    for seed in range(first, first + count):
        if found := judge_seed(seed):
            failures += 1
            print(f"seed {seed} {random_schedule(seed)}: {found}")
            if "STOP" in options:
                return 1
        if time.monotonic() - told > REPORT_S:
            told = time.monotonic()
            print(f"{seed - first + 1:,} schedules, {(seed - first + 1) / (told - begun):,.0f} a second")
    rate = count / (time.monotonic() - begun)
    print(f"{count:,} schedules, {rate:,.0f} a second, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
