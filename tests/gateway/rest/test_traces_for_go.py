"""GraphQL as the suites of the SDK for Go ask it: what each step of a trace is about, and events by name and time."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stepstream import App, Batch, Context, StepError, cron, on
from stepstream.contract.ids import is_run_id
from stepstream.contract.limits import HOUR_MS
from stepstream.gateway.rest.sdk_shapes import moment_of
from tests.gateway.rest.sites import SdkClient, running

app = App("shop")
QUERY = """query ($runID: String!, $preview: Boolean) {
    run(runID: $runID) {
        status batchCreatedAt cronSchedule
        trace(preview: $preview) { ...Details childrenSpans { ...Details childrenSpans { ...Details } } }
    }
}
fragment Details on RunTraceSpan {
    name spanID parentSpanID outputID stepOp duration
    stepInfo {
        __typename
        ... on InvokeStepInfo { triggeringEventID functionID timeout returnEventID runID timedOut }
        ... on SleepStepInfo { sleepUntil }
        ... on WaitForEventStepInfo { eventName expression timeout foundEventID timedOut }
        ... on WaitForSignalStepInfo { signal timeout timedOut }
        ... on RunStepInfo { type }
    }
}"""
OUTPUT = "query ($id: String!) { runTraceSpanOutputByID(outputID: $id) { error { message } } }"
EVENTS = """query ($first: Int!, $after: String, $from: Time, $until: Time, $names: [String!]) {
    eventsV2(first: $first, after: $after, filter: {from: $from, until: $until, eventNames: $names}) {
        edges { node { id name } } totalCount pageInfo { hasNextPage endCursor }
    }
}"""


@app.function(on("callee"), id="shop-callee")
async def callee(ctx: Context) -> str:
    """Return after an hour."""
    await ctx.step.sleep("nap", "1h")
    return "called"


@app.function(on("order"), id="shop-order")
async def order(ctx: Context) -> None:
    """Have a step of each kind, and time out."""
    await ctx.step.run("body", lambda: 1)
    await ctx.step.sleep("nap", "1h")
    await ctx.step.wait_for_event("reply", event="reply", match="data.n", timeout="1h")
    await ctx.step.wait_for_signal("signal", signal="approve/1", timeout="1h")
    await ctx.step.invoke("call", function=callee, timeout="1d")
    try:
        await ctx.step.invoke("late", function=callee, timeout="1m")
    except StepError:
        await ctx.step.run("caught", lambda: 1)


@app.function(on("item"), id="shop-collect", batch=Batch(2, "1h"))
async def collect(ctx: Context) -> int:
    """Process two events in one run."""
    return len(ctx.events)


@app.function(cron("0 5 * * *", jitter="30s"), id="shop-daily")
async def daily(_ctx: Context) -> None:
    """Run once a day."""


@pytest.fixture
async def client() -> AsyncIterator[SdkClient]:
    """A client of a server in dev mode."""
    async with running(app) as made:
        yield made


async def spans_of(client: SdkClient, run_id: str) -> tuple[Any, dict[str, Any]]:
    """Return the trace of a run, and what each of its steps is about, by the names of the steps."""
    answer = await client.http.post(
        # An operation without a name, as a client in Go sends it.
        "/v0/gql",
        json={"query": QUERY, "variables": {"runID": run_id, "preview": True}, "operationName": ""},
    )
    run = answer.json()["data"]["run"]
    assert (run["batchCreatedAt"], run["cronSchedule"]) == (None, None)
    trace = run["trace"]
    assert (trace["parentSpanID"], trace["stepInfo"]) == (None, None)
    assert {span["parentSpanID"] for span in trace["childrenSpans"]} == {trace["spanID"]}
    return trace, {span["name"]: span["stepInfo"] for span in trace["childrenSpans"]}


async def test_trace_says_what_each_step_is_about(client: SdkClient) -> None:
    """The time of a sleep, the event of a wait, and the run of an invocation, also before these have ended."""
    await client.send({"name": "order", "data": {"n": 1}})
    run_id = client.engine.run().run_id
    await client.engine.advance("1h")
    trace, infos = await spans_of(client, run_id)
    assert infos["body"] == {"__typename": "RunStepInfo", "type": None}
    assert infos["nap"]["sleepUntil"].endswith("Z")
    assert [span["outputID"] is None for span in trace["childrenSpans"]] == [False, True, True]
    assert trace["childrenSpans"][1]["duration"] == HOUR_MS
    assert infos["reply"].items() >= {"eventName": "reply", "foundEventID": None, "timedOut": None}.items()
    (reply_id,) = await client.send({"name": "reply", "id": "mine", "data": {"n": 1}})
    _, infos = await spans_of(client, run_id)
    assert infos["reply"].items() >= {"foundEventID": reply_id, "timedOut": False}.items()
    assert infos["signal"].items() >= {"signal": "approve/1", "timedOut": None}.items()
    await client.engine.advance("1h")
    _, infos = await spans_of(client, run_id)
    assert infos["signal"]["timedOut"] is True
    called = infos["call"]
    assert called.items() >= {"functionID": "shop-callee", "returnEventID": None, "timedOut": None}.items()
    assert is_run_id(called["runID"])
    await client.engine.advance("2h")
    trace, infos = await spans_of(client, run_id)
    late = next(span for span in trace["childrenSpans"] if span["name"] == "late")
    error = (await client.ask(OUTPUT, id=late["outputID"]))["runTraceSpanOutputByID"]["error"]
    # As the app got it.
    assert error["message"] == "Timed out waiting for invoked function to complete"
    assert infos["call"].items() >= {"runID": called["runID"], "timedOut": False}.items()
    assert is_run_id(infos["call"]["returnEventID"])
    assert infos["late"].items() >= {"runID": None, "returnEventID": None, "timedOut": True}.items()


async def test_events_are_listed_by_names_and_times(client: SdkClient) -> None:
    """The newest first, in pages, with the number of all."""
    ids = await client.send(*({"name": name} for name in ("a", "b", "a", "c", "a")))

    async def listed(**given: Any) -> tuple[list[str], int, Any]:
        found = (await client.ask(EVENTS, **{"first": 2, "names": ["a", "b"], **given}))["eventsV2"]
        return [edge["node"]["id"] for edge in found["edges"]], found["totalCount"], found["pageInfo"]

    shown, total, page = await listed()
    assert (total, page["hasNextPage"]) == (4, True)
    rest, total, page = await listed(after=page["endCursor"])
    assert (total, page["hasNextPage"]) == (4, False)
    assert sorted(shown + rest) == sorted(id for id, name in zip(ids, "abaca", strict=True) if name != "c")
    assert await listed(until="1999-01-01T00:00:00Z") == ([], 0, {"hasNextPage": False, "endCursor": None})
    assert (await listed(**{"from": "1999-01-01T00:00:00Z"}))[1] == 4


async def test_the_text_of_an_event_has_its_fields_in_order(client: SdkClient) -> None:
    """Suites compare the whole text: empty fields are missing, except for the version."""
    (id,) = await client.send({"name": "a", "ts": 1_700_000_000_000})
    (other,) = await client.send({"name": "a", "data": {"n": 1}, "v": "2", "user": {"id": 7}})
    query = "query ($id: ULID!) { eventV2(id: $id) { raw } }"
    text = (await client.ask(query, id=id))["eventV2"]["raw"]
    assert text == f'{{"data":{{}},"id":"{id}","name":"a","ts":1700000000000,"v":null}}'
    raw = json.loads((await client.ask(query, id=other))["eventV2"]["raw"])
    assert (raw["data"], raw["v"], raw["user"]) == ({"n": 1}, "2", {"id": 7})


async def test_runs_of_a_batch_are_one_run(client: SdkClient) -> None:
    """Neither the lists of runs nor those of events have the runs whose events it took over."""
    ids = await client.send(*({"name": "item", "data": {"n": n}} for n in (1, 2)))
    (completed,) = (run.run_id for run in client.engine.runs() if run.status == "completed")
    assert await matching(client) == [completed]
    for id in ids:
        found = await client.ask("query ($id: ULID!) { eventV2(id: $id) { runs { status } } }", id=id)
        assert found["eventV2"]["runs"] == [{"status": "COMPLETED"}]


async def test_each_line_of_a_filter_is_an_expression(client: SdkClient) -> None:
    """A run matches all of them."""
    await client.send({"name": "order", "data": {"n": 1}}, {"name": "order", "data": {"n": 2}})
    assert len(await matching(client, "event.name == 'order'\n\nevent.data.n > 1")) == 1
    assert len(await matching(client, "event.name == 'order'")) == 2


async def matching(client: SdkClient, filter: str = "") -> list[str]:
    """Return the ids of the runs that match a filter."""
    query = """query ($filter: String) {
        runs(filter: {from: "2020-01-01T00:00:00Z", query: $filter}) { edges { node { id } } totalCount(preview: true) }
    }"""
    found = (await client.ask(query, filter=filter))["runs"]
    ids = [edge["node"]["id"] for edge in found["edges"]]
    assert found["totalCount"] == len(ids)
    return ids


async def test_a_run_of_cron_names_its_trigger_by_a_ulid(client: SdkClient) -> None:
    """The event of a schedule has none, and clients in Go parse the ids."""
    await client.engine.advance("1d")
    run = client.engine.run("shop-daily")
    query = "query ($id: String!) { runTrigger(runID: $id) { IDs cron payloads } }"
    trigger = (await client.ask(query, id=run.run_id))["runTrigger"]
    assert (trigger["IDs"], trigger["cron"]) == ([run.run_id], "0 5 * * *")
    (data,) = (json.loads(payload)["data"] for payload in trigger["payloads"])
    assert data["scheduledAt"].endswith("T05:00:00.000Z")
    assert (
        moment_of(data["scheduledAt"], "") < moment_of(data["fireAt"], "") < moment_of(data["scheduledAt"], "") + 30_000
    )
    assert data.keys() == {"cron", "timezone", "scheduledAt", "fireAt"}
