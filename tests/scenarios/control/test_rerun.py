"""An ended run is rerun: from its start, from a step, or from what failed, and once for each request."""

from collections import Counter
from typing import Any

import pytest

from stepstream import App, Context, Event, StepError, on
from stepstream.contract.errors import Conflict, InvalidInput
from stepstream.contract.ids import step_hash
from tests.scenarios.conftest import EngineOf


class Shop:
    """An app with one function of three steps, whose bodies are counted; `broken` is the step that fails."""

    def __init__(self) -> None:
        self.app = App("rerun")
        self.ran: Counter[str] = Counter()
        self.broken = ""

        @self.app.function(on("order"), retries=0)
        async def fulfil(ctx: Context) -> object:
            picked = await ctx.step.run("pick", self.body, "pick", ctx.event.data["n"])
            await ctx.step.sleep("cool off", "1m")
            charged = await ctx.step.run("charge", self.body, "charge", picked)
            return await ctx.step.run("ship", self.body, "ship", charged)

    def body(self, step: str, value: Any) -> str:
        """Run the body of a step."""
        self.ran[step] += 1
        if step == self.broken:
            raise ValueError("broken")
        return f"{value}-{step}"


async def test_a_rerun_repeats_all_steps_under_a_new_id(engine_of: EngineOf) -> None:
    """A rerun from the start runs every body again with the same event, or with other data."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(Event("order", {"n": 1}))
        await engine.advance("1m")
        first = engine.run()
        again = await engine.rerun(first.run_id)
        other = await engine.rerun(first.run_id, data={"n": 2})
        await engine.advance("1m")
        by_id = {run.run_id: run for run in engine.runs()}
        assert [by_id[run_id].output for run_id in (again, other)] == ["1-pick-charge-ship", "2-pick-charge-ship"]
        assert by_id[again].origin == first.run_id != again
        assert set(by_id[first.run_id].reruns) == {again, other}
    assert shop.ran == {"pick": 3, "charge": 3, "ship": 3}


@pytest.mark.log
async def test_a_rerun_from_a_step_copies_results_before_it(engine_of: EngineOf) -> None:
    """Only the step and what follows run again; an earlier result may be replaced, and gives the step other input."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(Event("order", {"n": 1}))
        await engine.advance("1m")
        first = engine.run().run_id
        again = await engine.rerun(first, from_step="charge", results={"pick": "by hand"})
        run = next(run for run in engine.runs() if run.run_id == again)
        assert run.output == "by hand-charge-ship"
        assert [(step.id, step.copied) for step in run.steps] == [
            ("pick", True),
            ("cool off", True),
            ("charge", False),
            ("ship", False),
        ]
        assert isinstance(run.rerun, dict)
        assert run.rerun == {"origin": first, "step": "charge", "by": "test", "edited_steps": [step_hash("pick", 0)]}
        # What a rerun has copied is copied again.
        third = await engine.rerun(again, from_step="ship")
        assert next(run.output for run in engine.runs() if run.run_id == third) == "by hand-charge-ship"
    assert shop.ran == {"pick": 1, "charge": 2, "ship": 3}


async def test_a_rerun_from_failure_repeats_only_what_failed(engine_of: EngineOf) -> None:
    """Results before the failed step are copied, and that step runs again."""
    shop = Shop()
    shop.broken = "charge"
    async with engine_of(shop.app) as engine:
        await engine.send(Event("order", {"n": 1}))
        await engine.advance("1m")
        first = engine.run()
        assert first.status == "failed"
        shop.broken = ""
        again = await engine.rerun(first.run_id, from_failure=True)
        assert next(run.output for run in engine.runs() if run.run_id == again) == "1-pick-charge-ship"
        with pytest.raises(Conflict, match="completed"):
            await engine.rerun(again, from_failure=True)
    assert shop.ran == {"pick": 1, "charge": 2, "ship": 1}


async def test_an_error_that_the_code_handled_is_copied(engine_of: EngineOf) -> None:
    """If the code between steps failed, every result is copied, also the error of a step that the code handled."""
    app = App("rerun")
    ran: Counter[str] = Counter()
    wrong = [True]

    def fails() -> None:
        ran["fails"] += 1
        raise ValueError("no")

    def works() -> str:
        ran["works"] += 1
        return "worked"

    @app.function(on("go"), retries=0)
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.run("fails", fails)
        except StepError:
            result = await ctx.step.run("works", works)
        if wrong[0]:
            raise RuntimeError("a bug in the code between steps")
        return result

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        wrong[0] = False
        again = await engine.rerun(engine.run().run_id, from_failure=True)
        assert next(run.output for run in engine.runs() if run.run_id == again) == "worked"
    assert ran == {"fails": 1, "works": 1}


async def test_a_cancelled_run_continues_where_it_was(engine_of: EngineOf) -> None:
    """A rerun of a cancelled run from its failure copies all results, and waits again for what was open."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(Event("order", {"n": 1}))
        first = engine.run().run_id
        with pytest.raises(Conflict, match="has not ended"):
            await engine.rerun(first)
        await engine.cancel(first)
        again = await engine.rerun(first, from_failure=True)
        await engine.advance("1m")
        assert next(run.status for run in engine.runs() if run.run_id == again) == "completed"
    assert shop.ran == {"pick": 1, "charge": 1, "ship": 1}


async def test_a_repeated_request_starts_one_run(engine_of: EngineOf) -> None:
    """The same request id returns the run that the first request started."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(Event("order", {"n": 1}))
        await engine.advance("1m")
        first = engine.run().run_id
        runs = [await engine.rerun(first, request_id=request) for request in ("a", "a", "b")]
        assert (runs[0] == runs[1], runs[1] == runs[2]) == (True, False)
        assert len(engine.runs()) == 3


async def test_a_result_of_a_repeated_step_cannot_be_set(engine_of: EngineOf) -> None:
    """A result is only taken over for a step before the one from which it is rerun; unknown steps are named."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(Event("order", {"n": 1}))
        await engine.advance("1m")
        first = engine.run().run_id
        with pytest.raises(InvalidInput, match="this step runs again"):
            await engine.rerun(first, from_step="charge", results={"ship": "x"})
        with pytest.raises(InvalidInput, match="has no step 'chrage'"):
            await engine.rerun(first, from_step="chrage")
