"""Events from SDKs: ids from seeds, what is refused, and how they are found again."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from stepstream import App, Context, on
from stepstream.gateway.rest.parts import RestOptions
from stepstream.gateway.rest.recent_events import RecentEvents
from stepstream.gateway.rest.sdk_shapes import events_of
from stepstream.gateway.wire.signing import ServerKind
from tests.gateway.rest.sites import SdkClient, running

SEED = "1743130137367,eii2YKXRVTJPuA=="
IDS = ["01JQDAE4RQF8MBCR55T5AK4KXS", "01JQDAE4RQF8MBCR55T5AK4KXT"]
app = App("shop")


@app.function(on("order"), id="shop-charge")
async def charge(ctx: Context) -> Any:
    """Return the data of the event."""
    return ctx.event.data


@pytest.fixture
async def client() -> AsyncIterator[SdkClient]:
    """A client of a server in dev mode."""
    async with running(app) as made:
        yield made


async def test_a_repeated_request_has_the_same_ids_and_starts_nothing(client: SdkClient) -> None:
    """The ids come from the seed and the position in the request, counted from 1."""
    for _ in range(2):
        assert await client.send({"name": "order"}, {"name": "order"}, seed=SEED) == IDS
    assert sorted(event["id"] for run in client.engine.runs() for event in events_of(run)) == IDS
    listed = (await client.http.get("/v1/events", params={"name": "order"})).json()["data"]
    assert [event["internal_id"] for event in listed] == IDS[::-1] * 2


async def test_an_event_with_its_own_id_has_a_ulid_too(client: SdkClient) -> None:
    """The ULID leads to the event and its runs; the own id starts each function once, under whatever seed."""
    first = await client.send({"name": "order", "id": "mine", "data": {"n": 1}})
    second = await client.send({"name": "order", "id": "mine", "data": {"n": 2}}, seed="malformed")
    assert first != second
    assert [len(id) for id in first + second] == [26, 26]
    (run,) = (await client.http.get(f"/v1/events/{first[0]}/runs")).json()["data"]
    assert (run["status"], run["output"]) == ("Completed", {"n": 1})
    event = (await client.http.get(f"/v1/events/{first[0]}")).json()["data"]
    assert (event["internal_id"], event["id"], event["data"]) == (first[0], "mine", {"n": 1})


async def test_nulls_and_internal_data_are_dropped(client: SdkClient) -> None:
    """SDKs send nulls for what is absent, and fields that the server does not know."""
    sent = {"name": "order", "data": {"_inngest": {"fn_id": "x"}, "n": 1}, "id": None, "ts": None, "user": None}
    await client.send({**sent, "v": None, "meta": {"sessions": []}}, {"name": "order", "data": None})
    assert sorted(str(run.output) for run in client.engine.runs()) == ["{'n': 1}", "{}"]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"name": ""}, "name: use 1 to 255 characters, no control characters"),
        ({"name": "Inngest/function.failed"}, "name: names under 'inngest/' are internal; choose another"),
        ({"name": "stream/x"}, "name: names under 'stream/' are the engine's own; choose another"),
        ({"name": "x", "ts": 5}, "ts: use Unix milliseconds between 1980 and 2100"),
        ({"name": "x", "data": [1]}, "data: use a JSON object"),
    ],
    ids=range(5),
)
async def test_events_before_an_invalid_one_are_accepted(client: SdkClient, event: Any, reason: str) -> None:
    """The answer has the ids of the accepted ones and the reason; SDKs raise an error that has both."""
    answer = await client.http.post("/e/key", json=[{"name": "order"}, event, {"name": "order"}])
    body = answer.json()
    assert (answer.status_code, body["status"], len(body["ids"])) == (400, 400, 1)
    assert body["error"] == f"event 1: {reason}"
    await client.engine.until_idle()
    assert len(client.engine.runs()) == 1


async def test_json_is_accepted_whatever_its_content_type(client: SdkClient) -> None:
    """`curl --data` sends the type of a form, or none."""
    for type in ("application/x-www-form-urlencoded", "text/plain"):
        answer = await client.http.post("/e/key", content=b'{"name": "order"}', headers={"Content-Type": type})
        assert answer.status_code == 200
    await client.engine.until_idle()
    assert len(client.engine.runs()) == 2


async def test_forms_and_large_or_broken_bodies_are_refused(client: SdkClient) -> None:
    """Each error has a text and the status as a number, as the TypeScript SDK requires."""
    for request, status, reason in (
        ({"data": {"name": "order"}}, 400, "event 0: "),
        ({"content": b"["}, 400, "body: "),
        ({"content": b'"x"'}, 400, "event 0: event: "),
        ({"json": {"name": "order", "data": {"t": "x" * 3_200_000}}}, 413, "event 0: event: the event has 3,200,0"),
        ({"json": [{"name": "x"}] * 5_001}, 400, "body: expected at most 5,000 events, got 5,001"),
    ):
        answer = await client.http.post("/e/key", **request)
        body = answer.json()
        assert (answer.status_code, body["status"]) == (status, status)
        assert body["error"].startswith(reason), body
        assert answer.headers["X-Inngest-Server-Kind"] == "dev"
    assert not client.engine.runs()


async def test_events_that_matched_nothing_are_listed(client: SdkClient) -> None:
    """Suites look for events that start no function; pages continue after the last one."""
    ids = [(await client.send({"name": "other", "data": {"n": n}}))[0] for n in range(3)]
    await client.send({"name": "order"})
    newest = (await client.http.get("/v1/events", params={"name": "other", "limit": 2})).json()["data"]
    assert [(event["internal_id"], event["data"]["n"]) for event in newest] == [(ids[2], 2), (ids[1], 1)]
    rest = await client.http.get("/v1/events", params={"name": "other", "limit": 2, "cursor": ids[1]})
    assert [event["internal_id"] for event in rest.json()["data"]] == ids[:1]
    none = await client.http.get("/v1/events", params={"received_before": "2020-01-01T00:00:00Z"})
    assert none.json()["data"] == []
    wrong = await client.http.get("/v1/events", params={"received_after": "today"})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "received_after: 'today' is not an ISO 8601 time")
    assert (await client.http.get("/v1/events/unknown")).status_code == 404
    assert (await client.http.get("/v1/events/unknown/runs")).json()["data"] == []


async def test_an_event_is_shown_as_it_was_sent(client: SdkClient) -> None:
    """The user, the version and what else an SDK says about an event are in the event and in that of its run."""
    more = {"user": {"id": 1}, "v": "2", "meta": {"sessions": {"chat": "1"}}}
    (id,) = await client.send({"name": "order", **more})
    found = (await client.http.get(f"/v1/events/{id}")).json()["data"]
    (run,) = client.engine.runs()
    for event in (found, *events_of(run)):
        assert {name: event[name] for name in more} == more


async def test_events_of_other_processes_are_read_from_the_read_model(client: SdkClient) -> None:
    """A process that did not accept an event knows it by the run that it started."""
    (id,) = await client.send({"name": "order", "data": {"n": 1}})
    other = SdkClient(client.engine, RestOptions())
    async with other.http:
        (event,) = (await other.http.get("/v1/events")).json()["data"]
        assert (event["internal_id"], event["name"], event["data"]) == (id, "order", {"n": 1})


async def test_only_known_event_keys_send_events() -> None:
    """A server with event keys knows them; one in the cloud needs one."""
    async with running(app, RestOptions(event_keys=("first", "second"))) as client:
        assert (await client.http.post("/e/second", json={"name": "order"})).status_code == 200
        wrong = await client.http.post("/e/third", json={"name": "order"})
        assert (wrong.status_code, wrong.json()["status"]) == (401, 401)
    async with running(app, RestOptions(ServerKind.CLOUD)) as client:
        assert (await client.http.post("/e/any", json={"name": "order"})).status_code == 503


async def test_a_bounded_number_of_recent_events_is_kept(client: SdkClient) -> None:
    """The oldest go first, by their number and by their bytes."""
    recent = RecentEvents(events_max=2, bytes_max=200)
    other = SdkClient(client.engine, RestOptions(), recent=recent)
    async with other.http:
        ids = await other.send(*({"name": f"e{n}", "id": f"own-{n}"} for n in range(3)))
        assert [event.record.name for event in recent.newest()] == ["e2", "e1"]
        assert (recent.find(ids[0]), recent.engine_id(ids[2])) == (None, "own-2")
        await other.send({"name": "large", "data": {"t": "x" * 300}})
        assert [*recent.newest()] == []
        assert recent.engine_id(ids[2]) == ids[2]
