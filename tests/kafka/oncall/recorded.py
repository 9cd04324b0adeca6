"""The series of faults of an on-call trial in files: tests evaluate the alerts on what real processes reported."""

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.deploy.evaluation import NAME, Database, Labels, Samples
from tests.kafka.oncall.alerts import CALM_S, Window
from tests.kafka.oncall.faults import FAULTS, MISTAKES
from tests.kafka.oncall.recording import EVALUATE_S

FOLDER = Path(__file__).with_name("recorded")


def write_recordings(folder: Path, windows: Sequence[Window], database: Database) -> None:
    """Write a file for each fault that struck, with the series of its cluster around the first time that it did."""
    folder.mkdir(exist_ok=True)
    for window in {each.name: each for each in reversed(windows)}.values():
        start_s = window.began_s - CALM_S
        end_s = window.ended_s + CALM_S
        recorded = {
            "namespace": window.namespace,
            "began_s": CALM_S,
            "ended_s": round(window.ended_s - start_s),
            "interval_s": EVALUATE_S,
            "series": dict(_notations(database, window.namespace, start_s, end_s)),
        }
        (folder / f"{window.name}.json").write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


def read_recording(path: Path) -> tuple[Window, Database]:
    """Return when the fault of a file struck, and its series."""
    found = json.loads(path.read_text(encoding="utf-8"))
    fault = (FAULTS | MISTAKES)[path.stem]
    window = Window(path.stem, found["namespace"], fault, found["began_s"], found["ended_s"])
    return window, Database.of(found["series"], found["interval_s"])


def _notations(database: Database, namespace: str, start_s: float, end_s: float) -> Iterator[tuple[str, str]]:
    """Yield each series of a cluster that has samples in a time, and their notation."""
    for labels, samples in sorted(database.series.items(), key=lambda each: sorted(each[0])):
        if ("namespace", namespace) not in labels:
            continue
        values = [_text(samples, at_s) for at_s in _times(start_s, end_s)]
        if any(value != "_" for value in values):
            yield _selector(labels), " ".join(_runs(values))


def _times(start_s: float, end_s: float) -> Iterator[float]:
    return (start_s + number * EVALUATE_S for number in range(int((end_s - start_s) // EVALUATE_S) + 1))


def _text(samples: Samples, at_s: float) -> str:
    """Return the last sample of the interval that ends at a time, `_` without one."""
    value = next((value for at, value in reversed(samples) if at_s - EVALUATE_S < at <= at_s), None)
    if value is None:
        return "_"
    return "stale" if math.isnan(value) else f"{value:.3f}".rstrip("0").rstrip(".")


def _selector(labels: Labels) -> str:
    own = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(labels) if name != NAME)
    return f"{dict(labels)[NAME]}{{{own}}}"


def _runs(values: Sequence[str]) -> Iterator[str]:
    """Yield values that follow one another, equal ones as one: `7x2` is a 7 and two more, `_x2` are two gaps."""
    for value, equal in itertools.groupby(values):
        more = len(list(equal)) - (value != "_")
        yield f"{value}x{more}" if more and value != "stale" else " ".join([value] * (more + 1))
