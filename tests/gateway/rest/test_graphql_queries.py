"""GraphQL as the test suites of the SDKs ask it: runs, traces, outputs of steps, and events."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from graphql import GraphQLError

from stepstream import App, Context, NonRetriableError, on
from stepstream.contract.errors import InvalidInput
from stepstream.gateway.rest import run_routes
from stepstream.gateway.rest.graphql_limits import check_cost, parse_query
from stepstream.gateway.sync.sync_failures import SyncFailures
from tests.gateway.rest.sites import SdkClient, running

app = App("shop")
attempts: list[int] = []


@app.function(on("order"), id="shop-order")
async def order(ctx: Context) -> Any:
    """Have a step twice under one id, a step that is retried, and waits."""
    first = await ctx.step.run("step", lambda: {"n": 1})
    second = await ctx.step.run("step", lambda: [2])
    third = await ctx.step.run("flaky", flaky)
    await ctx.step.sleep("nap", "1h")
    reply = await ctx.step.wait_for_event("reply", event="reply", timeout="1h")
    return [first, second, third, reply]


def flaky() -> str:
    """Fail at the first attempt."""
    attempts.append(1)
    if len(attempts) == 1:
        raise ValueError("first")
    return "third"


@app.function(on("broken"), id="shop-broken")
async def broken(ctx: Context) -> None:
    """Fail in a step."""
    await ctx.step.run("bad", refuse)


def refuse() -> None:
    """Fail for good."""
    raise NonRetriableError("no use")


@pytest.fixture
async def client() -> AsyncIterator[SdkClient]:
    """A client of a server in dev mode."""
    attempts.clear()
    async with running(app) as made:
        yield made


RUN = "query ($id: String!) { run(runID: $id) { output status } runTrigger(runID: $id) { payloads } }"
STEPS = "query ($id: String!) { run(runID: $id) { trace { childrenSpans { name outputID } } } }"
OUTPUT = "query ($id: String!) { runTraceSpanOutputByID(outputID: $id) { data error { message name stack } } }"
RUNS_OF_EVENT = "query ($id: ID!) { event(query: {eventId: $id}) { functionRuns { id } } }"


async def outputs(client: SdkClient, run_id: str) -> list[tuple[str, Any]]:
    """Return the name and the output of each step, null while it has none."""
    found = []
    for span in (await client.ask(STEPS, id=run_id))["run"]["trace"]["childrenSpans"]:
        output = {"data": None}
        if span["outputID"]:
            output = (await client.ask(OUTPUT, id=span["outputID"]))["runTraceSpanOutputByID"]
        found.append((span["name"], output["data"] and json.loads(output["data"])))
    return found


async def test_a_run_is_followed_from_its_event_to_its_output(client: SdkClient) -> None:
    """The queries of the Python suite; JSON values are texts."""
    (event_id,) = await client.send({"name": "order", "data": {"n": 1}})
    (run,) = (await client.ask(RUNS_OF_EVENT, id=event_id))["event"]["functionRuns"]
    found = await client.ask(RUN, id=run["id"])
    assert found["run"] == {"output": None, "status": "RUNNING"}
    (payload,) = map(json.loads, found["runTrigger"]["payloads"])
    assert (payload["id"], payload["name"], payload["data"]) == (event_id, "order", {"n": 1})
    await client.engine.advance("3h")
    found = await client.ask(RUN, id=run["id"])
    assert (found["run"]["status"], json.loads(found["run"]["output"])) == ("COMPLETED", [{"n": 1}, [2], "third", None])


async def test_the_trace_has_one_child_for_each_step(client: SdkClient) -> None:
    """They are in the order of execution, under their ids; an open step has no output."""
    await client.send({"name": "order"})
    await client.engine.advance("2m")
    run_id = client.engine.run().run_id
    steps = [("step", {"n": 1}), ("step", [2]), ("flaky", "third"), ("nap", None)]
    assert await outputs(client, run_id) == steps
    await client.engine.advance("1h")
    (reply_id,) = await client.send({"name": "reply", "data": {"ok": True}})
    assert (await client.ask(RUNS_OF_EVENT, id=reply_id))["event"]["functionRuns"] == []
    (*rest, (name, reply)) = await outputs(client, run_id)
    assert (rest, name, reply["name"], reply["data"]) == (steps, "reply", "reply", {"ok": True})


async def test_attempts_are_children_of_their_step(client: SdkClient) -> None:
    """A step that was retried is one child of the run, with a child for each attempt."""
    await client.send({"name": "order"})
    query = """query ($id: String!) { run(runID: $id) { trace(preview: true) { ...Fields stepID
        childrenSpans { ...Fields childrenSpans { ...Fields } } } } }
        fragment Fields on RunTraceSpan { name status stepOp attempts metadata { scope kind values updatedAt } }"""

    async def flaky_span() -> Any:
        root = (await client.ask(query, id=client.engine.run().run_id))["run"]["trace"]
        assert (root["status"], root["stepID"], root["name"]) == ("RUNNING", None, "shop-order")
        (found,) = (span for span in root["childrenSpans"] if span["name"] == "flaky")
        states = [(span["name"], span["status"]) for span in found["childrenSpans"]]
        return found["status"], found["stepOp"], found["attempts"], states

    assert await flaky_span() == ("RUNNING", "RUN", 0, [("Attempt 0", "FAILED")])
    await client.engine.advance("2m")
    done = [("Attempt 0", "FAILED"), ("Attempt 1", "COMPLETED")]
    assert await flaky_span() == ("COMPLETED", "RUN", 1, done)


async def test_the_errors_of_steps_and_runs_are_outputs(client: SdkClient) -> None:
    """The TypeScript suite reads the output of a run through its trace; that of a failed run is the error."""
    await client.send({"name": "broken"})
    run_id = client.engine.run().run_id
    query = "query ($runId: String!) { run(runID: $runId) { status output trace(preview: true) { status outputID } } }"
    run = (await client.ask(query, runId=run_id))["run"]
    assert (run["status"], run["trace"]["status"], json.loads(run["output"])["message"]) == (
        "FAILED",
        "FAILED",
        "no use",
    )
    (step,) = (await client.ask(STEPS, id=run_id))["run"]["trace"]["childrenSpans"]
    for id in (run["trace"]["outputID"], step["outputID"]):
        output = (await client.ask(OUTPUT, id=id))["runTraceSpanOutputByID"]
        assert (output["data"], output["error"]["message"], output["error"]["name"]) == (
            None,
            "no use",
            "NonRetriableError",
        )


async def test_events_are_found_by_their_ulid(client: SdkClient) -> None:
    """The TypeScript suite names the type ULID, and reads the own id as the key of idempotency."""
    (own, other) = await client.send({"name": "x", "id": "mine", "data": {"n": 1}}, {"name": "y"})
    query = "query Event($id: ULID!) { eventV2(id: $id) { idempotencyKey name raw runs { id } } }"
    event = (await client.ask(query, id=own))["eventV2"]
    assert (event["idempotencyKey"], event["name"], event["runs"]) == ("mine", "x", [])
    assert json.loads(event["raw"])["data"] == {"n": 1}
    assert (await client.ask(query, id=other))["eventV2"]["idempotencyKey"] == other
    answer = (await client.http.post("/v0/gql", json={"query": query, "variables": {"id": "unknown"}})).json()
    assert (answer["data"]["eventV2"], answer["errors"][0]["message"]) == (None, "there is no event 'unknown'")
    listed = await client.ask("{ eventsV2(first: 5) { edges { node { id runs { id } } } totalCount } }")
    assert [edge["node"]["id"] for edge in listed["eventsV2"]["edges"]] == [other, own]


async def test_the_latest_events_are_listed_with_their_runs(client: SdkClient) -> None:
    """The older TypeScript suite looks in a list for its event, and for a run of the function by its name."""
    (id,) = await client.send({"name": "broken", "data": {"n": 1}})
    query = """query { events(query: {}) { id name payload }
        stream(query: {limit: 999, includeInternalEvents: false}) { id trigger runs { id function { name } } } }"""
    found = await client.ask(query)
    assert found["events"] == [{"id": id, "name": "broken", "payload": '{"n":1}'}]
    (item,) = found["stream"]
    assert (item["id"], item["trigger"], item["runs"][0]["function"]["name"]) == (id, "broken", "broken")
    timeline = (
        "query ($id: String!) { run(runID: $id) { trace { stepType status childrenSpans { stepType attempts } } } }"
    )
    trace = (await client.ask(timeline, id=item["runs"][0]["id"]))["run"]["trace"]
    assert (trace["stepType"], trace["status"]) == ("FINALIZATION", "FAILED")
    assert trace["childrenSpans"] == [{"stepType": "RUN", "attempts": 0}]


async def test_runs_are_listed_in_pages(client: SdkClient) -> None:
    """The Go suites filter by status and time, and follow the cursor."""
    await client.send(*({"name": "broken"} for _ in range(3)))
    query = """query ($after: String, $from: Time!, $status: [FunctionRunStatus!]) {
        runs(first: 2, after: $after, filter: {from: $from, status: $status},
            orderBy: [{field: QUEUED_AT, direction: DESC}]) {
                edges { cursor node { id status output function { slug app { name } } } }
                pageInfo { hasNextPage endCursor }
                totalCount
        } }"""
    asked = {"from": "2025-01-01T00:00:00Z", "status": ["FAILED"]}
    first = (await client.ask(query, **asked))["runs"]
    assert (len(first["edges"]), first["pageInfo"]["hasNextPage"], first["totalCount"]) == (2, True, 3)
    node = first["edges"][0]["node"]
    assert (node["status"], node["function"]["slug"], node["function"]["app"]["name"]) == (
        "FAILED",
        "shop-broken",
        "shop",
    )
    second = (await client.ask(query, **asked, after=first["pageInfo"]["endCursor"]))["runs"]
    assert (len(second["edges"]), second["pageInfo"]["hasNextPage"]) == (1, False)
    assert (await client.ask(query, **{**asked, "status": ["CANCELLED"]}))["runs"]["edges"] == []


async def test_functions_and_apps_are_listed(client: SdkClient) -> None:
    """Each app has its functions, and each function its app."""
    found = await client.ask("{ functions { slug triggers { type value } app { name } } apps { name functionCount } }")
    (shown,) = (each for each in found["functions"] if each["slug"] == "shop-order")
    assert shown == {
        "slug": "shop-order",
        "triggers": [{"type": "EVENT", "value": "order"}],
        "app": {"name": "shop"},
    }
    assert found["apps"] == [{"name": "shop", "functionCount": 2}]


async def test_apps_say_what_is_wrong_with_their_registration() -> None:
    """One that never registered has no functions; the others keep theirs."""
    failures = SyncFailures()
    for name in ("shop", "new"):
        failures.failed(InvalidInput(f"{name} is wrong"), name, f"http://{name}/api/inngest")
    async with running(app, failures=failures) as client:
        found = await client.ask("{ apps { name functionCount url connected error } }")
        failures.registered("shop", "http://shop/api/inngest")
        after = await client.ask("{ apps { name connected error } }")
    wrong = {"connected": False, "error": "new is wrong", "url": "http://new/api/inngest", "functionCount": 0}
    assert found["apps"][1] == {"name": "new"} | wrong
    assert (found["apps"][0]["functionCount"], found["apps"][0]["error"]) == (2, "shop is wrong")
    assert after["apps"][0] == {"name": "shop", "connected": True, "error": None}


async def test_a_mutation_invokes_or_cancels(client: SdkClient) -> None:
    """The names of the arguments are those of the reference."""
    await client.ask('mutation { invokeFunction(functionSlug: "shop-order", data: {n: 1}) }')
    await client.engine.until_idle()
    run_id = client.engine.run().run_id
    await client.ask("mutation ($id: ULID!) { cancelRun(runID: $id) { id } }", id=run_id)
    await client.engine.until_idle()
    assert (
        await client.ask("query ($id: ID!) { functionRun(query: {functionRunId: $id}) { status } }", id=run_id)
    ) == {"functionRun": {"status": "CANCELLED"}}


SPREADS = " ".join(f"fragment f{n} on App {{ ...f{n + 1} ...f{n + 1} }}" for n in range(15))


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("{events{functionRuns{event{functionRuns{event{functionRuns{id}}}}}}}", "nest fewer lists"),
        (f"{{apps{{...f0}}}} {SPREADS} fragment f15 on App {{name}}", "nest fewer lists"),
        ("{apps{...f}} fragment f on App {functions{app{...f}}}", "20 levels"),
        ("{" + "apps{id}" * 400 + "}", "1000 tokens"),
        ("{" * 900, "Syntax Error"),
        ("{apps{id}}" + " " * 20_000, "at most 16,384"),
    ],
)
async def test_costly_queries_are_refused(
    client: SdkClient, query: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever its size, a query costs little; one that is refused is not logged."""
    answer = await client.http.post("/v0/gql", json={"query": query})
    assert reason in answer.json()["errors"][0]["message"]
    assert "data" not in answer.json()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_cost_grows_with_the_functions_of_an_app() -> None:
    """Functions list their app, and apps their functions: with ten, each level multiplies the answer by ten."""
    nested = parse_query(None, {"query": "{functions{app{functions{app{functions{app{functions{id}}}}}}}}"})
    check_cost(nested, {"functions": 2})
    with pytest.raises(GraphQLError, match="fields, at most 10,000: nest fewer lists"):
        check_cost(nested, {"functions": 10})


