"""Three-step runs without limits per second: this checkout against another commit, in alternating rounds.

    [AGAINST=COMMIT] [ROUNDS=6] python -m benchmarks against

By default the other commit is the one before functions could have limits. Each measurement is a separate process of
that commit's `python -m benchmarks laptop throughput`, with this Python and its packages. Every second round has the
other order, so that a machine that becomes slower slows down both.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.functions import Figure, chosen

_BEFORE_LIMITS = "7d8f37eb"
_COMMIT, _ROUNDS = os.environ.get("AGAINST", _BEFORE_LIMITS), int(os.environ.get("ROUNDS", "6"))
_HERE = Path(__file__).parent.parent
_RATE = re.compile(r"^three-step runs +([\d,.]+) runs/s", re.MULTILINE)


def _git(*arguments: str) -> None:
    git = shutil.which("git")
    assert git, "git is missing"
    subprocess.run([git, *arguments], cwd=_HERE, check=True)


@contextmanager
def _checked_out(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def runs_per_second(tree: Path) -> float:
    """Return the throughput that the code of a checkout measures."""
    paths = f"{tree / 'stream'}{os.pathsep}{tree}"
    command = [sys.executable, "-m", "benchmarks", "laptop", "throughput"]
    done = subprocess.run(
        command, cwd=tree, env={**os.environ, "PYTHONPATH": paths}, check=True, capture_output=True, text=True
    )
    found = _RATE.search(done.stdout)
    assert found, done.stdout
    return float(found[1].replace(",", ""))


def compared(
    before: Path, after: Path, rounds: int, rate: Callable[[Path], float] = runs_per_second
) -> Iterator[Figure]:
    """Measure two checkouts in so many rounds; yield each pair of rates, their medians, and the ratio of these."""
    rates: dict[Path, list[float]] = {before: [], after: []}
    for number in range(1, rounds + 1):
        for tree in (before, after) if number % 2 else (after, before):
            rates[tree].append(rate(tree))
        yield Figure(f"round {number}: the other commit", rates[before][-1], "runs/s")
        yield Figure(f"round {number}: this checkout", rates[after][-1], "runs/s")
    medians = [statistics.median(found) for found in rates.values()]
    yield Figure("the other commit, median", medians[0], "runs/s")
    yield Figure("this checkout, median", medians[1], "runs/s")
    yield Figure("this checkout against the other commit", medians[1] / medians[0], "x", ">= 0.97")


def throughput() -> Iterator[Figure]:
    """Measure runs of a function without limits."""
    with _checked_out(_COMMIT) as before:
        yield from compared(before, _HERE, _ROUNDS)


ALL = (throughput,)


def main(requested: set[str]) -> Iterator[Figure]:
    """Yield the figures of the requested benchmarks, or of all."""
    for measure in chosen(ALL, requested):
        yield from measure()
