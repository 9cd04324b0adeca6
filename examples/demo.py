"""Replay a real day of 842 flights on the durable runtime, kill it half-way, start it again: nothing is lost.

    python examples/demo.py

The process is killed by SIGKILL. The table is counted from the outputs of the flights' runs, and must equal what the
day's own run summed up while the process was killed under it; the exit code is 1 if it does not.
A day has its troubles: services fail and are called again, payments are declined, and three days later some passengers
still wait for places or for a person's decision. `--json` prints the table and these runs for scripts.
`--folder build/demo` keeps the state of the day, and the demo ends with the command that opens it in the page.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from flights_events import write_events
from rich.console import Console
from rich.table import Table

RunStats = dict[str, int]

HERE = Path(__file__).parent
FLIGHTS = HERE / "data" / "flights-2013-01-01.csv"
# How much time passes after the last event: enough to close the last flight that never departed.
CONTINUE_FOR = "3d"
DISRUPTIONS = ("compensate-passengers", "rebook-passengers")
STEPSTREAM = str(Path(sysconfig.get_path("scripts")) / "stepstream")
COLUMNS = ("scheduled", "flown", "never_departed", "diverted", "late", "warned", "lost")


def replay_command(events: Path, data: Path) -> list[str]:
    """Return the command that replays the day."""
    command = [STEPSTREAM, "replay", str(HERE / "flights.py"), "--events", str(events), "--data-dir", str(data)]
    return [*command, "--continue-for", CONTINUE_FOR]


def start_replay(events: Path, data: Path) -> subprocess.Popen[str]:
    """Start `stepstream replay` as a child process; its progress comes as lines of JSON on stderr."""
    command = [*replay_command(events, data), "--json", "--progress", "json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_progress(line: str) -> tuple[int, int] | None:
    """Return the events fed and in total, or None when the line is something else, as a warning."""
    try:
        progress = json.loads(line)
        return progress["events_fed"], progress["events_total"]
    except (ValueError, KeyError, TypeError):
        return None


def kill_halfway(replay: subprocess.Popen[str], console: Console) -> None:
    """Send SIGKILL once half of the events are fed; exit with what the replay said if it ended by itself."""
    assert replay.stderr is not None
    fed = total = 0
    other: list[str] = []
    with replay:
        for line in replay.stderr:
            progress = read_progress(line)
            if progress is None:
                other.append(line)
                continue
            fed, total = progress
            if fed * 2 >= total:
                replay.kill()
                break
    if replay.returncode != -signal.SIGKILL:
        sys.exit(f"the replay ended before the kill, with code {replay.returncode}\n{''.join(other)}")
    console.print(f"Killed (SIGKILL) after {fed:,} of {total:,} events.")


def finish(replay: subprocess.Popen[str]) -> Mapping[str, object]:
    """Let a replay run to its end and return its summary; exit with what it said if it failed."""
    output, errors = replay.communicate()
    if replay.returncode:
        sys.exit(f"the replay failed with code {replay.returncode}\n{errors}")
    summary: Mapping[str, object] = json.loads(output)
    return summary


def read_runs(data: Path, function: str) -> list[dict[str, Any]]:
    """Return the runs of a function with their outputs."""
    command = [STEPSTREAM, "runs", "list", "--data-dir", str(data), "--function", function]
    whole = [*command, "--limit", "0", "--json", "--outputs"]
    runs: list[dict[str, Any]] = json.loads(subprocess.run(whole, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return runs


def outputs(runs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, object]]:
    """Return the outputs of the completed runs."""
    return [run["output"] for run in runs if run["status"] == "completed"]


def statuses(runs: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Count runs by status."""
    return dict(sorted(Counter(str(run["status"]) for run in runs).items()))


def count(outcomes: list[Mapping[str, object]]) -> dict[str, RunStats]:
    """Count the outcomes of single flights by carrier."""
    table: dict[str, RunStats] = {}
    for outcome in outcomes:
        stats = table.setdefault(str(outcome["carrier"]), dict.fromkeys(COLUMNS, 0))
        stats["scheduled"] += 1
        stats[str(outcome["status"])] += 1
        stats["late"] += bool(outcome["late"])
        stats["warned"] += bool(outcome["warned"])
    return dict(sorted(table.items()))


