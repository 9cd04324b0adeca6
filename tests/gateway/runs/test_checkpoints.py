"""Checkpoints: steps that an app reports while a call is open, and functions that its code defers."""

import asyncio
import json
from typing import Any

from stepstream import Event
from stepstream.contract.history import StepEnded
from stepstream.gateway.runs.app import RemoteApp
from stepstream.gateway.wire.checkpoints import read_checkpoint
from stepstream.testing import VirtualEngine
from tests.fakes.waiting import until
from tests.gateway.runs.endpoint import (
    FakeEndpoint,
    Op,
    app_of,
    failed,
    hashed,
    op,
    ops,
    planned,
    raised,
    ran,
    registered,
    returned,
    virtual,
)

GO = Event("demo/go", {"n": 7})


def complete(data: Any) -> Op:
    """Return the op that ends a run."""
    return {"op": "RunComplete", "id": hashed("complete"), "data": data}


async def report(app: RemoteApp, run_id: str, *found: Op, generation: int | None = None) -> bool:
    """Send a checkpoint, as an app does."""
    body = {"run_id": run_id, "steps": list(found), "generation_id": generation}
    return await app.runs.checkpoint(read_checkpoint(json.dumps(body).encode()))


async def test_reported_steps_are_kept_and_no_call_follows() -> None:
    """They are durable when the report is answered, a repeat is a success, and the open call ends the run."""
    answer = asyncio.Event()
    endpoint = FakeEndpoint(ops(complete(3), after=answer))
    app = app_of(endpoint)
    async with VirtualEngine(app) as engine:
        sending = asyncio.ensure_future(engine.send(GO))
        await until(lambda: len(endpoint.asked) == 1)
        context = endpoint.asked[0].body["ctx"]
        run_id, generation = context["run_id"], endpoint.asked[0].generation
        assert await report(app, run_id, ran("a", "A"), planned("b"), generation=generation)
        assert await report(app, run_id, ran("a", "A"), ran("b", "B"), generation=generation)
        await until(lambda: [each.id for each in engine.history if isinstance(each, StepEnded)] == ["a", "b"])
        assert not await report(app, run_id, ran("c"), generation=generation + 1)
        answer.set()
        await sending
        run = engine.run("demo-f")
        assert not await report(app, run_id, ran("c"))
    assert (run.status, run.output) == ("completed", 3)
    assert endpoint.log == ["step/0"]


async def test_a_call_that_fails_after_a_checkpoint_continues_there() -> None:
    """The next call has the reported results, and its attempts count from 0 again."""
    answer = asyncio.Event()
    endpoint = FakeEndpoint(raised(), ops(failed("b"), after=answer), ops(ran("b")), returned())
    app = app_of(endpoint, registered(retries=1))
    async with VirtualEngine(app) as engine:
        await engine.send(GO)
        advancing = asyncio.ensure_future(engine.advance("1h"))
        await until(lambda: len(endpoint.asked) == 2)
        assert await report(app, endpoint.asked[1].body["ctx"]["run_id"], ran("a"))
        answer.set()
        await advancing
        assert engine.run("demo-f").status == "completed"
    assert endpoint.log == ["step/0", "step#1/0", "step#1/1", "step/2"]


async def test_deferred_functions_start_when_the_run_has_ended() -> None:
    """A defer travels with other ops and is listed in later calls; one that was aborted starts nothing."""
    defers = [op("DeferAdd", id, opts={"fn_slug": "demo-later", "input": {"v": id}}) for id in ("one", "two")]
    abort = op("DeferAbort", "abort", opts={"target_hashed_id": hashed("two")})
    endpoint = FakeEndpoint(ops(ran("a"), *defers), ops(complete(1), abort), returned())
    later = registered("demo-later", event="inngest/deferred.schedule")
    async with virtual(endpoint, registered(), later) as engine:
        await engine.send(GO)
    assert endpoint.asked[1].body["defers"] == {hashed(id): {"abortable": True} for id in ("one", "two")}
    event = endpoint.asked[2].body["event"]
    assert (event["name"], event["data"]["v"]) == ("inngest/deferred.schedule", "one")
    assert event["data"]["_inngest"]["fn_slug"] == "demo-later"
    assert len(endpoint.asked) == 3


async def test_an_app_fetches_what_a_call_had_no_room_for() -> None:
    """While a call is open, the events and the memos of its run are here."""
    answer = asyncio.Event()
    endpoint = FakeEndpoint(ops(ran("a", 1)), ops(complete(1), after=answer))
    app = app_of(endpoint)
    async with VirtualEngine(app) as engine:
        sending = asyncio.ensure_future(engine.send(GO))
        await until(lambda: len(endpoint.asked) == 2)
        run_id = endpoint.asked[0].body["ctx"]["run_id"]
        events, memos = app.runs.events(run_id), app.runs.memos(run_id)
        answer.set()
        await sending
        assert app.runs.memos(run_id) is None
    assert events is not None
    assert memos is not None
    assert events.epoch == memos.epoch
    (event,) = json.loads(events.body)
    assert (event["name"], json.loads(memos.body)) == ("demo/go", {hashed("a"): {"data": 1}})
