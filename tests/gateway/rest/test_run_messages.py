"""What subscribers to the topics `$run` and `$step` get of a run, over WebSockets of a real server."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from stepstream import App, Context, NonRetriableError, StepError, on
from stepstream.gateway.rest.realtime_routes import SOCKET_PATH
from tests.gateway.rest.sites import SdkClient, running
from tests.gateway.rest.subscribers import received, served, token

app = App("shop")


async def fail() -> None:
    """Fail for good."""
    raise NonRetriableError("sold out")


@app.function(on("go"), id="shop-go")
async def work(ctx: Context) -> dict[str, Any]:
    """Publish, and run steps before and after a wait; fail if the event says so."""
    await ctx.publish("notes", "begins")
    count = await ctx.step.run("count", lambda: 2)
    event = await ctx.step.wait_for_event("more", event="more", timeout="1h")
    await ctx.publish("notes", "continues")
    try:
        await ctx.step.run("book", fail)
    except StepError:
        if event is not None and event.data.get("is_needed"):
            raise
    return {"count": count}


@pytest.fixture
async def client() -> AsyncIterator[SdkClient]:
    """A client of a server in dev mode."""
    async with running(app) as made:
        yield made


async def test_subscribers_get_the_steps_and_the_end_of_a_run(client: SdkClient) -> None:
    """Each step with its result as it ends, and the status of the run; what the run published comes before."""
    await client.send({"name": "go"})
    run_id = client.engine.run().run_id
    jwt = await token(client, *((run_id, name) for name in ("$run", "$step", "notes")))
    async with served(client) as session, session.ws_connect(f"{SOCKET_PATH}?token={jwt}") as socket:
        begun = [await received(socket) for _ in range(3)]
        await client.send({"name": "more"})
        ended = [await received(socket) for _ in range(4)]
    assert [(each["kind"], each["topic"]) for each in begun] == [("data", "notes"), ("step", "count"), ("run", "$run")]
    assert (begun[1]["data"], begun[1]["metadata"]) == (2, {"status": "completed"})
    assert begun[2]["data"] == {"status": "running"}
    kinds = [("data", "notes"), ("step", "more"), ("step", "book"), ("run", "$run")]
    assert [(each["kind"], each["topic"]) for each in ended] == kinds
    assert ended[1]["data"]["name"] == "more"
    assert (ended[2]["data"]["message"], ended[2]["metadata"]) == ("sold out", {"status": "failed"})
    assert ended[3]["data"] == {"status": "completed", "result": {"count": 2}}
    assert {(each["channel"], each["run_id"]) for each in begun + ended} == {(run_id, run_id)}
    assert len({each["fn_id"] for each in begun[1:] + ended[1:]}) == 1


async def test_a_late_subscriber_learns_that_the_run_has_ended(client: SdkClient) -> None:
    """Its steps are left out, which ended before the token was issued."""
    await client.send({"name": "go"})
    await client.send({"name": "more", "data": {"is_needed": True}})
    run_id = client.engine.run().run_id
    await client.engine.advance("2s")
    jwt = await token(client, (run_id, "$run"), (run_id, "$step"))
    async with served(client) as session, session.ws_connect(f"{SOCKET_PATH}?token={jwt}") as socket:
        message = await received(socket)
    assert (message["kind"], message["data"]["status"]) == ("run", "failed")
    assert message["data"]["error"]["message"].endswith("sold out")


async def test_subscribers_get_no_more_than_their_token_names(client: SdkClient) -> None:
    """Neither steps, which may be private, nor the end of the run; elsewhere topics of that name are ordinary ones."""
    await client.send({"name": "go"})
    run_id = client.engine.run().run_id
    jwt = await token(client, (run_id, "notes"), ("chat", "$run"))
    async with served(client) as session, session.ws_connect(f"{SOCKET_PATH}?token={jwt}") as socket:
        assert (await received(socket))["data"] == "begins"
        await client.send({"name": "more"})
        assert (await received(socket))["data"] == "continues"
        assert client.engine.run().status == "completed"
        body = {"channel": "chat", "topic": "$run"}
        assert (await client.http.post("/v1/realtime/publish", params=body, content="1")).status_code == 200
        assert (await received(socket))["kind"] == "data"
