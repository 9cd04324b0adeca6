"""The HTTP API: events and signals in, runs out, and the answers to bad input."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import httpx
import pytest

from stepstream import App, Context, Event, on
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.contract.limits import DEFAULT_LIMITS, REASON_CHARACTERS_MAX
from stepstream.runtime.callers import Callers
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.overview import RunningWorker
from stepstream.runtime.ports import LogError, StoreError
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.sqlite_tables import SqliteTables
from stepstream.testing import VirtualEngine
from tests.api.routes import PAUSE_ROUTES
from tests.fakes.facades import facade_of

app = App("api")


@app.function(on("both"))
async def beside(ctx: Context) -> None:
    """Start on the same event as another function."""


@app.function(on("go"), on("both"))
async def work(ctx: Context) -> object:
    """Wait for a signal."""
    return await ctx.step.wait_for_signal("approval", signal="approval", timeout="1h")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """An engine in memory."""
    async with VirtualEngine(app) as made:
        yield made


def client_of(engine: VirtualEngine, keys: Keys | None = None) -> httpx.AsyncClient:
    """Return a client of the API over an engine."""
    api = make_api(facade_of(engine.engine), engine.index, Metrics("engine").text, keys=keys)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost")


async def test_events_runs_and_signals(engine: VirtualEngine) -> None:
    """An event's id leads to its run, the run to its steps, and a signal ends it."""
    async with client_of(engine) as client:
        sent = await client.post("/e/dev", json=[{"name": "go"}, {"name": "other", "id": "mine"}])
        assert sent.status_code == 200
        first, second = sent.json()["ids"]
        assert second == "mine"
        await engine.until_idle()
        (run,) = (await client.get(f"/v1/events/{first}/runs")).json()["runs"]
        shown = (await client.get(f"/v1/runs/{run['run_id']}")).json()
        assert (shown["status"], shown["steps"][0]["status"]) == ("running", "waiting")
        assert (await client.post("/v1/signals", json={"signal": "approval", "data": 1})).json() == {"delivered": True}
        await engine.until_idle()
        listed = (await client.get("/v1/runs", params={"status": "completed"})).json()["runs"]
        (ended,) = listed
        shown = (await client.get(f"/v1/runs/{ended['run_id']}")).json()
        assert (shown["output"], shown["steps"][0]["ended_by"]) == (1, "local")
        assert (await client.post("/v1/signals", json={"signal": "approval"})).status_code == 404
        start = {"function": engine.runs()[0].function, "data": {"n": 1}}
        begun = (await client.post("/v1/signals", json={"signal": "approval", "data": 1, "start": start})).json()
        assert (begun["started"], begun["delivered"], len(begun["run_id"])) == (True, False, 26)
        wrong = await client.post("/v1/signals", json={"signal": "approval", "start": {"data": {}}})
        assert (wrong.status_code, wrong.json()["error"]["field"]) == (400, "start")
        none = await client.post("/v1/signals", json={"signal": "other", "start": {"function": "no"}})
        assert none.status_code == 409


async def test_cancel(engine: VirtualEngine) -> None:
    """DELETE cancels a run once; an unknown one is 404, an ended one 409. The error has who did it, and why."""
    async with client_of(engine) as client:
        await client.post("/e/dev", json={"name": "go"})
        await engine.until_idle()
        path = f"/v1/runs/{engine.run().run_id}"
        long = await client.delete(path, params={"why": "x" * (REASON_CHARACTERS_MAX + 1)})
        assert (long.status_code, long.json()["error"]["field"]) == (400, "why")
        why = "wrong <template> & 🐟"
        assert (await client.delete(path, params={"why": why})).json() == {"cancelled": True}
        await engine.until_idle()
        assert (await client.get(path)).json()["error"]["message"] == f"the run was cancelled by local: {why}"
        assert (await client.delete(path)).status_code == 409
        assert (await client.delete("/v1/runs/unknown")).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b'{"name": 5}', 400, "name"),
        (b'{"nam": "x"}', 400, "nam"),
        (b'{"name": "x", "dat": {}}', 400, "dat"),
        (b'[{"name": "x"}, {"name": "x", "dat": {}}]', 400, "[1].dat"),
        (b'{"data": {}}', 400, "name"),
        (b'[{"name": "x"}, {"data": {}}]', 400, "[1].name"),
        (b'{"name": "x", "data": {"a": 1e999}}', 400, "data"),
        (b'{"name": "x", "user": 1e999}', 400, "user"),
        (b'{"name": "stream/x"}', 400, "name"),
        (b'{"name": "x", "data": []}', 400, "data"),
        (b'{"name": "x", "ts": -1}', 400, "ts"),
        (b'[{"name": "ok"}, {"name": ""}]', 400, "[1].name"),
        (b"[]", 400, "body"),
        (b"{", 400, "event"),
        (b"[1", 400, "body"),
        (b'{"name": "x", "data": {"t": "' + b"x" * 600_000 + b'"}}', 413, "event"),
        (b"[" + b" " * (17 * 1024 * 1024) + b"]", 413, "body"),
    ],
    ids=range(17),
)
async def test_bad_events_name_the_field(engine: VirtualEngine, body: bytes, status: int, field: str) -> None:
    """Bad input is answered with 400 or 413, the field and the reason, and no event is accepted."""
    async with client_of(engine) as client:
        answer = await client.post("/e/dev", content=body)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["field"] == field
        assert answer.json()["error"]["message"]
    await engine.until_idle()
    assert not engine.runs()


