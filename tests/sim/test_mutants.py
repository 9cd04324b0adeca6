"""The simulation detects each seeded bug, and finds nothing in the unmodified source."""

from pathlib import Path

import pytest

from tests.sim.mutants import MUTANTS
from tests.sim.mutation import SEEDS, SOURCE, Mutant, PatchError, copy_with, patch, simulate


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_seeded_bug_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    """A schedule breaks an invariant; the program prints its seed, and exits with 1."""
    done = simulate(copy_with(mutant, tmp_path), mutant)
    assert done.returncode == 1, done.stderr or f"{SEEDS} schedules did not detect that {mutant.name}"
    assert "seed" in done.stdout, done.stdout


@pytest.mark.slow
@pytest.mark.long
def test_the_unmodified_source_passes(tmp_path: Path) -> None:
    """A copy without a bug runs the same schedules in the same way, and breaks no invariant."""
    done = simulate(copy_with(None, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_seeded_bug_fits_the_source(mutant: Mutant) -> None:
    """A change of the source that a mutant edits shows at once, and not only when the simulation runs."""
    text = (SOURCE / mutant.module).read_text("utf-8")
    changed = patch(mutant, text)
    assert changed != text
    compile(changed, mutant.module, "exec")


def test_a_bug_that_does_not_fit_the_source_is_an_error() -> None:
    """A text that the source does not contain exactly once is an error: the mutant would change something else."""
    mutant = Mutant("odd", "runtime/shard/loop.py", (("await gone()\n", ""),))
    with pytest.raises(PatchError, match="0 times"):
        patch(mutant, "pass\n")
    with pytest.raises(PatchError, match="2 times"):
        patch(mutant, "await gone()\nawait gone()\n")
