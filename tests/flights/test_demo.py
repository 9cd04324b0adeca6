"""The demo, killed half-way and begun again, ends with the figures that the CSV alone gives."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from figures import day_figures, notifications

EXAMPLES = Path(__file__).parents[2] / "examples"
CSV, AIRPORTS = EXAMPLES / "data" / "flights-2013-01-01.csv", EXAMPLES / "data" / "airports.csv"


@pytest.mark.slow
def test_the_demo_counts_what_the_csv_says() -> None:
    """A process killed by SIGKILL in the middle of the day loses no flight and counts none twice."""
    command = [sys.executable, str(EXAMPLES / "demo.py"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    expected = day_figures(CSV, AIRPORTS)
    assert {carrier: {key: row[key] for key in expected[carrier]} for carrier, row in table.items()} == expected
    assert sum(row["lost"] for row in table.values()) == 0
    assert notifications(expected) == 67
