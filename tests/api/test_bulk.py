"""Bulk operations over HTTP: preview, start, progress, cancellation, and the errors of bad requests."""

from collections.abc import AsyncIterator

import httpx
import pytest

from stepstream import App, Context, Event, on
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.contract.limits import BULK_RATE_MAX, BULK_RUNS_MAX, REASON_CHARACTERS_MAX
from stepstream.contract.operators.control import RerunRequested
from stepstream.engine.transition import HANDLERS
from stepstream.runtime import bulk
from stepstream.runtime.readmodel.search import search
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of

app = App("api")


@app.function(on("go"))
async def work(ctx: Context) -> object:
    """Return a value of the event."""
    return ctx.event.data.get("n")


@app.function(on("wait"))
async def wait(ctx: Context) -> None:
    """Wait for an hour."""
    await ctx.step.sleep("wait", "1h")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """An engine with one run that has ended and twelve that are open."""
    async with VirtualEngine(app) as made:
        await made.send(Event("go", {"n": 1}), *(Event("wait", {"n": n}) for n in range(12)))
        yield made


def client_of(engine: VirtualEngine, keys: Keys | None = None) -> httpx.AsyncClient:
    """Return a client of the API over an engine."""
    api = make_api(facade_of(engine.engine), engine.index, bytes, keys=keys, now_ms=lambda: engine.now_ms)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost")


async def test_a_preview_counts_runs_and_changes_nothing(engine: VirtualEngine) -> None:
    """It has the number of runs and ten of them, the newest first."""
    body = {"action": "cancel", "filter": "function:wait", "dry_run": True}
    async with client_of(engine) as client:
        answer = await client.post("/v1/bulk", json=body)
        assert answer.status_code == 200
        preview = answer.json()
        assert (preview["count"], preview["skipped"], len(preview["sample"])) == (12, 0, 10)
        ids = [run["run_id"] for run in preview["sample"]]
        assert ids == sorted(ids, reverse=True)
        assert (await client.get("/v1/bulk")).json() == {"operations": []}
    await engine.until_idle()
    assert len(engine.runs(status="running")) == 12


async def test_relative_times_count_by_the_clock_of_the_api(engine: VirtualEngine) -> None:
    """Those of a bulk operation, and those of a list of runs."""
    await engine.advance("30m")
    await engine.send(Event("wait", {"n": 12}))
    async with client_of(engine) as client:
        for since, count in (("-10m", 1), ("-2h", 13)):
            filter = f"function:wait after:{since}"
            preview = await client.post("/v1/bulk", json={"action": "cancel", "filter": filter, "dry_run": True})
            assert preview.json()["count"] == count
            assert len((await client.get("/v1/runs", params={"filter": filter})).json()["runs"]) == count


