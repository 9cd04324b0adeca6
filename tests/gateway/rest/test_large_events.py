"""Events of SDKs may be larger than those of our own clients, and a batch has several of them."""

import pytest

from stepstream import App, Batch, Context, on
from stepstream.contract.errors import TooLarge
from stepstream.contract.limits import LOGGED_EVENT_BYTES_MAX, MIB
from stepstream.sdk.event import Event
from tests.gateway.rest.sites import running

_SENT = "/e/NO_EVENT_KEY_SET"


async def test_an_sdk_may_send_larger_events_than_other_clients() -> None:
    """The event starts its function whole; the same event of `app.send` is refused."""
    app = App("shop")

    @app.function(on("order"))
    async def charge(ctx: Context) -> int:
        return len(str(ctx.event.data["text"]))

    data = {"text": "x" * (3 * MIB - 1_000)}
    async with running(app) as client:
        await client.send({"name": "order", "data": data})
        assert client.engine.run().output == len(data["text"])
        with pytest.raises(TooLarge, match="524,288"):
            await app.send(Event("order", data))


async def test_a_larger_event_of_an_sdk_is_refused_with_its_size() -> None:
    """Those before it are accepted, as before any invalid event."""
    async with running(App("shop")) as client:
        large = {"name": "order", "data": {"text": "x" * LOGGED_EVENT_BYTES_MAX}}
        answer = await client.http.post(_SENT, json=[{"name": "order"}, large])
        body = answer.json()
        assert (answer.status_code, len(body["ids"])) == (413, 1)
        assert "at most 3,145,728 are allowed" in body["error"]


async def test_a_batch_has_eight_events_of_one_mebibyte() -> None:
    """They are more than the 8 MiB of most records."""
    app = App("shop")

    @app.function(on("order"), batch=Batch(8, "10s"))
    async def charge(ctx: Context) -> int:
        return sum(len(str(event.data["text"])) for event in ctx.events)

    async with running(app) as client:
        await client.send(*[{"name": "order", "data": {"text": "x" * MIB}}] * 8)
        assert [run.output for run in client.engine.runs() if run.status == "completed"] == [8 * MIB]
