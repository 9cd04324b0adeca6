"""The endpoints that only test suites ask, and what else they expect of runs and events."""

from collections.abc import AsyncIterator

import pytest

from stepstream import App, Context, RetryAfterError, on
from stepstream.gateway.rest.parts import RestOptions
from stepstream.gateway.wire.calls import function_uuid
from stepstream.gateway.wire.signing import SigningKey
from tests.gateway.rest.sites import SdkClient, running

app = App("shop")
NAP = {"fnId": function_uuid("shop-nap")}
EVENTS = """query ($names: [String!], $internal: Boolean) {
    eventsV2(filter: {eventNames: $names, includeInternalEvents: $internal}) {
        edges { node { id name raw } } totalCount
    }
}"""


@app.function(on("nap"), id="shop-nap")
async def nap(ctx: Context) -> None:
    """Sleep for an hour."""
    await ctx.step.sleep("nap", "1h")


@app.function(on("go"), id="shop-go")
async def work(_ctx: Context) -> int:
    """Return."""
    return 1


@app.function(on("later"), id="shop-later")
async def later(_ctx: Context) -> None:
    """Do not run yet."""
    raise RetryAfterError("later", "1h")


@pytest.fixture
async def client() -> AsyncIterator[SdkClient]:
    """A client of a server in dev mode."""
    async with running(app) as made:
        yield made


async def queue_size(client: SdkClient) -> int:
    """Return how many runs of a function are open."""
    answer = await client.http.get("/test/queue/function-queue-size", params=NAP)
    count: int = answer.json()["count"]
    return count


async def test_suites_cancel_all_runs(client: SdkClient) -> None:
    """One run of them, or all that are open."""
    await client.send({"name": "nap"}, {"name": "nap"}, {"name": "nap"}, {"name": "go"})
    assert await queue_size(client) == 3
    run_id = client.engine.runs("shop-nap")[0].run_id
    cancelled = await client.http.post("/test/function/runs/cancel", params={**NAP, "runId": run_id})
    assert cancelled.json() == {"ok": True}
    await client.engine.until_idle()
    assert await queue_size(client) == 2
    assert (await client.http.post("/test/reset")).json() == {"cancelled": 2}
    await client.engine.until_idle()
    assert await queue_size(client) == 0
    assert {run.status for run in client.engine.runs("shop-nap")} == {"cancelled"}


async def test_suites_pause_a_function(client: SdkClient) -> None:
    """Its events start nothing until it is resumed."""
    assert (await client.http.post("/test/function/pause", params=NAP)).status_code == 200
    await client.send({"name": "nap"})
    assert [run.steps for run in map(client.engine.run, ["shop-nap"])] == [()]
    unknown = await client.http.post("/test/function/pause", params={"fnId": function_uuid("shop-other")})
    assert unknown.status_code == 404


async def test_suites_are_served_in_dev_mode_only() -> None:
    """A server in the cloud has none of these endpoints."""
    key = SigningKey("signkey-test-0011")
    headers = {"Authorization": f"Bearer {key.bearer}"}
    async with running(app, RestOptions(kind="cloud", signing_keys=[key])) as client:  # type: ignore[arg-type]
        assert (await client.http.post("/test/reset", headers=headers)).status_code == 404


async def test_events_about_the_end_of_runs_are_listed(client: SdkClient) -> None:
    """Only if a query asks for internal events, also if they started nothing."""
    await client.send({"name": "go"})
    run_id = client.engine.run().run_id

    async def listed(*names: str, internal: bool = True) -> list[tuple[str, str]]:
        found = (await client.ask(EVENTS, names=names, internal=internal))["eventsV2"]
        assert found["totalCount"] == len(found["edges"])
        return [(edge["node"]["name"], edge["node"]["raw"]) for edge in found["edges"]]

    (name, raw), _ = sorted(await listed("go", "inngest/function.finished"), reverse=True)
    assert (name, f'"run_id":"{run_id}"' in raw, '"function_id":"shop-go"' in raw) == (
        "inngest/function.finished",
        True,
        True,
    )
    assert await listed("inngest/function.failed", "inngest/function.cancelled") == []
    assert [name for name, _ in await listed("go", "inngest/function.finished", internal=False)] == ["go"]


async def test_a_run_that_waits_for_a_worker_is_queued() -> None:
    """Until its code has run; a later call that waits leaves it running."""
    waiting: list[str] = []
    query = "query ($id: String!) { run(runID: $id) { status } }"
    async with running(app, waits=waiting.__contains__) as client:
        await client.send({"name": "later"})
        run_id = client.engine.run().run_id
        assert (await client.ask(query, id=run_id))["run"]["status"] == "RUNNING"
        waiting.append(run_id)
        assert (await client.ask(query, id=run_id))["run"]["status"] == "QUEUED"
