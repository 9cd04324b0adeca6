"""The API answers with large runs without much work in Python, which would hold up the shards of the process."""

import sys
from types import FrameType

import httpx

from stepstream.api.http import make_api
from stepstream.contract.codec import EMPTY_OBJECT, Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import RunBegan, RunEnded
from stepstream.contract.kinds import RunStatus
from stepstream.contract.topics import HISTORY
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of

RUN_ID = "01JV0000000000000000000000"
NUMBERS = [number / 7 for number in range(50_000)]
EVENTS = 1_000
# The requests take about 12,000; one for each number would be 50,000.
CALLS_MAX = 20_000


async def test_large_answers_are_made_at_once() -> None:
    """A result of many numbers is shown whole; a list has the first events of a large batch, and their number."""
    index = RunIndex()
    events = tuple(EventRecord("go", EMPTY_OBJECT, f"event-{number}") for number in range(EVENTS))
    history = [
        RunBegan(RUN_ID, 1, 1_000, "work", "app", 1_000, events),
        RunEnded(RUN_ID, 2, 1_000, RunStatus.COMPLETED, "work", Raw(encode(NUMBERS))),
    ]
    index.fold([LogRecord(HISTORY, 0, at, b"k", encode(entry), (), 1_000) for at, entry in enumerate(history)])
    calls = 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    async with VirtualEngine() as engine:
        api = make_api(facade_of(engine.engine), index, Metrics("engine").text)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
            sys.setprofile(count)
            try:
                shown = await client.get(f"/v1/runs/{RUN_ID}")
                listed = await client.get("/v1/runs")
            finally:
                sys.setprofile(None)
    assert calls < CALLS_MAX
    assert shown.json()["output"] == NUMBERS
    assert len(shown.json()["events"]) == EVENTS
    (run,) = listed.json()["runs"]
    assert ([event["id"] for event in run["events"]], run["event_count"]) == ([e.id for e in events[:10]], EVENTS)
