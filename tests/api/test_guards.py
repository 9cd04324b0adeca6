"""Which requests the HTTP API accepts: with keys those that carry them, without keys those of this machine."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from stepstream.api.guards import Keys
from stepstream.api.http import SIGNAL_BYTES_MAX, make_api
from stepstream.api.routes.probes import make_probes
from stepstream.contract.events import EventRecord
from stepstream.contract.limits import DEFAULT_LIMITS
from stepstream.runtime.overview import RunningWorker
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.queries import RunQueries
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.search.search import RunPage
from tests.fakes.facades import facade_of

EVENT = {"name": "go"}
KEYS = Keys("event-key", "api-key")
BEARER = {"Authorization": "Bearer api-key"}
GUARDED = ("/v1/runs", "/v1/runs/a", "/v1/events/a/runs", "/metrics", "/openapi.json")
OPEN = ("/health", "/ready")


class EmptyEngine:
    """An engine that accepts all events and has no runs."""

    unready = ""
    operator = None

    def __init__(self) -> None:
        self.sent: list[EventRecord] = []

    async def send(self, events: Sequence[EventRecord]) -> list[str]:
        """Keep the events."""
        self.sent += events
        return [event.id for event in events]

    async def signal(self, name: str, data: Any = None, by: str = "") -> bool:
        """Report that no run waits for the signal."""
        return not name and not data and not by

    async def workers(self, names: Sequence[str]) -> dict[str, list[RunningWorker]]:
        """Report that no worker is running."""
        return {name: [] for name in names}


def client_of(
    keys: Keys, engine: EmptyEngine | None = None, url: str = "http://stepstream.example"
) -> httpx.AsyncClient:
    """Return a client that reaches the API under some host name."""
    api = make_api(facade_of(engine or EmptyEngine()), RunIndex(), lambda: b"", keys=keys)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url=url)


@pytest.mark.parametrize(
    "header", ["", "Bearer ", "Bearer api-ke", "Bearer api-keys", "Bearer event-key", "api-key", "Basic api-key", "é"]
)
async def test_all_but_events_and_probes_need_the_api_key(header: str) -> None:
    """Without the complete API key each of them is 401, with it none is; probes need no key."""
    async with client_of(KEYS) as client:
        given = {b"Authorization": header.encode()}
        assert [(await client.get(path, headers=given)).status_code for path in GUARDED] == [401] * len(GUARDED)
        assert (await client.post("/v1/signals", json={"signal": "a"}, headers=given)).status_code == 401
        assert (await client.delete("/v1/runs/a", headers=given)).status_code == 401
        assert 401 not in [(await client.get(path, headers=BEARER)).status_code for path in GUARDED]
        assert [(await client.get(path)).status_code for path in OPEN] == [200, 200]


@pytest.mark.parametrize("header", ["Bearer api-key", "bearer api-key", "BEARER  api-key", " Bearer api-key "])
async def test_the_name_of_the_scheme_ignores_case(header: str) -> None:
    """RFC 9110 compares the name of an authentication scheme without regard to case."""
    async with client_of(KEYS) as client:
        assert (await client.get("/v1/runs", headers={"Authorization": header})).status_code == 200


@pytest.mark.parametrize("key", ["event-ke", "event-keys", "e", "Event-key", "api-key", "%20", "é"])
async def test_events_need_the_complete_event_key(key: str) -> None:
    """A part of the key, more than the key, and another key are 401, and no event is accepted."""
    engine = EmptyEngine()
    async with client_of(KEYS, engine) as client:
        assert (await client.post(f"/e/{key}", json=EVENT)).status_code == 401
        assert not engine.sent
        assert (await client.post("/e/event-key", json=EVENT)).status_code == 200
    assert len(engine.sent) == 1


@pytest.mark.parametrize("header", ["", "Bearer api-ke", "Bearer api-keys"])
async def test_a_worker_needs_the_same_key(header: str) -> None:
    """The metrics of a worker are guarded like those of an engine."""
    api = make_probes(lambda: True, lambda: "", lambda: b"", api_key="api-key")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://w") as client:
        assert (await client.get("/metrics", headers={"Authorization": header})).status_code == 401
        assert (await client.get("/metrics", headers=BEARER)).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8288", "127.0.0.1:8288", "127.9.9.9", "[::1]:8288", "0.0.0.0:8288"]
)
@pytest.mark.parametrize("origin", ["", "http://localhost:3000", "http://127.0.0.1", "http://[::1]:8288"])
async def test_without_keys_this_machine_may_do_everything(host: str, origin: str) -> None:
    """Requests to a name of the loopback are accepted, also from pages that were loaded from there."""
    async with client_of(Keys()) as client:
        headers = {"Host": host} | ({"Origin": origin} if origin else {})
        assert (await client.post("/e/dev", json=EVENT, headers=headers)).status_code == 200
        assert (await client.get("/v1/runs", headers=headers)).status_code == 200


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://["},
    {"Host": "evil.example"},
    {"Host": "evil.example:8288"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "localhost@evil.example"},
    {"Host": "192.168.0.7"},
    {"Host": "[::1"},
    {"Host": ""},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: "-".join(next(iter(headers.items()))))
@pytest.mark.parametrize("keys", [Keys(), Keys(event="event-key"), Keys(api="api-key")], ids=["none", "event", "api"])
async def test_without_both_keys_foreign_pages_are_refused(keys: Keys, headers: dict[str, str]) -> None:
    """A request of another site's page, or to a name that was rebound to the loopback, is 403 with the remedy."""
    engine = EmptyEngine()
    async with client_of(keys, engine, "http://localhost") as client:
        text = {"Content-Type": "text/plain", **headers}
        sent = await client.post("/e/event-key", content=b'{"name": "go"}', headers=text)
        read = await client.get("/v1/runs", headers={**BEARER, **headers})
        for answer in (sent, read):
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
            assert "STEPSTREAM_EVENT_KEY and STEPSTREAM_API_KEY" in answer.json()["error"]["message"]
    assert not engine.sent


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: "-".join(next(iter(headers.items()))))
async def test_with_both_keys_any_host_name_is_accepted(headers: dict[str, str]) -> None:
    """Clients that know the keys may use any host name, from any page."""
    async with client_of(KEYS) as client:
        assert (await client.post("/e/event-key", json=EVENT, headers=headers)).status_code == 200
        assert (await client.get("/v1/runs", headers={**BEARER, **headers})).status_code == 200


