"""The demos, whose processes are killed half-way, end with the figures that other code counts from the CSV."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from figures import day_figures, disruptions, failed_attempts, notifications

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CSV, AIRPORTS = EXAMPLES / "data" / "flights-2013-01-01.csv", EXAMPLES / "data" / "airports.csv"


def expect_figures(
    command: list[str], seconds_max: float, flights: Path = CSV, notified: int = 67
) -> "subprocess.CompletedProcess[str]":
    """Run a demo and return what it printed; its table and its runs must be what other code counts from the CSV."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds_max)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    table = report["carriers"]
    expected = day_figures(flights, AIRPORTS)
    assert {carrier: {key: row[key] for key in expected[carrier]} for carrier, row in table.items()} == expected
    assert sum(row["lost"] for row in table.values()) == 0
    assert notifications(expected) == notified
    assert report["functions"] == disruptions(flights)
    return done


@pytest.mark.long
def test_demo_counts_what_the_csv_says(tmp_path: Path) -> None:
    """A process that is killed in the middle of the day loses no flight, and counts none twice.

    The command that the demo prints serves the finished day: the list has each run, though it is of 2013.
    """
    done = expect_figures([sys.executable, str(EXAMPLES / "demo.py"), "--json", "--folder", str(tmp_path)], 600)
    retries = failed_attempts(CSV, AIRPORTS)
    assert f"retries: {retries}," in done.stderr
    command = shlex.split(done.stderr.rpartition("See each flight in the page:")[2])
    assert command[-1] == "--open"
    serving = subprocess.Popen([*command[:-1], "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert serving.stdout is not None
    page = next(line.split()[-1] for line in serving.stdout if "see all runs at" in line)
    api, flight = f"{page.removesuffix('/ui')}/v1", "2013-01-01-B6727-JFK"
    counts = httpx.get(f"{api}/counts").raise_for_status().json()
    found = httpx.get(f"{api}/runs", params={"filter": f"flight_id:{flight}"}).raise_for_status().json()
    waiting = httpx.get(f"{api}/runs", params={"filter": "status:waiting"}).raise_for_status().json()
    serving.terminate()
    serving.communicate(timeout=60)
    assert [run["attributes"]["flight_id"] for run in found["runs"]] == [flight]
    assert counts["functions"]["follow-flight"] == {"completed": 842}
    assert counts["functions"]["compensate-passengers"] == {"completed": 18, "failed": 6}
    assert {run["function"] for run in waiting["runs"]} == {"rebook-passengers"}


@pytest.mark.slow
def test_demo_on_kafka_reports_an_unreachable_broker() -> None:
    """The message is one sentence with a remedy, and there is no traceback."""
    command = [sys.executable, str(EXAMPLES / "demo_kafka.py"), "--kafka", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("no broker accepts connections at 127.0.0.1:1: start it, or correct the address")
    assert done.stderr.count("\n") == 1


@pytest.mark.kafka
@pytest.mark.first
@pytest.mark.parametrize(("each", "notified"), [(12, 1), pytest.param(1, 67, marks=pytest.mark.long)])
def test_demo_on_kafka_counts_what_the_csv_says(each: int, notified: int, tmp_path: Path, bootstrap: str) -> None:
    """Flights of the same day on a real broker, with an engine and a worker killed, have the figures of the CSV."""
    header, *rows = CSV.read_text().splitlines()
    flights = tmp_path / CSV.name
    flights.write_text("\n".join([header, *rows[::each]]) + "\n")
    command = [sys.executable, str(EXAMPLES / "demo_kafka.py"), "--json", "--kafka", bootstrap]
    expect_figures([*command, "--flights", str(flights)], 800, flights, notified)
