"""Ten seeded bugs in a copy of the product: the simulation catches each, and the copy without a bug passes."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCHEDULES = 200


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: in `module`, `old` becomes `new`."""

    name: str
    module: str
    old: str
    new: str


MUTANTS = [
    Mutant(
        "rows are written before the commit",
        "runtime/shard.py",
        "        position = await self._log.commit()\n",
        "        self._store.write(rows, 0)\n        position = await self._log.commit()\n",
    ),
    Mutant(
        "offsets are forgotten",
        "runtime/shard.py",
        "        await self._log.send_offsets(batch.offsets)\n",
        "",
    ),
    Mutant(
        "outputs leave before the commit",
        "runtime/embedded.py",
        "        self._staged.records += records\n",
        "        self.journal.write(JournalWrite(list(records)), self.clock.now_ms())\n",
    ),
    Mutant(
        "recovery is skipped",
        "runtime/shard.py",
        "                self._store.write(rows, after)\n",
        "",
    ),
    Mutant(
        "a report is applied twice",
        "engine/steps.py",
        "    if run is None or draft.get(Memo, memo_key(report.run_id, report.step)):\n"
        "        return\n    run = replace(run, own",
        "    if run is None:\n        return\n    run = replace(run, own",
    ),
    Mutant(
        "a timer fires early",
        "engine/transition.py",
        "        if timer_due(key) > now:",
        "        if timer_due(key) > now + 3_600_000:",
    ),
    Mutant(
        "an ended run leaves its results",
        "engine/runs.py",
        "    for key, _ in draft.scan(Memo, MEMO, part):\n        draft.delete(key)\n",
        "",
    ),
    Mutant(
        "a worker begins what another began",
        "runtime/worker.py",
        "                if fresh:",
        "                if fresh or True:",
    ),
    Mutant(
        "commands are passed over that are not dealt with",
        "runtime/positions.py",
        "            while begun and begun[0] in ended:",
        "            while begun:",
    ),
    Mutant(
        "a wait is left when its run goes on",
        "engine/waits.py",
        'if opened.kind == "wait" and opened.event:',
        "if False:",
    ),
]


def simulate(package_parent: Path) -> subprocess.CompletedProcess[str]:
    """Run random schedules with the product in a folder, up to the first failure."""
    command = [sys.executable, "-m", "tests.sim", f"N={SCHEDULES}", "STOP=1"]
    environment = {**os.environ, "PYTHONPATH": f"{package_parent}{os.pathsep}{ROOT}"}
    return subprocess.run(
        command, cwd=package_parent, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def copy_product(folder: Path) -> Path:
    """Copy the package into a folder and return where it is."""
    target = folder / "stepstream"
    shutil.copytree(ROOT / "stream" / "stepstream", target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def test_the_copy_without_a_bug_passes(tmp_path: Path) -> None:
    """The simulation of an unchanged copy finds nothing."""
    copy_product(tmp_path)
    done = simulate(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SCHEDULES:,} schedules" in done.stdout


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_seeded_bug_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    """A schedule fails when the bug is in."""
    module = copy_product(tmp_path) / mutant.module
    text = module.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"{mutant.module} has changed: bring the mutant up to date"
    module.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    done = simulate(tmp_path)
    assert done.returncode == 1, f"not caught: {done.stdout}{done.stderr}"
    assert "seed" in done.stdout or "Error" in done.stderr
