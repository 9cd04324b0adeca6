"""Random functions of SDKs with failures and crashes at random: each run ends with the results of all its steps."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from stepstream import Event
from stepstream.gateway.runs.transport import Response, Unreachable
from stepstream.testing import Crash, VirtualEngine
from tests.gateway.runs.endpoint import Op, app_of, failed, registered
from tests.gateway.runs.program import Program

RETRIES = 20


@dataclass
class Chaos:
    """What a seed decides: the function, how often a call or a step fails, and what its worker keeps in memory."""

    seed: int
    stages: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Draw everything in a fixed order."""
        self.draw = draw = random.Random(self.seed)
        kinds = ("step", "step", "step", "nap", "wait")
        for stage in range(draw.randrange(1, 5)):
            size = draw.choice((1, 1, 2, 3, 5))
            self.stages.append(tuple(f"{draw.choice(kinds)}{stage}.{index}" for index in range(size)))
        self.ids = sorted(id for stage in self.stages for id in stage)
        self.version = draw.choice((1, 2))
        self.failures = draw.choice((0.0, 0.0, 0.1, 0.3))
        self.races = draw.random() < 0.3
        self.runs = draw.choice((1, 1, 3))
        self.options = {"live_cache": draw.random() < 0.7, "runs_cached_max": draw.choice((1, 10_000))}
        self.options["shards"] = draw.choice((1, 3))


class FailingProgram(Program):
    """A program whose calls and steps fail as the chaos says."""

    def __init__(self, chaos: Chaos) -> None:
        super().__init__(*chaos.stages, version=chaos.version)
        self._chaos = chaos

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Answer a call, after a while."""
        for _ in range(self._chaos.draw.randrange(6)):
            await asyncio.sleep(0)
        chance = self._chaos.draw.random() / max(self._chaos.failures, 1e-9)
        if chance < 1 / 3:
            raise Unreachable("refused")
        if chance < 2 / 3:
            return self._answer(500, {"name": "Error", "message": "failed"})
        return await super().post(url, headers, body)

    def _op(self, id: str, *, is_alone: bool) -> Op:
        found = super()._op(id, is_alone=is_alone)
        races = self._chaos.races and not is_alone
        return {**found, "opts": {**found.get("opts", {}), "parallelMode": "race"}} if races else found

    def _run(self, id: str) -> Op:
        return failed(id) if self._chaos.draw.random() < self._chaos.failures else super()._run(id)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
async def test_runs_with_failures_end_with_all_results(seed: int) -> None:
    """No result is lost, and without failures no body runs twice."""
    chaos = Chaos(seed)
    program = FailingProgram(chaos)
    await _play(program, chaos, [])
    if not chaos.failures:
        assert program.ran == {id: chaos.runs for id in chaos.ids if id.startswith("step")}


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 108))
async def test_runs_with_crashes_end_with_all_results(seed: int) -> None:
    """A worker or the engine crashes beside one of the steps."""
    chaos = Chaos(seed)
    crash = Crash(chaos.draw.choice(("worker", "engine")), chaos.draw.choice(("before", "after")), chaos.ids[-1])
    await _play(FailingProgram(chaos), chaos, [crash])


async def _play(program: FailingProgram, chaos: Chaos, crashes: list[Crash]) -> None:
    app = app_of(program, registered(retries=RETRIES))
    async with VirtualEngine(app, crashes=crashes, **chaos.options) as engine:  # type: ignore[arg-type]
        await engine.send(*[Event("demo/go")] * chaos.runs)
        for hours in [0.05] * 40 + [20.0] * 8:
            await engine.advance(hours * 3_600)
            await engine.send(Event("demo/reply"))
        ends = [(run.status, sorted(map(str, run.output))) for run in engine.runs() if isinstance(run.output, list)]
    assert ends == [("completed", chaos.ids)] * chaos.runs
