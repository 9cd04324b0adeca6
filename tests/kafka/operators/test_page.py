"""The page of engines on real Kafka: workers and shards, dead letters and their bytes, and the live list of runs."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from stepstream.api.pages.parts.forms import FORM_TOKEN
from stepstream.contract.topics import EVENTS, INBOX
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import NewRecord
from tests.api.pages.browsing import Browser, Page
from tests.api.pages.streaming import Message, message_of, source_of
from tests.kafka.cluster.fleet import APPS, Fleet
from tests.kafka.cluster.history import until_registered
from tests.kafka.cluster.observed import Observed
from tests.polling import WAIT_S_MAX, until

pytestmark = [pytest.mark.kafka, pytest.mark.long]
NAMESPACE, SHARDS = "page", 2
POLL_S = 0.2
APP = APPS / "operators" / "desk_app.py"
KEYS = {"STEPSTREAM_API_KEY": "api-key", "STEPSTREAM_EVENT_KEY": "event-key"}
WORKERS, SHARD_TABLE = "[aria-label='Table of workers'] tbody tr", "[aria-label='Table of shards'] tbody tr"
SIGNAL = "form[aria-label^='Send the signal']"


@dataclass(frozen=True, slots=True)
class Desk:
    """Two engines with standbys and a worker, which are ready."""

    cluster: Cluster
    urls: Sequence[str]

    async def send(self, *records: NewRecord) -> None:
        """Write records, as any producer may."""
        producer = await self.cluster.producer()
        await producer.send(records)
        await producer.close()


@pytest.fixture(scope="module")
def desk(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A cluster that serves pages."""
    folder = tmp_path_factory.mktemp("page")
    cluster = Cluster(KafkaSettings(bootstrap, NAMESPACE))
    with Fleet(bootstrap, NAMESPACE, folder, APP, variables=KEYS) as fleet, Observed(fleet) as observed:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "desk", "--app", "desk.gpu")
        engines = [fleet.add_engine("--standby") for _ in range(2)]
        fleet.add_worker("--metrics-port", "0")
        until(lambda: observed.answers("/ready") == {200})
        asyncio.run(until_registered(cluster, SHARDS))
        yield Desk(cluster, [observed.url(engine) for engine in engines])


@pytest.fixture
async def browsers(desk: Desk) -> AsyncIterator[Sequence[Browser]]:
    """A browser of the page of each engine, in which a person has logged in."""
    found = [Browser(host=url) for url in desk.urls]
    for browser in found:
        browser.client.timeout = WAIT_S_MAX
        page = await browser.open("/ui/runs")
        assert page.status == 401
        page = await browser.submit(page, "main form", key="api-key", user="ann")
        assert (page.status, page.path) == (200, "/ui/runs")
    yield found
    for browser in found:
        await browser.client.aclose()