async def test_an_operation_is_started_shown_and_listed(engine: VirtualEngine) -> None:
    """The answer has its id; its progress says who started it, why, and the outcome of each run."""
    body = {"action": "cancel", "filter": "function:wait", "why": "a test", "request_id": "b1", "rate": 100}
    async with client_of(engine) as client:
        answers = [await client.post("/v1/bulk", json=body) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert {answer.json()["id"] for answer in answers} == {"b1"}
        await engine.advance("1s")
        shown = (await client.get("/v1/bulk/b1")).json()
        assert shown["outcomes"] == {"cancelled": 12}
        assert (shown["state"], shown["sent"], shown["total"]) == ("completed", 12, 12)
        assert (shown["action"], shown["by"], shown["why"]) == ("cancel", "local", "a test")
        assert (await client.get("/v1/bulk")).json() == {"operations": [shown]}
        assert (await client.post("/v1/bulk", json=body)).json() == {"id": "b1", "state": "completed", "count": 12}
        assert (await client.get("/v1/bulk/b2")).status_code == 404
        assert (await client.delete("/v1/bulk/b1")).json() == {"state": "completed"}
        assert (await client.delete("/v1/bulk/b2")).status_code == 404


async def test_an_operation_is_cancelled(engine: VirtualEngine) -> None:
    """The runs on which it did not act yet stay open, and it says who cancelled it."""
    body = {"action": "cancel", "filter": "function:wait", "rate": 1}
    async with client_of(engine, Keys("event", "secret")) as client:
        client.headers["Authorization"] = "Bearer secret"
        operation = (await client.post("/v1/bulk", json=body)).json()["id"]
        await engine.advance("2s")
        answer = await client.delete(f"/v1/bulk/{operation}")
        assert answer.json() == {"state": "cancelled"}
        await engine.advance("1h")
        shown = (await client.get(f"/v1/bulk/{operation}")).json()
        assert (shown["state"], shown["sent"], shown["ended_by"]) == ("cancelled", 3, "API key")
    assert len(engine.runs("wait", status="completed")) == 9


async def test_runs_are_rerun_with_other_data(engine: VirtualEngine) -> None:
    """A rerun by ids leaves out runs that are open."""
    ids = [run.run_id for run in engine.runs()]
    body = {"action": "rerun", "ids": ids, "data": {"n": 2}}
    async with client_of(engine) as client:
        preview = (await client.post("/v1/bulk", json={**body, "dry_run": True})).json()
        assert (preview["count"], preview["skipped"]) == (1, 12)
        await client.post("/v1/bulk", json=body)
    await engine.until_idle()
    assert [run.output for run in engine.runs("work")] == [1, 2]


async def test_runs_are_paused_and_resumed(engine: VirtualEngine) -> None:
    """A pause may have an end; a resume leaves out the runs that are not paused."""
    ids = [run.run_id for run in engine.runs("wait")]
    body = {"action": "pause", "ids": ids[:5], "until": "2h", "why": "a test", "request_id": "p"}
    async with client_of(engine) as client:
        await client.post("/v1/bulk", json=body)
        await engine.until_idle()
        shown = (await client.get("/v1/bulk/p")).json()
        assert (shown["outcomes"], shown["until"]) == ({"paused": 5}, engine.now_ms + 7_200_000)
        preview = (await client.post("/v1/bulk", json={"action": "resume", "ids": ids, "dry_run": True})).json()
        assert (preview["count"], preview["skipped"]) == (5, 7)
        await client.post("/v1/bulk", json={"action": "resume", "filter": "function:wait", "request_id": "r"})
        await engine.until_idle()
        assert (await client.get("/v1/bulk/r")).json()["outcomes"] == {"resumed": 5}
    await engine.advance("1h")
    assert len(engine.runs("wait", status="completed")) == 12


async def test_an_id_belongs_to_one_action(engine: VirtualEngine) -> None:
    """The id of an operation with another action is refused, so that no one takes that one for the requested one."""
    body = {"action": "cancel", "filter": "function:wait", "request_id": "b", "rate": 1}
    async with client_of(engine) as client:
        assert (await client.post("/v1/bulk", json=body)).status_code == 202
        other = await client.post("/v1/bulk", json={**body, "action": "pause"})
        assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
        assert "bulk operation b exists, and is to cancel" in other.json()["error"]["message"]
        assert (await client.delete("/v1/bulk/" + "x" * 5_000)).status_code == 404
    assert not [run for run in engine.runs("wait") if run.paused]


async def test_a_preview_counts_runs_that_were_rerun(engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the runs that a search examines, it says that there may be more."""
    body = {"action": "rerun", "filter": "function:work"}
    preview = {**body, "dry_run": True}
    async with client_of(engine) as client:
        await client.post("/v1/bulk", json=body)
        await engine.until_idle()
        shown = (await client.post("/v1/bulk", json=preview)).json()
        assert (shown["count"], shown["rerun_before"], shown["rerun_before_exact"]) == (2, 1, True)
        monkeypatch.setattr(search, "EXAMINED_MAX", 1)
        shown = (await client.post("/v1/bulk", json=preview)).json()
        assert (shown["rerun_before"], shown["rerun_before_exact"]) == (1, False)
        shown = (await client.post("/v1/bulk", json={**preview, "filter": "function:work rerun:false"})).json()
        assert "rerun_before" not in shown


async def test_open_operations_are_bounded(engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stores its runs; once one has ended, another may start."""
    monkeypatch.setattr(bulk, "BULK_OPEN_MAX", 2)
    body = {"action": "cancel", "filter": "function:wait", "rate": 1}
    async with client_of(engine) as client:
        (first, _) = [(await client.post("/v1/bulk", json=body)).json()["id"] for _ in range(2)]
        refused = await client.post("/v1/bulk", json=body)
        assert (refused.status_code, "2 bulk operations are open" in refused.json()["error"]["message"]) == (409, True)
        await client.delete(f"/v1/bulk/{first}")
        await engine.until_idle()
        assert (await client.post("/v1/bulk", json=body)).status_code == 202


async def test_more_ids_than_an_operation_may_have_are_refused(engine: VirtualEngine) -> None:
    """Before any of them is read."""
    async with client_of(engine) as client:
        answer = await client.post("/v1/bulk", json={"action": "cancel", "ids": ["x"] * (BULK_RUNS_MAX + 1)})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "ids: expected at most 100,000 ids")


async def test_runs_that_failed_are_named(engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcome of a run whose request cannot be applied is a failure, with the reason."""
    (ended,) = [run.run_id for run in engine.runs("work")]

    def broken(*_: object) -> None:
        raise ValueError("a <bug>")

    monkeypatch.setitem(HANDLERS, RerunRequested, broken)
    async with client_of(engine) as client:
        await client.post("/v1/bulk", json={"action": "rerun", "ids": [ended], "request_id": "b"})
        await engine.until_idle()
        shown = (await client.get("/v1/bulk/b")).json()
    assert (shown["state"], shown["outcomes"]) == ("completed", {"failed": 1})
    assert shown["failures"] == [{"run_id": ended, "reason": "ValueError: a <bug>"}]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{", "body"),
        ('{"action": "delete", "filter": "status:failed"}', "body"),
        ('{"action": "cancel", "filters": "status:failed"}', "body"),
        ('{"action": "cancel"}', "filter"),
        ('{"action": "cancel", "filter": ""}', "filter"),
        ('{"action": "cancel", "filter": "staus:failed"}', "filter"),
        ('{"action": "cancel", "filter": "status:failed", "ids": ["x"]}', "filter"),
        ('{"action": "cancel", "ids": ["x"]}', "ids"),
        (f'{{"action": "cancel", "ids": ["{"0" * 26}"]}}', "ids"),
        ('{"action": "cancel", "filter": "function:none"}', "filter"),
        ('{"action": "cancel", "filter": "function:wait", "cap": 11}', "cap"),
        ('{"action": "cancel", "filter": "function:wait", "cap": 0}', "cap"),
        (f'{{"action": "cancel", "filter": "function:wait", "rate": {BULK_RATE_MAX + 1}}}', "rate"),
        ('{"action": "cancel", "filter": "function:wait", "from_failure": true}', "from_failure"),
        ('{"action": "cancel", "filter": "function:wait", "data": {}}', "data"),
        ('{"action": "rerun", "filter": "function:work", "data": []}', "data"),
        ('{"action": "resume", "filter": "function:wait", "until": "2h"}', "until"),
        ('{"action": "pause", "filter": "function:wait", "until": "soon"}', "until"),
        ('{"action": "resume", "filter": "function:wait"}', "filter"),
        ('{"action": "cancel", "filter": "function:wait", "request_id": "../x"}', "request_id"),
        (f'{{"action": "cancel", "filter": "function:wait", "why": "{"x" * (REASON_CHARACTERS_MAX + 1)}"}}', "why"),
    ],
)
async def test_a_bad_request_names_the_field(engine: VirtualEngine, body: str, field: str) -> None:
    """It starts nothing."""
    async with client_of(engine) as client:
        answer = await client.post("/v1/bulk", content=body)
    assert (answer.status_code // 100, answer.json()["error"]["field"]) == (4, field), answer.text
    await engine.until_idle()
    assert len(engine.runs(status="running")) == 12
