"""An engine whose database of runs is down: pages and queries about runs answer 503, and runs are served."""

from collections.abc import AsyncIterator

import httpx
import pytest

from stepstream import App, Context, on
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.postgresql_tables import PostgresqlTables
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of

app = App("shop")
# Nothing listens there.
URL = "postgresql://stepstream:s3cret@127.0.0.1:1/runs"
REASON = "the read model at 127.0.0.1:1/runs cannot be used (connection failed: "


@app.function(on("order"))
async def fulfil(_ctx: Context) -> str:
    """End at once."""
    return "done"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of an engine that serves runs and has lost its database."""
    index = RunIndex(PostgresqlTables(URL))
    async with VirtualEngine(app) as engine:
        api = make_api(facade_of(engine.engine), index, bytes, keys=Keys())
        transport = httpx.ASGITransport(api)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client
    index.close()


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/runs/01M8B04JSN1YWH07FVN5Q68FNZ", "/v1/errors"])
async def test_queries_of_runs_say_that_the_database_is_down(path: str, client: httpx.AsyncClient) -> None:
    """The answer has the reason, and neither the user nor the password."""
    answer = await client.get(path)
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert error["code"] == "unavailable"
    assert error["message"].startswith(REASON)
    assert "s3cret" not in answer.text


@pytest.mark.parametrize("path", ["/ui/runs", "/ui/functions", "/ui/errors", "/ui/events", "/ui/waiting"])
async def test_pages_say_that_the_database_is_down(path: str, client: httpx.AsyncClient) -> None:
    """As a page, not as a broken one."""
    answer = await client.get(path)
    assert answer.status_code == 503
    assert REASON in answer.text
    assert "s3cret" not in answer.text


async def test_runs_are_served_without_the_database(client: httpx.AsyncClient) -> None:
    """Events are accepted, and the process is ready."""
    answer = await client.post("/e/any", json={"name": "order", "data": {}})
    assert answer.status_code == 200
    assert (await client.get("/ready")).status_code == 200