async def test_failures_of_queries_are_logged_without_the_query(
    client: SdkClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gets no internals, and the log no text of clients."""
    monkeypatch.setattr("stepstream.gateway.rest.graphql_api.app_fields", lambda *_: 1 / 0)
    answer = await client.http.post("/v0/gql", json={"query": "{ mine: apps { externalID } }"})
    assert "see its log" in answer.json()["errors"][0]["message"]
    assert "a field of a GraphQL query failed: ['mine']" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "externalID" not in caplog.text


async def test_invalid_queries_are_answered_with_errors(client: SdkClient) -> None:
    """Errors have status 200, as GraphQL over HTTP has them; an unknown run is null."""
    bodies: list[Any] = [{"query": "{ nothing }"}, {"query": "{"}, {}, []]
    for body in bodies:
        answer = await client.http.post("/v0/gql", json=body)
        assert answer.status_code == 200
        assert answer.json()["errors"][0]["message"]
    assert (await client.ask(STEPS, id="unknown"))["run"] is None
    assert (await client.http.post("/v0/gql", content=b"{")).status_code == 400


async def test_a_run_that_is_not_listed_yet_is_waited_for(client: SdkClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function knows the id of its run before the read model has the run, and suites fail when there is none."""
    await client.send({"name": "broken"})
    run_id, index = client.engine.run().run_id, client.engine.index
    known, asked = index.queries.show, []

    async def late(id: str) -> Any:
        asked.append(id)
        if len(asked) == 1:
            index.changes.add([id])
            return None
        return await known(id)

    monkeypatch.setattr(index.queries, "show", late)
    assert (await client.ask(RUN, id=run_id))["run"]["status"] == "FAILED"
    monkeypatch.setattr(run_routes, "SHOWN_S_MAX", 0.0)
    assert (await client.ask(STEPS, id="0" * 26))["run"] is None
