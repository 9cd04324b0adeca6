"""`stepstream dev` is killed repeatedly under load: no run is lost, and none runs twice."""

import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.serving import Serving

EVENTS = 40


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=pytest.mark.long)])
def test_kills_lose_nothing(kills: int, tmp_path: Path) -> None:
    """Every accepted event has one run, every run ends, and a step runs again only if its process was killed."""
    serving = Serving(tmp_path)
    sent = 0
    for number in range(kills):
        done = serving.effect_count()
        allowed = number % 7 * EVENTS // 2
        serving.start(limit=allowed)
        assert len(serving.send(sent, EVENTS)) == EVENTS
        sent += EVENTS
        serving.until_effects(done + allowed)
        assert serving.stop(signal.SIGKILL) == -signal.SIGKILL
        assert done + allowed < 3 * sent, "the kill hit no running step"
    serving.start()
    runs = serving.until_completed()
    outputs = serving.outputs(runs)
    assert serving.stop(signal.SIGTERM) == 0
    assert sorted(int(output[3]) for output in outputs) == list(range(sent))
    effects = Counter(serving.effects.read_text().splitlines())
    assert set(effects) == {f"{run['run_id']} {step}" for run in runs for step in "abc"}
    assert max(effects.values()) <= 1 + kills
    assert sum(effects.values()) < len(effects) * 1.5


@pytest.mark.slow
def test_ctrl_c_drains(tmp_path: Path) -> None:
    """SIGINT ends the process with exit code 0 and leaves runs that resume after the next start."""
    serving = Serving(tmp_path)
    serving.start()
    serving.send(0, 20)
    assert serving.stop(signal.SIGINT) == 0
    serving.start()
    runs = serving.until_completed()
    assert len(runs) == 20
    assert Counter(serving.effects.read_text().splitlines()).most_common(1)[0][1] == 1
    assert serving.stop(signal.SIGTERM) == 0
