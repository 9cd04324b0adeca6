"""The outbox of docs/client.md: one run for each order that was stored, wherever the service crashes."""

import asyncio
import importlib
import itertools
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stepstream import App, Context, SyncClient, on
from tests.client.serving import engine_served
from tests.docs.pages import DOCS, write_files

app = App("orders")


@app.function(on("shop/order.created"))
async def fulfil(ctx: Context) -> Any:
    """Return the order."""
    return ctx.event.data["order_id"]


class Crash(BaseException):
    """The process ends here."""


class Crashing:
    """Passes calls on to a database or a client, and crashes before or after one of them, which is counted down."""

    def __init__(self, of: Any, left: list[int]) -> None:
        self._of = of
        self._left = left

    def _point(self) -> None:
        self._left[0] -= 1
        if self._left[0] == 0:
            raise Crash

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self._point()
            result = getattr(self._of, name)(*arguments)
            self._point()
            return result

        return call

    def __enter__(self) -> None:
        self._of.__enter__()

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is None:
            self._point()
        self._of.__exit__(kind, *error)
        if kind is None:
            self._point()


def serve_order(outbox: Any, path: Path, engine: SyncClient, order: int, crash_at: int) -> bool:
    """Store an order and send the outbox in a process that crashes at a point; return whether it did."""
    left = [crash_at]
    # A connection that is closed without a commit loses its transaction, as a process that ends does.
    with closing(sqlite3.connect(path)) as db:
        db.executescript(outbox.TABLES)
        try:
            if not db.execute("SELECT 1 FROM orders WHERE id = ?", (order,)).fetchone():
                outbox.create_order(Crashing(db, left), order, 12)
            while outbox.send_outbox(Crashing(db, left), Crashing(engine, left)):
                pass
        except Crash:
            return True
    return False


@pytest.fixture
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module outbox.py of docs/client.md."""
    write_files(DOCS / "client.md", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("outbox")


@pytest.mark.slow
async def test_an_outbox_sends_once_wherever_it_crashes(outbox: Any, tmp_path: Path) -> None:
    """A crash at each point, and a second one at each point of the attempt that follows."""
    async with engine_served(app) as (engine, url):
        with SyncClient(url, api_key="api-key", event_key="event-key") as client:
            database = tmp_path / "orders.db"
            points = 0
            for order in itertools.count():
                crashed = await asyncio.to_thread(serve_order, outbox, database, client, order, order + 1)
                for again in (order % 3 + 1, 0):
                    await asyncio.to_thread(serve_order, outbox, database, client, order, again)
                if not crashed:
                    break
                points += 1
            await engine.until_idle()
            with closing(sqlite3.connect(database)) as db:
                stored = [id for (id,) in db.execute("SELECT id FROM orders ORDER BY id")]
                assert db.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
            assert points > 12
            assert sorted(str(run.output) for run in engine.runs("fulfil")) == sorted(map(str, stored))
            assert len(stored) == points + 1


@pytest.mark.slow
async def test_an_order_that_was_not_stored_is_not_sent(outbox: Any, tmp_path: Path) -> None:
    """A service that crashes before the commit and does not try again has started nothing for the order."""
    async with engine_served(app) as (engine, url):
        with SyncClient(url, api_key="api-key", event_key="event-key") as client:
            for order in range(1, 6):
                assert await asyncio.to_thread(serve_order, outbox, tmp_path / "orders.db", client, order, order)
            with closing(sqlite3.connect(tmp_path / "orders.db")) as db:
                assert db.execute("SELECT count(*) FROM orders").fetchone() == (0,)
            assert not engine.runs()
