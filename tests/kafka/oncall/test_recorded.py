"""The shipped alerts, evaluated on what real processes reported while each fault of the on-call trial lasted."""

import math
from pathlib import Path

import pytest

from tests.deploy.evaluation import Database, Labels
from tests.kafka.oncall.alerts import CALM_S, Window, wrong_alerts
from tests.kafka.oncall.faults import FAULTS, MISTAKES
from tests.kafka.oncall.recorded import FOLDER, read_recording, write_recordings
from tests.kafka.oncall.recording import firings_on

# It needs the packages of tests/deploy, which only `make test-long` installs.
pytestmark = pytest.mark.long


@pytest.mark.parametrize("name", [*FAULTS, *MISTAKES])
def test_alerts_fire_on_recorded_series(name: str) -> None:
    """Those of the fault fire, and no other page does; `make oncall RECORD=FOLDER` writes the files."""
    window, database = read_recording(FOLDER / f"{name}.json")
    assert not list(wrong_alerts([window], firings_on(database, window.ended_s + CALM_S)))


def test_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    """It has a sample per evaluation, of the cluster of the fault only, from just before it until just after it."""

    def series(name: str, namespace: str) -> Labels:
        return frozenset({("__name__", name), ("namespace", namespace), ("le", '"+Inf"')})

    window = Window("no-worker", "mistakes", MISTAKES["no-worker"], 100 + CALM_S, 130 + CALM_S)
    samples = {
        "constant": [(float(at), 7.0) for at in range(0, 200, 5)],
        "counter": [(float(at), at / 8) for at in range(0, 200, 5)],
        "ends": [(115.0, 1.0), (120.0, math.nan)],
        "earlier": [(20.0, 1.0)],
    }
    database = Database(
        {series(name, namespace): each for name, each in samples.items() for namespace in ("mistakes", "oncall")}
    )
    write_recordings(tmp_path, [window, Window("no-worker", "mistakes", window.fault, 150, 160)], database)
    (path,) = tmp_path.iterdir()
    read, found = read_recording(path)
    assert read == Window("no-worker", "mistakes", window.fault, CALM_S, 30 + CALM_S)
    values = {dict(labels)["__name__"]: each for labels, each in found.series.items()}
    assert values.keys() == {"constant", "counter", "ends"}
    assert found.series.keys() == {series(name, "mistakes") for name in values}
    assert values["constant"] == [(at, 7.0) for at in range(0, 60, 15)]
    assert values["counter"] == [(0, 12.5), (15, 14.375), (30, 16.25), (45, 18.125)]
    assert [(at, str(value)) for at, value in values["ends"]] == [(15, "1.0"), (30, "nan")]
