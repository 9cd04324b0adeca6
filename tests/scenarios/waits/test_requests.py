"""A run that waits for requests: each is taken once, its data fits the schema, and its sender gets the reply."""

from dataclasses import dataclass

import pydantic
import pytest

from stepstream import App, Context, Event, Request, StepError, StepUsageError, ThreadedContext, on
from stepstream.contract.errors import Conflict, InvalidInput, NotJson
from stepstream.contract.operators.run_requests import request_signal
from stepstream.testing import Crash
from tests.scenarios.conftest import EngineOf


class Odd:
    """A type that pydantic does not know."""


class Change(pydantic.BaseModel):
    """What a sender asks for."""

    amount: int = pydantic.Field(gt=0)


@dataclass
class Total:
    """The reply, as a dataclass."""

    total: int


def counter_app() -> App:
    """Return an app whose function adds what requests say, and replies with the sum."""
    app = App("counter")

    @app.function(on("open"))
    async def count(ctx: Context) -> int:
        total = 0
        while request := await ctx.step.wait_for_request("add", schema=Change, timeout="1h"):
            assert isinstance(request, Request)
            total += request.data.amount
            await request.reply(Total(total))
        return total

    return app


@pytest.mark.log
async def test_each_request_is_taken_once_and_has_its_reply(engine_of: EngineOf) -> None:
    """A request that is sent again gets the same reply, and changes nothing; after the timeout the code continues."""
    async with engine_of(counter_app()) as engine:
        await engine.send(Event("open"))
        id = engine.run().run_id
        assert await engine.request(id, "add", Change(amount=2), request_id="a", by="ann") == {"total": 2}
        assert await engine.request(id, "add", {"amount": 3}) == {"total": 5}
        assert await engine.request(id, "add", {"amount": 2}, request_id="a") == {"total": 2}
        taken = [step.output for step in engine.run().steps if step.id == "add" and isinstance(step.output, dict)]
        assert [(each["id"] == "a", each["by"]) for each in taken] == [(True, "ann"), (False, "tester")]
        await engine.advance("1h")
        assert (engine.run().status, engine.run().output) == ("completed", 5)
        with pytest.raises(Conflict, match="the run has ended"):
            await engine.request(id, "add", {"amount": 1})
        assert await engine.request(id, "add", {"amount": 2}, request_id="a") == {"total": 2}


@pytest.mark.parametrize("data", [None, {}, {"amount": 0}, {"amount": "1"}])
async def test_data_that_does_not_fit_is_refused(engine_of: EngineOf, data: object) -> None:
    """The sender gets the error, and the step still waits."""
    async with engine_of(counter_app()) as engine:
        await engine.send(Event("open"))
        id = engine.run().run_id
        with pytest.raises(InvalidInput, match="data"):
            await engine.request(id, "add", data)
        assert await engine.request(id, "add", {"amount": 1}) == {"total": 1}


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_around_the_reply_loses_and_repeats_nothing(engine_of: EngineOf, when: str) -> None:
    """A worker dies while its reply is being written: the request is not taken again, and the sender gets one reply."""
    crash = Crash("worker", when, "add/reply/a")  # type: ignore[arg-type]  # The parameters are of text.
    async with engine_of(counter_app(), crashes=[crash]) as engine:
        await engine.send(Event("open"))
        id = engine.run().run_id
        assert await engine.request(id, "add", {"amount": 2}, request_id="a") == {"total": 2}
        assert await engine.request(id, "add", {"amount": 2}, request_id="a") == {"total": 2}
        assert await engine.request(id, "add", {"amount": 1}) == {"total": 3}


async def test_a_run_that_does_not_wait_takes_no_request(engine_of: EngineOf) -> None:
    """The sender gets a conflict, and what was not taken is not kept; an unknown run has no requests."""
    app = App("slow")

    @app.function(on("open"))
    async def slow(ctx: Context) -> object:
        await ctx.step.sleep("first", "1h")
        found = []
        for _ in range(2):
            request = await ctx.step.wait_for_request("ask", timeout="1h")
            found.append(request and request.data)
            await ctx.step.sleep("work", "1m" if len(found) == 1 else 0)
        return found

    async with engine_of(app) as engine:
        await engine.send(Event("open"))
        id = engine.run().run_id
        with pytest.raises(Conflict, match="no step of the run waits for it"):
            await engine.request(id, "ask", 1)
        await engine.advance("1h")
        with pytest.raises(LookupError, match="has no reply"):
            await engine.request(id, "ask", [2])
        await engine.advance("1m")
        with pytest.raises(Conflict, match="without a reply"):
            await engine.request(id, "ask", [2], request_id="b")
        assert engine.run().output == [[2], [2]]
        with pytest.raises(LookupError, match="there is no run"):
            await engine.request("01ARZ3NDEKTSV4RRFFQ69G5FAV", "ask")


async def test_a_plain_function_replies_and_blocks(engine_of: EngineOf) -> None:
    """A plain function waits for requests too; without a schema the data is any JSON."""
    app = App("plain")

    @app.function(on("open"))
    def echo(ctx: ThreadedContext) -> str:
        request = ctx.step.wait_for_request("echo", timeout="1h")
        assert request is not None
        request.reply({"echo": request.data})
        return request.by

    async with engine_of(app) as engine:
        await engine.send(Event("open"))
        assert await engine.request(engine.run().run_id, "echo", [1, None]) == {"echo": [1, None]}
        assert engine.run().output == "tester"


async def test_other_signals_and_second_replies_are_errors(engine_of: EngineOf) -> None:
    """A signal without a request fails the step with a code; a request has one reply, which is JSON."""
    app = App("wrong")

    @app.function(on("open"))
    async def wrong(ctx: Context) -> object:
        try:
            await ctx.step.wait_for_request("first", timeout="1h")
        except StepError as error:
            code = error.code
        request = await ctx.step.wait_for_request("second", schema=int, timeout="1h")
        assert request is not None
        with pytest.raises(NotJson, match="reply of step 'second'"):
            request.reply({1})
        await request.reply(request.data + 1)
        with pytest.raises(StepUsageError, match="has a reply already"):
            request.reply(0)
        return code

    async with engine_of(app) as engine:
        await engine.send(Event("open"))
        run = engine.run()
        assert await engine.signal(request_signal(run.run_id, run.steps[0].step), "hello")
        assert await engine.request(run.run_id, "second", 41) == 42
        assert engine.run().output == "invalid-request"


async def test_names_and_schemas_are_checked_in_the_code(engine_of: EngineOf) -> None:
    """A long name and a type without a schema are refused where the step is called."""
    app = App("wrong")

    @app.function(on("open"))
    async def wrong(ctx: Context) -> str:
        with pytest.raises(InvalidInput, match="at most 256 characters"):
            ctx.step.wait_for_request("x" * 257, timeout="1h")
        with pytest.raises(StepUsageError, match="has no JSON schema"):
            ctx.step.wait_for_request("ask", schema=Odd, timeout="1h")
        return "ok"

    async with engine_of(app) as engine:
        await engine.send(Event("open"))
        assert engine.run().output == "ok"
