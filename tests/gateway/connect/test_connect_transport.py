"""The calls of apps share the connections of a process, and none of them takes all."""

import asyncio
from typing import Any

import pytest

from stepstream.gateway.connect import connect_transport
from stepstream.gateway.connect.connect_transport import ConnectTransport
from stepstream.gateway.connect.worker_calls import WorkerCalls
from stepstream.gateway.runs.client import POOL
from tests.fakes.waiting import iterate, until
from tests.gateway.connect.worker import NoHttp


async def test_app_that_hangs_does_not_hold_up_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each app has a number of calls over HTTP, also if several are at one host."""
    monkeypatch.setattr(connect_transport, "HTTP_CALLS_MAX", 2)
    called = list[str]()

    class Hanging(NoHttp):
        async def post(self, url: str, _headers: Any, _body: bytes) -> Any:
            called.append(url)
            if "hangs" in url:
                await asyncio.get_running_loop().create_future()

    http, calls = Hanging(), WorkerCalls()
    hanging, other = ConnectTransport("hangs", http, calls), ConnectTransport("other", http, calls)
    tasks = [asyncio.ensure_future(hanging.post(f"http://host/hangs/{number}", {}, b"")) for number in range(4)]
    await iterate()
    await other.post("http://host/other", {}, b"")
    assert called == ["http://host/hangs/0", "http://host/hangs/1", "http://host/other"]
    tasks.pop(0).cancel()
    await until(lambda: called[-1] == "http://host/hangs/2")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert "limit_per_host" not in POOL