@pytest.mark.parametrize("event_id", ["/orders/svc#1", "a/b", "a/runs", "https://shop/7?x=1", "a%2Fb", "é"])
async def test_the_runs_of_an_event_are_found_by_any_id(event_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id with slashes, such as that of a CloudEvent, is requested in the path like any other."""
    requested: list[Filter] = []

    async def note(_queries: RunQueries, filter: Filter, **_: object) -> RunPage:
        requested.append(filter)
        return RunPage([])

    monkeypatch.setattr(RunQueries, "search", note)
    async with client_of(KEYS) as client:
        path = f"/v1/events/{quote(event_id, safe='')}/runs"
        assert (await client.get(path, headers=BEARER)).json()["runs"] == []
        assert "/v1/events/{event_id}/runs" in (await client.get("/openapi.json", headers=BEARER)).json()["paths"]
    assert [term.texts for found in requested for term in found.terms] == [(event_id,)]


@pytest.mark.parametrize(
    ("path", "bytes_max"), [("/e/event-key", DEFAULT_LIMITS.request_bytes_max), ("/v1/signals", SIGNAL_BYTES_MAX)]
)
@pytest.mark.parametrize("says", [True, False])
async def test_a_body_is_read_up_to_its_limit(path: str, bytes_max: int, says: bool) -> None:
    """A body that declares to be too large is not read at all; one that declares nothing is read up to the limit."""
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        while read <= bytes_max:
            read += 2**16
            yield b" " * 2**16
        yield b" "
        raise AssertionError("it was read beyond the limit")

    async with client_of(KEYS) as client:
        length = {"Content-Length": str(bytes_max + 1)} if says else {}
        answer = await client.post(path, content=body(), headers=BEARER | length)
        assert (answer.status_code, answer.json()["error"]["field"]) == (413, "body")
        assert ("bytes, at most" in answer.json()["error"]["message"]) == says
    assert read == (0 if says else bytes_max + 2**16)
