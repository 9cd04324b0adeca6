"""A full disk under `stepstream dev`: it refuses work and says why, loses nothing, and resumes by itself."""

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.serving import Serving
from tests.disk import SmallDisk
from tests.polling import until

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    """A small disk that has the state of the process."""
    made = SmallDisk(tmp_path / "disk")
    monkeypatch.setenv("STEPSTREAM_DATA_DIR", str(made.path / "state"))
    yield made
    made.remove()


def send(serving: Serving, number: int) -> httpx.Response:
    """Send an event that takes some space."""
    event = {"name": "go", "data": {"n": number, "text": "x" * 50_000}, "id": f"event-{number}"}
    return httpx.post(f"{serving.url}/e/dev", json=event)


def effects(serving: Serving) -> list[str]:
    """Return the bodies that ran, each as its run and step."""
    return serving.effects.read_text(encoding="utf-8").splitlines()


@pytest.mark.long
def test_dev_refuses_work_on_a_full_disk_and_resumes(tmp_path: Path, disk: SmallDisk) -> None:
    """Accepted events complete; refused ones start nothing, also after the space is back."""
    serving = Serving(tmp_path)
    serving.start()
    assert serving.process is not None
    pid = serving.process.pid
    serving.send(0, 3)
    serving.until_completed()
    disk.fill(pid)
    accepted = {*range(3), *(number for number in range(100, 110) if send(serving, number).is_success)}
    refused = send(serving, 1)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "unavailable"
    assert "free space on its disk; the events may still have been written" in refused.json()["error"]["message"]
    unready = httpx.get(f"{serving.url}/ready")
    assert unready.status_code == 503
    assert "state/db cannot be used" in unready.json()["reason"]
    assert httpx.get(f"{serving.url}/health").is_success
    assert len(serving.runs()) >= 3
    disk.free(pid)
    # The runbook says 10 s; other tests load the machine.
    until(lambda: httpx.get(f"{serving.url}/ready").is_success, 60, "the process does not resume")
    accepted |= {int(each.rpartition("-")[2]) for each in serving.send(200, 3)}
    runs = serving.until_completed()
    assert sorted(number for *_, number in serving.outputs(runs)) == sorted(accepted)
    assert len({line for line in effects(serving) if line.endswith((" a", " b", " c"))}) == 3 * len(accepted)
    assert serving.stop(signal.SIGTERM) == 0
    lines = [line for line in serving.errors() if line]
    assert not any("Traceback" in line for line in lines)
    assert [line for line in lines if "is open again after" in line]
