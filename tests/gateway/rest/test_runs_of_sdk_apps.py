"""Runs whose code is in an app with an SDK, as the test suite of the SDK reads them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from stepstream.contract.outcomes import Failure
from stepstream.gateway.rest.parts import RestOptions
from tests.gateway.rest.sites import SdkClient, running
from tests.gateway.runs.endpoint import FakeEndpoint, Scripted, app_of, hashed, op, ops, ran, registered, returned

ERROR = {"code": "unknown", "message": "boom", "name": "ValueError", "stack": None, "cause": {"message": "deep"}}
RUN = "query ($id: String!) { run(runID: $id) { output status trace { outputID childrenSpans { name outputID } } } }"
OUTPUT = "query ($id: String!) { runTraceSpanOutputByID(outputID: $id) { data error { message name stack cause } } }"


@asynccontextmanager
async def served(*answers: Scripted, **steps: Any) -> AsyncIterator[SdkClient]:
    """Run an engine whose functions are scripts of answers."""
    async with running(app_of(FakeEndpoint(*answers, **steps), registered(retries=0)), RestOptions()) as client:
        yield client


async def ask(client: SdkClient) -> Any:
    """Send the event, and return the run with its trace."""
    await client.send({"name": "demo/go", "data": {"n": 1}})
    return (await client.ask(RUN, id=client.engine.run().run_id))["run"]


async def output(client: SdkClient, id: str) -> Any:
    """Return the output of a span."""
    return (await client.ask(OUTPUT, id=id))["runTraceSpanOutputByID"]


async def test_the_output_of_a_failed_run_is_the_error_object_of_the_sdk() -> None:
    """Suites compare the whole object, with fields that only their SDK knows."""
    async with served(Scripted(500, ERROR)) as client:
        run = await ask(client)
        assert (run["status"], json.loads(run["output"])) == ("FAILED", ERROR)
        shown = (await client.http.get(f"/v1/runs/{client.engine.run().run_id}")).json()["data"]
        assert shown["output"] == ERROR
        found = await output(client, run["trace"]["outputID"])
        assert found["error"] == {"message": "boom", "name": "ValueError", "stack": None, "cause": {"message": "deep"}}


async def test_the_error_object_of_a_step_is_its_output() -> None:
    """A step that failed for good has the error, and a run that is repeated takes over the whole object."""
    async with served(ops(op("StepFailed", "bad", error=ERROR)), returned("caught")) as client:
        run = await ask(client)
        assert (run["status"], run["output"]) == ("COMPLETED", '"caught"')
        (span,) = run["trace"]["childrenSpans"]
        assert (await output(client, span["outputID"]))["error"]["cause"] == {"message": "deep"}
        recorded = await client.engine.index.queries.recorded(client.engine.run().run_id)
        assert recorded is not None
        (memo,) = recorded.memos
        assert isinstance(memo.outcome, Failure)
        assert json.loads(bytes(memo.outcome.raw)) == ERROR


async def test_steps_are_found_by_their_display_names() -> None:
    """Two steps with one name are in the order of their execution; each has its output."""
    second = {**ran("foo", 1), "id": hashed("foo:1")}
    async with served(ops(ran("foo", 0)), ops(second), returned([0, 1])) as client:
        run = await ask(client)
        spans = run["trace"]["childrenSpans"]
        assert [span["name"] for span in spans] == ["foo", "foo"]
        assert [(await output(client, span["outputID"]))["data"] for span in spans] == ["0", "1"]


async def test_dev_lists_the_url_of_each_function() -> None:
    """The older TypeScript suite looks for the function by its name and URL."""
    async with served() as client:
        (function,) = (await client.http.get("/dev")).json()["functions"]
    url = "http://app.test/api/inngest?fnId=demo-f&stepId=step"
    assert (function["name"], function["steps"]) == ("f", [{"id": "step", "name": "step", "uri": url}])
    assert function["triggers"] == [{"event": "demo/go"}]


async def test_a_function_has_the_name_that_its_app_gives_it() -> None:
    """People read it beside the id, in REST, in GraphQL and on our page."""
    function = registered("demo-place-order", name="Place an order")
    query = "{ functions { name slug } runs { edges { node { function { name } } } } }"
    async with running(app_of(FakeEndpoint(returned()), function), RestOptions()) as client:
        await client.send({"name": "demo/go"})
        (listed,) = (await client.http.get("/v1/apps/demo/functions")).json()
        assert (listed["name"], listed["slug"]) == ("Place an order", "demo-place-order")
        found = await client.ask(query)
        assert found["functions"] == [{"name": "Place an order", "slug": "demo-place-order"}]
        assert found["runs"]["edges"][0]["node"]["function"]["name"] == "Place an order"
        assert "Place an order" in (await client.http.get("/ui/function?id=demo-place-order")).text


async def test_an_invoked_function_gets_the_fields_of_the_request() -> None:
    """The name, the id and the time are those of the server, and so is the key `_inngest`."""
    endpoint, body = FakeEndpoint(returned(), returned()), {"v": "2", "meta": {"sessions": {"s": "1"}}}
    async with running(app_of(endpoint), RestOptions()) as client:
        sent = {**body, "name": "demo/go", "id": "mine:2", "ts": 1, "data": {"n": 1, "_inngest": {"x": 1}}, "other": 1}
        made = await client.http.post("/invoke/demo-f", json=sent | {"user": {"id": 7}})
        await client.ask('mutation { invokeFunction(functionSlug: "demo-f", data: {n: 2}, user: {id: 8}) }')
        await client.engine.until_idle()
    first, second = (each.body["event"] for each in endpoint.asked)
    assert (endpoint.asked[0].body["ctx"]["run_id"], first["name"]) == (made.json()["id"], "inngest/function.invoked")
    assert (first["user"], first["v"], first["meta"]) == ({"id": 7}, "2", {"sessions": {"s": "1"}})
    assert first["data"].pop("_inngest") == {"fn_id": "demo-f", "correlation_id": first["id"].replace(":", ".")}
    assert (first["data"], second["data"]["n"], second["user"]) == ({"n": 1}, 2, {"id": 8})
    assert first["id"] != "mine:2"
    assert first["ts"] > 1


async def test_a_step_has_the_name_that_code_in_go_gives_it() -> None:
    """The SDK for Go writes the id of the code in `userland`, and the name for people in `name`."""
    wait = op("WaitForEvent", "wait", name="order paid", opts={"event": "demo/paid", "timeout": "1h"})
    async with served(ops({**wait, "displayName": None, "userland": {"id": "wait"}})) as client:
        (span,) = (await ask(client))["trace"]["childrenSpans"]
        assert span["name"] == "order paid"