async def test_an_unknown_field_of_a_signal_is_refused(engine: VirtualEngine) -> None:
    """A misspelled field is answered with 400 and its name; the signal is not sent without its data."""
    async with client_of(engine) as client:
        answer = await client.post("/v1/signals", json={"signal": "approval", "dta": 1})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "dta")


async def test_lists_are_small_and_paged(engine: VirtualEngine) -> None:
    """Lists leave out outputs and the data of events, and end at `limit`; `before` continues after a page."""
    big = {"big": "x" * 10_000}
    async with client_of(engine) as client:
        ids = (await client.post("/e/dev", json=[{"name": "go", "data": big, "user": big}] * 5)).json()["ids"]
        await client.post("/e/dev", json={"name": "both", "id": "of-two"})
        await engine.until_idle()
        for path, count in (("/v1/runs", 7), (f"/v1/events/{ids[0]}/runs", 1), ("/v1/events/of-two/runs", 2)):
            pages: list[str] = []
            for _ in range(count):
                page = await client.get(path, params={"limit": 1, "before": pages[-1] if pages else ""})
                (run,) = page.json()["runs"]
                assert "output" not in run
                assert "steps" not in run
                assert set(run["events"][0]) <= {"name", "id", "ts"}
                assert len(page.content) < 1_000
                pages.append(run["run_id"])
            assert pages == sorted(set(pages), reverse=True)
            assert (await client.get(path, params={"before": pages[-1]})).json()["runs"] == []
        assert (await client.get("/v1/events/of-two/runs", params={"limit": 0})).status_code == 400
        alone = (await client.get(f"/v1/runs/{pages[0]}")).json()
        assert "output" in alone
        first = (await client.get(f"/v1/events/{ids[0]}/runs")).json()["runs"][0]["run_id"]
        assert (await client.get(f"/v1/runs/{first}")).json()["events"][0]["data"] == big


async def test_an_unknown_status_is_refused_with_the_known_ones(engine: VirtualEngine) -> None:
    """A status that no run can have is an error, not an empty list."""
    async with client_of(engine) as client:
        error = (await client.get("/v1/runs", params={"status": "done"})).json()["error"]
    assert error["field"] == "status"
    assert "scheduled, queued, running, completed, failed, cancelled" in error["message"]


