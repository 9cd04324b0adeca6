"""Many runs are cancelled or rerun by one operation: each once, at a rate, with a preview's count as its bound."""

from collections import Counter
from typing import Any

import pytest

from stepstream import App, Context, Event, NonRetriableError, on
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.inbox import CancelRequested
from stepstream.contract.operators.bulk import BulkFailure, BulkState
from stepstream.engine.state.changes import Changes
from stepstream.engine.state.records import Input
from stepstream.engine.state.view import View
from stepstream.engine.transition import transition
from stepstream.runtime.shard import loop
from tests.scenarios.conftest import EngineOf


class Shop:
    """An app whose runs fail while it is `broken`, and runs that wait."""

    def __init__(self) -> None:
        self.app = App("bulk")
        self.broken = True
        self.charged: Counter[int] = Counter()

        @self.app.function(on("order"), retries=0)
        async def charge(ctx: Context) -> int:
            number: int = await ctx.step.run("pick", lambda: ctx.event.data["n"])
            return await ctx.step.run("charge", self.charge, number)

        @self.app.function(on("wait"))
        async def wait(ctx: Context) -> None:
            await ctx.step.sleep("nap", "1h")

    def charge(self, number: int) -> int:
        """Count a charge, or fail."""
        if self.broken:
            raise NonRetriableError("the bank is closed")
        self.charged[number] += 1
        return number


@pytest.mark.log
async def test_a_bulk_rerun_repeats_each_failed_run_once(engine_of: EngineOf) -> None:
    """All runs that the filter found are rerun from what failed, and a repeated request starts nothing."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(*(Event("order", {"n": n}) for n in range(12)))
        shop.broken = False
        for _ in range(2):
            operation = await engine.bulk(
                "rerun", filter="status:failed", why="the bank is open", from_failure=True, rate=50, request_id="repair"
            )
        await engine.advance("1s")
        done = await engine.bulk_operation(operation)
        assert (done.state, done.total, done.sent) == (BulkState.COMPLETED, 12, 12)
        assert (dict(done.outcomes), done.by, done.why) == ({"started": 12}, "test", "the bank is open")
        reruns = engine.runs("charge", status="completed")
        assert len({run.origin for run in reruns}) == len(reruns) == 12
        assert all(run.steps[0].copied for run in reruns)
    assert shop.charged == Counter(range(12))


async def test_a_bulk_cancel_ends_open_runs_at_its_rate(engine_of: EngineOf) -> None:
    """Only as many runs are cancelled per second as the rate says; history says who cancelled them and why."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(*(Event("wait", {"n": n}) for n in range(5)))
        operation = await engine.bulk("cancel", filter="function:wait", why="a mistake", rate=2)
        assert len(engine.runs(status="cancelled")) == 1
        await engine.advance("1s")
        assert len(engine.runs(status="cancelled")) == 3
        await engine.advance("1m")
        assert (await engine.bulk_operation(operation)).outcomes == (("cancelled", 5),)
        (message,) = {str(run.error["message"]) for run in engine.runs() if isinstance(run.error, dict)}
        assert message == "the run was cancelled by test: a mistake"


async def test_a_bulk_operation_takes_only_runs_to_which_it_applies(engine_of: EngineOf) -> None:
    """Ended runs are not cancelled and open ones not rerun; a run that ends meanwhile is an outcome."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(Event("order", {"n": 1}), Event("wait"), Event("wait"))
        failed, *waiting = [run.run_id for run in (*engine.runs("charge"), *engine.runs("wait"))]
        operation = await engine.bulk("cancel", ids=[failed, *waiting], rate=1)
        (left,) = [run.run_id for run in engine.runs("wait", status="running")]
        await engine.cancel(left)
        await engine.advance("2s")
        done = await engine.bulk_operation(operation)
        assert (done.total, dict(done.outcomes)) == (2, {"cancelled": 1, "not_found": 1})
        with pytest.raises(TooLarge, match="would rerun 3 runs, and may 2"):
            await engine.bulk("rerun", filter="status:ended", cap=2)
        with pytest.raises(InvalidInput, match="there is no run"):
            await engine.bulk("rerun", ids=["0" * 26])
        with pytest.raises(InvalidInput, match="an empty filter would find all runs"):
            await engine.bulk("rerun", filter=" ")


async def test_runs_are_paused_and_resumed_in_bulk(engine_of: EngineOf) -> None:
    """A paused run does not continue before its pause ends; a bulk resume takes only runs that are paused."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(*(Event("wait", {"n": n}) for n in range(4)))
        paused = await engine.bulk("pause", filter="function:wait", why="a storm", until="3h")
        await engine.advance("2h")
        assert dict((await engine.bulk_operation(paused)).outcomes) == {"paused": 4}
        assert {str(run.paused["why"]) for run in engine.runs() if isinstance(run.paused, dict)} == {"a storm"}
        assert len(engine.runs(status="running")) == 4
        await engine.resume(engine.runs()[0].run_id)
        resumed = await engine.bulk("resume", filter="function:wait", why="it is over", rate=2)
        await engine.advance("10s")
        assert (await engine.bulk_operation(resumed)).outcomes == (("resumed", 3),)
        assert len(engine.runs(status="completed")) == 4
        with pytest.raises(InvalidInput, match="there is no run to resume"):
            await engine.bulk("resume", filter="function:wait")


async def test_a_bulk_pause_ends_at_its_time(engine_of: EngineOf) -> None:
    """Each run continues when its pause ends."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(Event("wait"), Event("wait"))
        await engine.bulk("pause", ids=[run.run_id for run in engine.runs()], until="2h")
        await engine.advance("119m")
        assert len(engine.runs(status="running")) == 2
        await engine.advance("1m")
        assert len(engine.runs(status="completed")) == 2


async def test_a_request_that_becomes_a_dead_letter_is_counted(
    engine_of: EngineOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operation ends, and names the run that it could not cancel, and why; the other runs are cancelled."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(*(Event("wait", {"n": n}) for n in range(4)))
        broken = engine.runs()[1].run_id

        def failing(view: View, record: Input, now: int, **place: Any) -> Changes:
            if isinstance(record, CancelRequested) and record.run_id == broken:
                raise ValueError("a bug")
            return transition(view, record, now, **place)

        monkeypatch.setattr(loop, "transition", failing)
        operation = await engine.bulk("cancel", filter="function:wait")
        await engine.advance("1s")
        done = await engine.bulk_operation(operation)
        assert (done.state, dict(done.outcomes)) == (BulkState.COMPLETED, {"cancelled": 3, "failed": 1})
        assert done.failures == (BulkFailure(broken, "ValueError: a bug"),)
        assert [run.run_id for run in engine.runs(status="running")] == [broken]
