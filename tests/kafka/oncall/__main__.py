"""Run the on-call trial: python -m tests.kafka.oncall MINUTES=25 SEED=1 FAULTS=engine-killed,broker-away.

RECORD=tests/kafka/oncall/recorded writes the series of each fault for the tests of alerts.
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.kafka.oncall.faults import FAULTS, MISTAKES
from tests.kafka.oncall.trial import Plan, run


def plan_from(arguments: Sequence[str]) -> Plan:
    """Return the plan that NAME=value arguments describe; FAULTS=none is the load alone."""
    given = dict(argument.split("=", 1) for argument in arguments)
    known = (*FAULTS, *MISTAKES)
    names = tuple(name for name in given.get("FAULTS", "").split(",") if name)
    if unknown := [name for name in names if name not in (*known, "none")]:
        raise SystemExit(f"unknown fault {unknown[0]!r}; the faults are {', '.join(known)}, or none")
    return Plan(
        float(given.get("MINUTES", "25")),
        int(given.get("SEED", "1")),
        tuple(name for name in names or known if name != "none"),
        Path(given["RECORD"]).absolute() if "RECORD" in given else None,
    )


def main(arguments: Sequence[str]) -> int:
    """Execute the plan of the arguments, print what happens, and return 1 when something was wrong."""
    plan = plan_from(arguments)
    print(plan, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="stepstream-oncall-"))
    with suppress(KeyboardInterrupt):
        verdict = run(plan, folder, lambda line: print(line, flush=True))
        print("\n".join([*verdict.lines, *verdict.broken[:40]]))
        if not verdict.broken:
            shutil.rmtree(folder)
            return 0
        print(f"FAILED for {len(verdict.broken)} reasons with SEED={plan.seed}; the logs are in {folder}")
        return 1
    print(f"interrupted; all processes have ended, and their logs are in {folder}")
    return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