async def test_an_unknown_parameter_is_refused(engine: VirtualEngine) -> None:
    """A misspelled filter would list all runs; the error lists the known ones. Probes accept any parameter."""
    async with client_of(engine) as client:
        error = (await client.get("/v1/runs", params={"stauts": "failed"})).json()["error"]
        assert error["field"] == "stauts"
        assert "this route takes before, filter, function, limit, status, tail" in error["message"]
        wrong = [await client.get(f"/v1/{path}", params={"full": 1}) for path in ("runs/a", "events/a/runs")]
        assert [answer.status_code for answer in wrong] == [400, 400]
        assert (await client.get("/health", params={"by": "balancer"})).status_code == 200


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/events/e/runs"])
async def test_pages_continue_after_run_ids_only(engine: VirtualEngine, path: str) -> None:
    """Any other text in `before` would be compared with run ids, and list an arbitrary part of the runs."""
    async with client_of(engine) as client:
        answer = await client.get(path, params={"before": "nope"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "before")


async def test_no_route_redirects(engine: VirtualEngine) -> None:
    """A redirect to the path without a slash would repeat the event key in the clear."""
    async with client_of(engine) as client:
        assert (await client.post("/e/dev/", json={"name": "go"})).status_code == 404
        assert (await client.get("/v1/runs/")).status_code == 404


async def test_runs_are_found_by_the_end_of_their_ids(engine: VirtualEngine) -> None:
    """`tail` finds the run whose id ends with it; fewer than six characters are refused."""
    async with client_of(engine) as client:
        await engine.send(Event("go"), Event("go"))
        run_id = engine.runs()[0].run_id
        for tail in (run_id[-6:], run_id[-10:], run_id):
            assert [run["run_id"] for run in await runs_like(client, tail)] == [run_id]
        assert not await runs_like(client, f"U{run_id[-6:]}")
        refused = (await client.get("/v1/runs", params={"tail": run_id[-5:]})).json()["error"]
    assert (refused["field"], "give at least 6 characters" in refused["message"]) == ("tail", True)


async def runs_like(client: httpx.AsyncClient, tail: str) -> list[dict[str, object]]:
    """Return the runs whose ids end with a text."""
    found: list[dict[str, object]] = (await client.get("/v1/runs", params={"tail": tail})).json()["runs"]
    return found


async def test_a_stream_without_a_length_is_cut(engine: VirtualEngine) -> None:
    """A body that does not declare its size is read up to the limit."""
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(64):
            read += 1
            yield b" " * 1024 * 1024

    async with client_of(engine) as client:
        assert (await client.post("/e/dev", content=endless())).status_code == 413
    assert read < 64


async def test_operations_are_described(engine: VirtualEngine) -> None:
    """There are health, metrics, and an OpenAPI description of every route."""
    async with client_of(engine) as client:
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/ready")).json() == {"status": "ok"}
        assert b"stepstream_batch_duration_seconds" in (await client.get("/metrics")).content
        paths = (await client.get("/openapi.json")).json()["paths"]
        assert set(paths) == {
            "/e/{key}",
            "/v1/approvals",
            "/v1/runs/{run_id}/requests/{name}",
            "/v1/runs/{run_id}/requests/{name}/{request_id}",
            "/v1/approvals/{run_id}/{step}",
            *(f"/v1/bulk{rest}" for rest in ("", "/{operation_id}")),
            "/v1/counts",
            "/v1/dead-letters",
            "/v1/dead-letters/{place}",
            "/v1/dead-letters/{place}/redrive",
            "/v1/errors",
            "/v1/events",
            "/v1/functions",
            "/v1/timings",
            "/v1/functions/{function}",
            "/v1/functions/{function_id}/invoke",
            "/v1/limits",
            "/v1/limits/{name}",
            "/v1/shards",
            "/v1/workers",
            "/v1/signals",
            "/v1/runs",
            "/v1/runs/{run_id}",
            "/v1/runs/{run_id}/logs",
            "/v1/runs/{run_id}/stream",
            "/v1/channels/{name}/stream",
            "/v1/streams/tokens",
            "/v1/runs/{run_id}/rerun",
            *PAUSE_ROUTES,
            "/v1/events/{event_id}/runs",
            "/metrics",
            "/v1/approvals/{run_id}/{step}/link",
            "/health",
            "/ready",
        }
        assert (await client.get("/v1/runs", params={"limit": 0})).json()["error"]["field"] == "limit"


class _Away:
    """An engine whose log acknowledges nothing."""

    unready = "no broker has answered for 12 s"

    def __init__(self) -> None:
        self.operator = self._callers = Callers(self._append, 1, DEFAULT_LIMITS)
        self.send, self.signal = self._callers.send, self._callers.signal

    async def workers(self, _names: Sequence[str]) -> dict[str, list[RunningWorker]]:
        return {}

    async def _append(self, _records: object) -> list[tuple[int, int]]:
        raise LogError("no broker acknowledged the records within 8 s")


@pytest.mark.parametrize(
    ("method", "path", "json"),
    [
        ("POST", "/e/dev", {"name": "go"}),
        ("POST", "/v1/signals", {"signal": "approval"}),
        ("DELETE", "/v1/runs/01M8B04JSN1YWH07FVN5Q68FNZ", None),
    ],
)
async def test_what_the_log_does_not_acknowledge_is_503(
    engine: VirtualEngine, method: str, path: str, json: dict[str, str] | None
) -> None:
    """The answer says what is wrong and that the request may have been accepted; it is not an internal error."""
    api = make_api(facade_of(_Away()), engine.index, bytes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        answer = await client.request(method, path, json=json)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"
    assert "no broker acknowledged the records within 8 s; " in answer.json()["error"]["message"]
    assert "may still have been written" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/runs/01M8B04JSN1YWH07FVN5Q68FNZ", "/v1/events/e/runs"])
async def test_list_of_runs_that_cannot_be_read_is_503(engine: VirtualEngine, path: str) -> None:
    """The answer has the reason with its remedy."""
    full = "the list of runs in runs.sqlite cannot be used (database or disk is full); free space on its disk"
    index = RunIndex(_UnreadableTables(full))
    api = make_api(facade_of(engine.engine), index, bytes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        answer = await client.get(path)
    assert answer.status_code == 503
    assert answer.json()["error"] == {"code": "unavailable", "message": full, "field": ""}


class _UnreadableTables(SqliteTables):
    """A list of runs on a full disk."""

    def __init__(self, reason: str) -> None:
        super().__init__(None, keep=False, origin="")
        self._reason = reason
        # Every query fails now, as it does on a full disk.
        self.close()

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Fail."""
        raise StoreError(self._reason)
        yield


async def test_ready_says_why_the_process_is_not(engine: VirtualEngine) -> None:
    """The answer of /ready has the reason; in a single process it is a shard that does not serve yet."""
    api = make_api(facade_of(_Away()), engine.index, bytes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        answer = await client.get("/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not ready", "reason": "no broker has answered for 12 s"}
    engine.engine._shards.clear()
    assert engine.engine.unready == "shard 0 is recovering"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/v1/runs/unknown", 404, "not-found"),
        ("PATCH", "/v1/runs", 405, "method-not-allowed"),
        ("GET", "/e/dev", 405, "method-not-allowed"),
        ("GET", "/v1/runs?limit=x", 400, "invalid-input"),
        ("GET", "/v1/runs", 401, "unauthorized"),
        ("GET", "/metrics", 500, "internal"),
    ],
)
async def test_all_errors_have_one_shape(engine: VirtualEngine, method: str, path: str, status: int, code: str) -> None:
    """Unknown routes, wrong methods and internal errors are answered as all others: code, message, field."""

    def broken() -> bytes:
        raise ValueError("an internal secret")

    api = make_api(facade_of(engine.engine), engine.index, broken, keys=Keys(api="token"))
    transport = httpx.ASGITransport(app=api, raise_app_exceptions=False)
    key = {} if status == 401 else {"Authorization": "Bearer token"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=key) as client:
        answer = await client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "message", "field"}
    assert answer.json()["error"]["code"] == code
    assert "secret" not in answer.text
    assert ("allow" in answer.headers) == (status == 405)


DEEP = b'{"name":"go","data":{"a":' + b"[" * 200 + b"]" * 200 + b"}}"
NOT_UTF8 = b'{"name":"go","data":{"a":"\xff"}}'


@pytest.mark.parametrize("event", [DEEP, NOT_UTF8], ids=["deep", "utf-8"])
@pytest.mark.parametrize("batch", [False, True])
async def test_data_that_could_not_be_read_back_is_refused(engine: VirtualEngine, event: bytes, batch: bool) -> None:
    """Nesting beyond 100 levels and invalid UTF-8 get 400, alone or in a batch, and lists continue to work."""
    async with client_of(engine) as client:
        body = b"[" + event + b"]" if batch else event
        answer = await client.post("/e/dev", content=body)
        assert answer.status_code == 400, answer.text
        assert "message" in answer.json()["error"]
        bad_signal = await client.post("/v1/signals", content=b'{"signal":"s","data":"\xff"}')
        assert bad_signal.status_code == 400
        await client.post("/e/dev", json={"name": "go", "data": {"a": "deep enough"}})
        await engine.until_idle()
        assert len((await client.get("/v1/runs")).json()["runs"]) == 1