async def opened(browser: Browser, path: str, holds: Callable[[Page], bool] = lambda page: page.status == 200) -> Page:
    """Return a page once a condition holds; a loaded engine may answer that its broker is too slow."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not holds(page := await browser.open(path)):
        assert time.monotonic() < deadline, page.text
        await asyncio.sleep(POLL_S)
    return page


def lists_a_waiting_run(page: Page) -> bool:
    """Return whether a run of the list waits."""
    return any("waiting" in state for state in page.texts("td .state"))


def is_idle(page: Page) -> bool:
    """Return whether an engine has measured that nothing is left to do."""
    own = [row for row in page.texts(SHARD_TABLE) if "(this engine)" in row]
    return "The list of runs is up to date." in page.text and all(row.endswith("serves 0 rows 0 0.0 s") for row in own)


def agree(pages: Sequence[Page]) -> bool:
    """Return whether one engine says of each shard that it serves it, and the other one that the first one does.

    A shard moves to an engine that has joined, and an engine knows by heartbeats what another one serves.
    """
    for of_shard in zip(*(page.texts(SHARD_TABLE) for page in pages), strict=True):
        other, own = sorted(of_shard, key=lambda row: "(this engine)" in row)
        owner, _, is_own = own.partition(" (this engine)")
        if not is_own or not other.startswith(f"{owner} serves"):
            return False
    return True


async def test_each_engine_shows_workers_and_shards(browsers: Sequence[Browser]) -> None:
    """The running worker and the queue without one; all shards as served, and which of the two engines serves each."""
    deadline, pages = time.monotonic() + WAIT_S_MAX, list[Page]()
    while not pages or not agree(pages):
        assert time.monotonic() < deadline, [page.text for page in pages]
        pages = [
            await opened(each, "/ui/workers", lambda page: is_idle(page) and len(page.all(WORKERS)) == 2)
            for each in browsers
        ]
    for page in pages:
        app, queue = page.texts(WORKERS)
        assert re.match(r"desk 1 which stepstream-\S+ on [\d.:]+ ", app)
        assert queue.startswith("desk.gpu none; start one with stepstream worker FILE --queue gpu ")
        assert "not ready" not in page.text
    shards = [page.texts(SHARD_TABLE) for page in pages]
    for at, rows in enumerate(zip(*shards, strict=True)):
        other, own = sorted(rows, key=lambda row: "(this engine)" in row)
        owner = other.split()[1]
        assert owner.rpartition("-")[0] in ("engine-0", "engine-1")
        assert own.startswith(f"{at} {owner} (this engine) serves")


POISON = {EVENTS: b"\xff\x00 not JSON", INBOX: b'{"type": "<nonsense>"}'}


async def test_dead_letters_are_shown_and_redriven(desk: Desk, browsers: Sequence[Browser]) -> None:
    """Each engine shows the origin, the reason and the bytes; the form sends the record again, once, in a name."""
    records = [NewRecord(topic, 1, b"k", value, (("trace", b"t-1"),)) for topic, value in POISON.items()]
    await desk.send(*records)
    first, second = browsers
    listed = await opened(first, "/ui/dead-letters", lambda page: len(page.all("tbody tr")) == len(POISON))
    assert all(listed.texts("tbody .error"))
    rows = {row.split()[3].partition("-")[0]: row for row in listed.texts("tbody tr")}
    assert rows.keys() == POISON.keys()
    for topic, value in POISON.items():
        assert f" {topic}-1-" in rows[topic]
        assert f" {len(value)} bytes" in rows[topic]
        place = rows[topic].split()[0]
        page = await opened(second, f"/ui/dead-letter?place={place}")
        key, shown, trace = page.texts("pre")
        assert (key, trace) == ("k", "t-1")
        assert shown == (value.decode() if topic == INBOX else f"00000000 {value.hex(' ')} .. not JSON")
        assert page.texts(".note")[0] in rows[topic]
        await redriven_once(first, second, page, place)
    again = await opened(first, "/ui/dead-letters", lambda page: len(page.all("tbody tr")) == 2 * len(POISON))
    failed = [link.text() for link in again.all("tbody td:first-child a")][: len(POISON)]
    for place in failed:
        assert "Redriven before 1 time" in (await opened(first, f"/ui/dead-letter?place={place}")).text


async def redriven_once(first: Browser, second: Browser, page: Page, place: str) -> None:
    """Send a dead letter again by its form on both engines at the same time; one does so, and the other one says so."""
    path = f"/ui/dead-letter?place={place}"
    forged = await second.client.post(path, data={FORM_TOKEN: "x"}, headers={"Origin": second.host})
    assert (forged.status_code, "earlier session" in forged.text) == (403, True)
    other = await opened(first, path)
    pressed = [(first, other), (second, page), (second, page)]
    answers = await asyncio.gather(*(browser.submit(shown, "main form") for browser, shown in pressed))
    done, *late = sorted(answers, key=lambda answer: answer.status)
    assert [done.status, *(each.status for each in late)] == [200, 409, 409]
    assert "The record was sent again." in done.text
    assert not done.all("main form")
    assert all(f"dead letter {place} was " in each.text for each in late)
    await opened(first, path, lambda page: "Redriven by ann" in page.text)
    again = await first.submit(other, "main form")
    assert (again.status, f"dead letter {place} was redriven before" in again.text) == (409, True)
    assert not (await opened(first, path)).all("main form")


async def messages(answer: httpx.Response) -> AsyncIterator[Message]:
    """Yield the messages of a stream that have an id."""
    lines: list[str] = []
    async for line in answer.aiter_lines():
        if line:
            lines.append(line)
        else:
            if lines and lines[0].startswith("id: "):
                yield message_of("\n".join(lines) + "\n\n")
            lines.clear()


@asynccontextmanager
async def streaming(browser: Browser, page: Page) -> AsyncIterator[AsyncIterator[Message]]:
    """Open the stream of a page for a block."""
    async with asyncio.timeout(WAIT_S_MAX), browser.client.stream("GET", source_of(page), timeout=None) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield messages(answer)


async def test_the_list_of_runs_follows_an_end(desk: Desk, browsers: Sequence[Browser]) -> None:
    """A person answers on one engine; the streams of both send the row as completed, and the new numbers."""
    await desk.send(NewRecord(EVENTS, 0, b"", json.dumps({"name": "desk/go", "id": "e1", "data": {}}).encode()))
    first, second = browsers
    listed = [await opened(each, "/ui/runs", lists_a_waiting_run) for each in browsers]
    (row,) = listed[0].all("tbody tr")
    changed = row.attributes["id"] or ""
    path = f"/ui/runs/{changed.removeprefix('run-')}"
    run = await opened(first, path, lambda page: bool(page.all(SIGNAL)))
    async with streaming(first, listed[0]) as one, streaming(second, listed[1]) as two:
        # All that an older page may lack comes first.
        assert "running or waiting 1" in (await anext(one)).texts()["statuses"]
        assert "running or waiting 1" in (await anext(two)).texts()["statuses"]
        await first.submit(run, SIGNAL, data='"yes"')
        for stream in (one, two):
            async for message in stream:
                if "completed" in (parts := message.texts()).get(changed, ""):
                    break
            assert "running or waiting 0 completed 1" in parts["statuses"]
            assert parts["pages"].startswith("Runs Waiting")
