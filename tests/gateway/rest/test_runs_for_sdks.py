"""Runs, signals, cancellations and functions in the forms of the SDKs."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from stepstream import App, Context, on
from stepstream.gateway.rest.parts import RestOptions
from stepstream.gateway.runs.peers import RunInput
from stepstream.gateway.wire.signing import ServerKind
from tests.gateway.rest.sites import SdkClient, running

app = App("shop")
TOMORROW = "2026-01-02T00:00:00Z"


@app.function(on("order"), id="shop-approve")
async def approve(ctx: Context) -> Any:
    """Wait for a signal, and fail without an approval."""
    decision = await ctx.step.wait_for_signal("approval", signal="approve/1", timeout="1h")
    if not decision:
        raise ValueError("not approved")
    return decision


@app.function(on("nap"), id="shop-nap")
async def nap(ctx: Context) -> None:
    """Sleep."""
    await ctx.step.sleep("nap", "1h")


@app.function(id="shop-call")
async def call(ctx: Context) -> Any:
    """Return the data with which it was invoked."""
    return ctx.event.data


class FixedKey:
    """A signing key."""

    def accepts(self, authorization: str) -> bool:
        """Return whether it is `Bearer right`."""
        return authorization == "Bearer right"


class Apps:
    """Forgets one app."""

    async def remove(self, url: str) -> bool:
        """Return whether the app was known."""
        return url == "http://app/api/inngest"


class Inputs:
    """The inputs of one run."""

    def events(self, run_id: str) -> RunInput | None:
        """Return the events."""
        return RunInput(b'[{"name":"held"}]', 1) if run_id == "held" else None

    def memos(self, run_id: str) -> RunInput | None:
        """Return the memos."""
        return RunInput(b'{"hash":{"data":1}}', 1) if run_id == "held" else None


@pytest.fixture
async def client() -> AsyncIterator[SdkClient]:
    """A client of a server in dev mode."""
    async with running(app, apps=Apps(), inputs=Inputs()) as made:
        yield made


async def show(client: SdkClient, path: str) -> Any:
    """Return the data of an answer."""
    answer = await client.http.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.json()["metadata"]["fetched_at"].endswith("Z")
    return answer.json()["data"]


async def test_a_signal_names_the_run_that_waited(client: SdkClient) -> None:
    """The SDK returns its id to the caller; without a waiting run the answer is 404."""
    (event_id,) = await client.send({"name": "order"})
    run_id = client.engine.run().run_id
    run = await show(client, f"/v1/runs/{run_id}")
    assert (run["status"], run["ended_at"], run["output"], run["event_id"]) == ("Running", None, None, event_id)
    sent = await client.http.post("/v1/signals", json={"signal": "approve/1", "data": {"by": "me"}})
    assert sent.json()["data"] == {"run_id": run_id}
    await client.engine.until_idle()
    run = await show(client, f"/v1/runs/{run_id}")
    assert (run["status"], run["output"]) == ("Completed", {"by": "me"})
    none = await client.http.post("/v1/signals", json={"signal": "approve/1"})
    assert (none.status_code, none.json()["status"], type(none.json()["error"])) == (404, 404, str)
    assert (await client.http.post("/v1/signals", json=["approve/1"])).status_code == 400


async def test_a_failed_run_has_its_error_as_output(client: SdkClient) -> None:
    """The output of a failed run is the error object."""
    (event_id,) = await client.send({"name": "order"})
    await client.http.post("/v1/signals", json={"signal": "approve/1", "data": False})
    await client.engine.until_idle()
    assert (await show(client, f"/v1/runs/{client.engine.run().run_id}"))["output"] is None
    await client.engine.advance("1d")
    (run,) = await show(client, f"/v1/events/{event_id}/runs")
    assert (run["status"], run["output"]["name"], run["output"]["message"]) == ("Failed", "ValueError", "not approved")


async def test_a_run_is_cancelled_once_and_again(client: SdkClient) -> None:
    """A second request for an ended run is accepted too; an unknown run is 404."""
    for version, status in (("v1", 202), ("v0", 204)):
        await client.send({"name": "order"})
        run_id = client.engine.runs()[-1].run_id
        for _ in range(2):
            answer = await client.http.delete(f"/{version}/runs/{run_id}")
            assert (answer.status_code, answer.content) == (status, b"")
            await client.engine.until_idle()
        assert (await show(client, f"/v1/runs/{run_id}"))["status"] == "Cancelled"
        assert (await client.http.delete(f"/{version}/runs/unknown")).status_code == 404


async def test_a_cancellation_cancels_the_runs_of_a_function(client: SdkClient) -> None:
    """Runs that started in the range and for which the expression holds are cancelled by a bulk operation."""
    await client.send(*({"name": "nap", "data": {"n": n}} for n in range(3)))
    body = {"app_id": "shop", "function_id": "nap", "started_after": "2025-12-31T23:59:00Z"}
    await client.engine.advance("1s")
    body["started_before"] = "2026-01-01T00:00:01Z"
    made = await client.http.post("/v1/cancellations", json={**body, "if": "event.data.n < 2"})
    assert made.status_code == 201, made.text
    await client.engine.advance("10s")
    assert sorted(run.status for run in client.engine.runs()) == ["cancelled", "cancelled", "running"]
    (listed,) = await show(client, "/v1/cancellations")
    assert (listed["id"], listed["function_id"]) == (made.json()["data"]["id"], "shop-nap")
    assert (await client.http.delete(f"/v1/cancellations/{listed['id']}")).json() == {"ok": True}
    assert (await client.http.delete("/v1/cancellations/none")).status_code == 404
    nothing = await client.http.post("/v1/cancellations", json={**body, "if": "event.data.n > 5"})
    assert nothing.status_code == 201
    for wrong, status in (({"function_id": "none"}, 404), ({"started_before": TOMORROW}, 400), ({"if": "("}, 400)):
        answer = await client.http.post("/v1/cancellations", json={**body, **wrong})
        assert (answer.status_code, type(answer.json()["error"])) == (status, str)
    assert (await client.http.post("/v1/cancellations", json={})).status_code == 400


async def test_functions_are_listed_and_invoked(client: SdkClient) -> None:
    """An invocation starts only the function that it names."""
    listed = (await client.http.get("/v1/apps/shop/functions")).json()
    assert {each["slug"]: each["triggers"] for each in listed} == {
        "shop-approve": [{"event": "order"}],
        "shop-nap": [{"event": "nap"}],
        "shop-call": [],
    }
    assert (await client.http.get("/v1/apps/none/functions")).status_code == 404
    made = (await client.http.post("/invoke/shop-call", json={"data": {"n": 1}})).json()
    await client.engine.until_idle()
    run = client.engine.run()
    assert (made, run.function, run.output) == ({"id": run.run_id, "status": 200}, "shop-call", {"n": 1})
    assert (await client.http.post("/invoke/none", json={})).status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [({"data": 5}, 400), ({"v": 1}, 400), ({"meta": []}, 400), ([], 400), ({"user": "x" * 600_000}, 413)],
    ids=["data", "v", "meta", "array", "large"],
)
async def test_a_wrong_invocation_starts_nothing(client: SdkClient, body: Any, status: int) -> None:
    """It is refused as an event of the same fields is."""
    refused = await client.http.post("/invoke/shop-call", json=body)
    assert (refused.status_code, type(refused.json()["error"])) == (status, str)
    assert client.engine.runs() == []


async def test_inputs_come_from_the_gateway_that_has_the_run(client: SdkClient) -> None:
    """They are bare, not in an envelope; those of a run that has ended are gone."""
    assert (await client.http.get("/v0/runs/held/batch")).json() == [{"name": "held"}]
    assert (await client.http.get("/v0/runs/held/actions")).json() == {"hash": {"data": 1}}
    await client.send({"name": "order", "data": {"n": 1}})
    run_id = client.engine.run().run_id
    (event,) = (await client.http.get(f"/v0/runs/{run_id}/batch")).json()
    assert (event["name"], event["data"]) == ("order", {"n": 1})
    await client.http.delete(f"/v1/runs/{run_id}")
    await client.engine.until_idle()
    for path in ("batch", "actions"):
        gone = await client.http.get(f"/v0/runs/{run_id}/{path}")
        assert (gone.status_code, gone.json()["status"]) == (410, 410)


async def test_what_is_not_supported_says_so_or_is_dropped(client: SdkClient) -> None:
    """Streams and spans are dropped; the events of a subscription are 501 with the error object of the SDKs."""
    await client.send({"name": "order"})
    run_id = client.engine.run().run_id
    for path in ("/v1/realtime/publish/tee?channel=c", "/v1/traces/userland"):
        assert (await client.http.post(path, json={"any": 1})).status_code == 200
    assert await show(client, f"/v1/runs/{run_id}/jobs") == []
    refused = [await client.http.get("/v1/realtime/sse?token=x")]
    refused += [await client.http.post("/fn/step-limit", json={}), await client.http.delete("/fn/state-size-limit")]
    assert [(answer.status_code, answer.json()["status"]) for answer in refused] == [(501, 501)] * 3


async def test_clients_see_that_the_server_runs(client: SdkClient) -> None:
    """Suites wait for /health or /dev, and look for registered functions in the latter."""
    assert (await client.http.get("/health")).json() == {"status": 200, "message": "OK"}
    listed = (await client.http.get("/dev")).json()["functions"]
    assert sorted(each["slug"] for each in listed) == ["shop-approve", "shop-call", "shop-nap"]
    removed = await client.http.delete("/fn/remove", params={"url": "http://app/api/inngest"})
    assert removed.json() == {"ok": True}
    assert (await client.http.delete("/fn/remove", params={"url": "http://other"})).status_code == 404


async def test_our_own_api_is_beside_that_of_the_sdks(client: SdkClient) -> None:
    """The whole API is below /api; paths that no SDK asks are also where they were."""
    await client.send({"name": "order"})
    run_id = client.engine.run().run_id
    assert (await client.http.get(f"/api/v1/runs/{run_id}")).json()["function"] == "shop-approve"
    assert (await client.http.get(f"/v1/runs/{run_id}")).json()["data"]["run_id"] == run_id
    for path in ("/v1/runs", "/api/v1/runs"):
        assert len((await client.http.get(path)).json()["runs"]) == 1
    assert (await client.http.get("/api/health")).json() == {"status": "ok"}
    assert (await client.http.get("/ready")).status_code == 200
    assert (await client.http.get("/ui/runs")).headers["content-type"].startswith("text/html")
    assert (await client.http.get("/v1/nothing")).status_code == 404


async def test_a_server_in_the_cloud_needs_a_signing_key() -> None:
    """SDKs try their other key after a 401; only events and the health of the server need none."""
    options = RestOptions(ServerKind.CLOUD, ("key",), (FixedKey(),))
    async with running(app, options) as client:
        for path in ("/v1/events", "/v1/runs/x", "/v0/runs/x/actions", "/v1/cancellations"):
            refused = await client.http.get(path)
            assert (refused.status_code, refused.json()["status"]) == (401, 401)
            assert refused.headers["X-Inngest-Server-Kind"] == "cloud"
        assert (await client.http.post("/v0/gql", json={"query": "{ functions { id } }"})).status_code == 401
        allowed = await client.http.get("/v1/events", headers={"Authorization": "Bearer right"})
        assert allowed.status_code == 200
        assert (await client.http.post("/e/key", json={"name": "order"})).status_code == 200
        assert (await client.http.get("/health")).status_code == 200
        assert (await client.http.get("/dev")).status_code == 404


async def test_a_dev_server_refuses_pages_of_other_sites(client: SdkClient) -> None:
    """A page of any site may send requests to the loopback address; other machines need the option for them."""
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        assert (await client.http.post("/e/key", json={"name": "order"}, headers=headers)).status_code == 403
    async with running(app, RestOptions(any_host=True)) as other:
        assert (await other.http.get("/v1/events", headers={"Host": "stepstream:8288"})).status_code == 200


async def test_a_failure_of_ours_has_the_form_of_the_sdks(client: SdkClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a request that raises an unexpected error has an error object too."""
    monkeypatch.setattr(client.engine.index.queries, "bulks", None)
    answer = await client.http.get("/v1/cancellations")
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (500, 500, "internal")
    assert "NoneType" not in answer.json()["error"]
