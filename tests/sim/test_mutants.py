"""The simulation notices each seeded bug, and nothing in the source as it is."""

from pathlib import Path

import pytest

from tests.sim.mutants import MUTANTS, SEEDS, Mutant, PatchError, copy_with, patch, simulate


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_seeded_bug_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    """Some schedule breaks an invariant; the program says which, and exits with 1."""
    done = simulate(copy_with(mutant, tmp_path), mutant.first)
    assert done.returncode == 1, done.stderr or f"{SEEDS} schedules did not notice that {mutant.name}"
    assert "seed" in done.stdout, done.stdout


@pytest.mark.slow
@pytest.mark.long
def test_the_source_as_it_is_passes(tmp_path: Path) -> None:
    """A copy without a bug runs from the same folder, through the same schedules, and none breaks anything."""
    done = simulate(copy_with(None, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_bug_that_no_longer_fits_the_source_is_told() -> None:
    """A text that is gone, or stands twice, is an error and no bug that is never found."""
    mutant = Mutant("odd", "runtime/shard/loop.py", (("await nothing\n", ""),))
    with pytest.raises(PatchError, match="0 times"):
        patch(mutant, "pass\n")
    with pytest.raises(PatchError, match="2 times"):
        patch(mutant, "await nothing\nawait nothing\n")