def draw(table: Mapping[str, RunStats]) -> Table:
    """Return the table for the terminal, with a line for all carriers."""
    drawn = Table("carrier", title="Flights from New York, 1 January 2013", show_footer=True)
    drawn.columns[0].footer = "all"
    for column in COLUMNS:
        total = sum(stats[column] for stats in table.values())
        drawn.add_column(column.replace("_", " "), footer=str(total), justify="right")
    for carrier, stats in table.items():
        drawn.add_row(carrier, *(str(stats[column]) for column in COLUMNS))
    return drawn


class Report(NamedTuple):
    """The table of the day, counted from its flights; what the day's runs summed up, a single one; and other runs.

    `functions` counts the runs for disrupted flights by function and status.
    """

    carriers: dict[str, RunStats]
    sums: list[Mapping[str, object]]
    functions: dict[str, dict[str, int]]

    def show(self, console: Console, *, as_json: bool) -> None:
        """Print the table and the other runs."""
        if as_json:
            print(json.dumps({"carriers": self.carriers, "functions": self.functions}))
            return
        console.print(draw(self.carriers))
        for function, counts in self.functions.items():
            waits = {name.replace("running", "waiting"): number for name, number in counts.items()}
            console.print(f"{function}: " + ", ".join(f"{number} {name}" for name, number in waits.items()))

    def check(self, console: Console, faults: str) -> None:
        """Exit with 1 unless the flights and the day's run agree in spite of the faults."""
        if self.sums != [self.carriers]:
            sys.exit("the day's run and the flights' runs do not agree")
        console.print(f"The day's run summed up the same figures: every flight counted once, in spite of {faults}.")


def run(folder: Path, console: Console) -> Report:
    """Replay, kill, replay to the end; return what was counted."""
    events, data = folder / "events.jsonl", folder / "state"
    console.print(f"{write_events(FLIGHTS, events):,} events, made from {FLIGHTS.name}.")
    kill_halfway(start_replay(events, data), console)
    console.print("Started again with the same folder.")
    summary = finish(start_replay(events, data))
    figures = (f"{key}: {summary[key]}" for key in ("runs", "steps", "retries", "timeouts"))
    console.print(", ".join(figures), soft_wrap=True)
    flights, days = (outputs(read_runs(data, function)) for function in ("follow-flight", "sum-up-day"))
    return Report(count(flights), days, {function: statuses(read_runs(data, function)) for function in DISRUPTIONS})


@contextmanager
def folder_of(given: Path | None) -> Iterator[Path]:
    """Give the folder of the demo: a new one without what an earlier demo left, or a temporary one."""
    if given is None:
        with tempfile.TemporaryDirectory(prefix="stepstream-demo-") as made:
            yield Path(made)
        return
    shutil.rmtree(given / "state", ignore_errors=True)
    given.mkdir(parents=True, exist_ok=True)
    yield given


def page_command(folder: Path) -> str:
    """Return the command that opens the finished day in the page."""
    paths = (os.path.relpath(path) for path in (STEPSTREAM, HERE / "flights.py", folder / "state"))
    command, app, state = map(shlex.quote, paths)
    return f"{command} dev {app} --data-dir {state} --open"


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="Replay a day of real flights, killed half-way and started again.")
    parser.add_argument("--json", action="store_true", help="print the table as JSON; all else goes to stderr")
    parser.add_argument("--folder", type=Path, help="keep the state of the day in this folder (default: none)")
    arguments = parser.parse_args()
    console = Console(stderr=arguments.json)
    with folder_of(arguments.folder) as folder:
        report = run(folder, console)
    report.show(console, as_json=arguments.json)
    report.check(console, "the kill")
    if arguments.folder:
        console.print(f"See each flight in the page:\n  {page_command(arguments.folder)}", soft_wrap=True)


if __name__ == "__main__":
    main()
