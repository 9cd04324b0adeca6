"""The public types: mypy accepts the right uses, and refuses each wrong one."""

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def test_the_package_has_a_type_marker() -> None:
    """py.typed makes the type checkers of users read the types of the package."""
    assert files("stepstream").joinpath("py.typed").is_file()


@pytest.mark.slow
def test_wrong_uses_are_refused() -> None:
    """mypy reports an error on each line marked `wrong`, and on no other."""
    source = HERE / "wrong.py.txt"
    marked = {number for number, line in enumerate(source.read_text("utf-8").splitlines(), 1) if "# wrong" in line}
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", ".mypy_cache/wrong"]
    done = subprocess.run([*command, str(source)], cwd=ROOT, capture_output=True, text=True, check=False)
    reported = {int(line) for line in re.findall(r"^tests/typing/wrong\.py\.txt:(\d+): error", done.stdout, re.M)}
    assert len(marked) > 10
    assert reported == marked, done.stdout + done.stderr
