"""Run many random schedules: python -m tests.sim N=100000; SEED=7 shows one of them, call by call."""

import sys
import time

from tests.sim.schedule import judge, judge_seed, random_schedule, run_schedule

_TELL_EVERY_S = 5.0


def main(arguments: list[str]) -> int:
    """Run schedules by seed; print their rate and every failure; return 1 when there was one."""
    options = dict(argument.split("=", 1) for argument in arguments)
    if "SEED" in options:
        return show(int(options["SEED"]))
    count, first = int(options.get("N", "1000")), int(options.get("FROM", "0"))
    begun = told = time.monotonic()
    failed: list[int] = []
    for done in range(count):
        seed = first + done
        if found := judge_seed(seed):
            failed.append(seed)
            print(f"seed {seed}: {found[0]}; show it by `python -m tests.sim SEED={seed}`", flush=True)
            if options.get("UNTIL") == "failure":
                return 1
        if time.monotonic() - told > _TELL_EVERY_S:
            told = time.monotonic()
            print(f"{done + 1:,} schedules, {(done + 1) / (told - begun):,.0f} a second", flush=True)
    rate = count / max(time.monotonic() - begun, 1e-9)
    print(f"{count:,} schedules, {rate:,.0f} a second, {len(failed):,} failed")
    return 1 if failed else 0


def show(seed: int) -> int:
    """Run one schedule again and print all of it."""
    setting, faults = random_schedule(seed)
    print(setting)
    for number, fault in sorted(faults.plan.items()):
        print(f"  call {number}: {fault}")
    found = judge(setting, faults)
    for number, name in enumerate(faults.names):
        print(f"{number:5} {name}{'   <-- ' + faults.plan[number].kind.value if number in faults.plan else ''}")
    setting, faults = random_schedule(seed)
    print(f"digest {run_schedule(setting, faults).digest}")
    print("\n".join(found) or "nothing is wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
