"""Copies of the package with a seeded bug, and the simulation of them."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import stepstream

SOURCE = Path(stepstream.__file__).parent
ROOT = Path(__file__).parents[2]
SEEDS = 400


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: in `module`, a path within the package, each first text of `edits` is replaced by the second.

    Schedules run from the seed `first`: a bug that few schedules detect has one of those soon after it. With two
    `workers` their groups rebalance. With an `operator` an operator pauses and resumes runs. With a `program` no other
    one runs.
    """

    name: str
    module: str
    edits: tuple[tuple[str, str], ...]
    first: int = 0
    workers: int = 1
    operator: bool = False
    program: str = ""


class PatchError(Exception):
    """The source has changed, and the seeded bug must be adapted."""


def patch(mutant: Mutant, text: str) -> str:
    """Return the source with the bug; raise PatchError unless the source contains each old text exactly once."""
    for old, new in mutant.edits:
        if text.count(old) != 1:
            raise PatchError(
                f"mutant {mutant.name!r}: {mutant.module} has {text.count(old)} times {old!r}; adapt its edits"
            )
        text = text.replace(old, new)
    return text


def copy_with(mutant: Mutant | None, place: Path) -> Path:
    """Copy the package to a folder, with a bug if one is given; return the folder from which to import it."""
    # With the compiled modules, except those that another process is writing; only the one with the bug is compiled.
    shutil.copytree(SOURCE, place / "stepstream", ignore=shutil.ignore_patterns("*.pyc.*"))
    if mutant:
        path = place / "stepstream" / mutant.module
        path.write_text(patch(mutant, path.read_text()))
    return place


def simulate(place: Path, mutant: Mutant | None = None) -> subprocess.CompletedProcess[str]:
    """Run the schedules of a mutant until the first that breaks an invariant, with the package at `place`."""
    at = mutant or Mutant("", "", ())
    command = [sys.executable, "-m", "tests.sim", f"N={SEEDS}", f"FROM={at.first}", "JOBS=1", "UNTIL=failure"]
    command += [f"WORKERS={at.workers}", f"OPERATOR={int(at.operator)}", f"PROGRAM={at.program}"]
    environment = {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
