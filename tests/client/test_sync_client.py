"""The synchronous client: the methods of the asynchronous one, in threads and after a fork."""

import asyncio
import importlib
import inspect
import os
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.test import Client as Browser

from stepstream import Client, EngineUnreachable, Event, RunFailed, SyncClient
from stepstream.contract.errors import InvalidInput
from tests.client.serving import engine_served
from tests.client.shop import Receipt, add_up, app, approve, charge
from tests.docs.pages import DOCS, write_files

OPTIONS = {"api_key": "api-key", "event_key": "event-key"}
pytestmark = pytest.mark.slow


def test_both_clients_have_the_same_methods_and_arguments() -> None:
    """A method that one gains must be added to the other."""

    def shape(kind: type[Any]) -> dict[str, list[str]]:
        public = {name: member for name, member in inspect.getmembers(kind) if not name.startswith("_")}
        return {name: list(inspect.signature(each).parameters) for name, each in public.items() if callable(each)}

    asynchronous = shape(Client)
    del asynchronous["open"]
    assert shape(SyncClient) == asynchronous
    constructor = {name: list(inspect.signature(kind).parameters) for name, kind in (("a", Client), ("s", SyncClient))}
    assert constructor["a"] == [*constructor["s"], "pause"]


def use_all(client: SyncClient) -> None:
    """Call each method."""
    assert client.send("order", {"total": 1}, id="o-1") == "o-1"
    assert len(client.send(Event("order"), Event("order"))) == 2
    assert client.invoke(charge, {"total": 4}, request_id="r") == Receipt(8)
    handle = client.start(charge, {"total": 4}, request_id="r")
    assert handle.result() == Receipt(8)
    assert [message.data for message in handle.stream("progress")] == [8]
    for message in client.stream(handle.run_id):
        assert message.data == 8
        break
    with pytest.raises(RunFailed, match="sold out"):
        client.invoke("price-order", {"order_id": 9})
    assert len(list(client.runs("function:charge"))) == 4
    assert next(client.runs("function:charge")).function == "charge"
    assert "charge" in [function.id for function in client.functions()]
    receipt = client.signal_with_start("approve/1", "yes", function=approve, start={"order": 1})
    assert client.wait(receipt.run_id).output == "yes"
    assert not client.signal("approve/1")
    adding = client.start(add_up)
    assert adding.request("add up", 2, request_id="a") == 2
    assert client.request(adding.run_id, "add up", 2, request_id="a") == 2
    assert client.rerun(handle.run_id) != handle.run_id
    open_run = client.start(approve, {"order": 2})
    client.pause(open_run.run_id, why="bank is down")
    assert client.resume(open_run.run_id)
    assert open_run.cancel("test")
    assert client.handle(open_run.run_id).run().status == "cancelled"
    assert client.cancel(open_run.run_id)
    assert client.run(open_run.run_id).function == "approve"


async def test_all_methods_work_in_threads() -> None:
    """Several threads share a client; after `close` it opens again."""
    async with engine_served(app) as (_, url):
        with SyncClient(url, **OPTIONS) as client:
            await asyncio.to_thread(use_all, client)
            calls = [asyncio.to_thread(client.invoke, charge, {"total": number}) for number in range(8)]
            assert await asyncio.gather(*calls) == [Receipt(number * 2) for number in range(8)]
            client.close()
            assert await asyncio.to_thread(client.invoke, "charge", {"total": 1}) == {"total": 2}


async def test_a_forked_process_connects_again() -> None:
    """A server makes the client, uses it, and forks its workers."""
    async with engine_served(app) as (_, url):
        with SyncClient(url, **OPTIONS) as client:
            assert await asyncio.to_thread(client.invoke, "charge", {"total": 1}) == {"total": 2}

            def forked() -> int:
                if child := os.fork():
                    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                done = 1
                try:
                    done = 0 if client.invoke("charge", {"total": 2}) == {"total": 4} else 2
                finally:
                    os._exit(done)

            assert await asyncio.to_thread(forked) == 0


def test_an_error_comes_to_the_caller() -> None:
    """Wrong arguments are refused at once; an address without an engine is an error of the call."""
    with pytest.raises(InvalidInput, match="api_key: use ASCII"):
        SyncClient(api_key="a b")
    with SyncClient("http://127.0.0.1:9") as client, pytest.raises(EngineUnreachable, match="no answer"):
        client.run("x")
    SyncClient().close()


async def test_the_django_example_sends_and_invokes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The views of docs/client.md, through Django's own client."""
    write_files(DOCS / "client.md", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    settings.configure(ROOT_URLCONF="desk_django", ALLOWED_HOSTS=["*"], SECRET_KEY="test")  # noqa: S106
    django.setup()
    async with engine_served(app) as (engine, url):
        for name, value in (("URL", url), ("API_KEY", "api-key"), ("EVENT_KEY", "event-key")):
            monkeypatch.setenv(f"STEPSTREAM_{name}", value)
        views = importlib.import_module("desk_django")
        with views.engine:
            browser = Browser()
            sent = await asyncio.to_thread(browser.post, "/orders/7?total=12")
            assert (sent.status_code, sent.json()) == (202, {"event_id": "order-7"})
            priced = await asyncio.to_thread(browser.get, "/orders/7/price")
            assert (priced.status_code, priced.json()) == (200, {"price": 12})
            refused = await asyncio.to_thread(browser.get, "/orders/8/price")
            assert (refused.status_code, refused.json()) == (409, {"error": "sold out"})
        await engine.until_idle()
        assert len(engine.runs("price-order")) == 2
